import Foundation
import TestSupport
import Testing

@testable import Mail

@Suite("DKIM")
struct DKIMTests {
    // RFC 8463 appendix A.2 and A.3.
    private static let rfcRecords = [
        "brisbane._domainkey.football.example.com":
            "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "test._domainkey.football.example.com": """
        v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY\
        /J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kr\
        yOTIKT+l/K4w3QIDAQAB
        """,
    ]

    private static let rfcMessage = """
        DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
         d=football.example.com; i=@football.example.com;
         q=dns/txt; s=brisbane; t=1528637909; h=from : to :
         subject : date : message-id : from : subject : date;
         bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
         b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
         Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
        DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
         d=football.example.com; i=@football.example.com;
         q=dns/txt; s=test; t=1528637909; h=from : to : subject :
         date : message-id : from : subject : date;
         bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
         b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
         DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
         dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
        From: Joe SixPack <joe@football.example.com>
        To: Suzie Q <suzie@shopping.example.net>
        Subject: Is dinner ready?
        Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
        Message-ID: <20030712040037.46341.5F8J@football.example.com>

        Hi.

        We lost the game.  Are you hungry yet?

        Joe.

        """

    private static let now = Date(timeIntervalSince1970: 1_800_000_000)

    private func verdicts(
        _ message: [UInt8],
        _ records: [String: String],
        now: Date = now
    ) async -> [DKIMVerdict] {
        await DKIM.verify(message, now: now) { name in records[name].map { [$0] } ?? [] }
    }

    private func signed(_ message: String, _ signers: [DKIM.Signer]) throws -> [UInt8] {
        let bytes = OutboundCorpora.withCRLF(message)
        return try DKIM.sign(bytes, signers: signers, at: Self.now) + bytes
    }

    private func signers() throws -> (signers: [DKIM.Signer], records: [String: String]) {
        let rsa = try DKIMKey.generate(.rsa)
        let ed = try DKIMKey.generate(.ed25519)
        return (
            [
                DKIM.Signer(domain: "example.com", selector: "commune", key: rsa),
                DKIM.Signer(domain: "example.com", selector: "commune-ed", key: ed),
            ],
            [
                "commune._domainkey.example.com": try rsa.publicRecord,
                "commune-ed._domainkey.example.com": try ed.publicRecord,
            ]
        )
    }

    @Test("the message of RFC 8463 appendix A passes with both signatures")
    func rfc8463() async {
        let verdicts = await verdicts(OutboundCorpora.withCRLF(Self.rfcMessage), Self.rfcRecords)
        #expect(verdicts.map(\.result) == [.pass, .pass])
        #expect(verdicts.map(\.algorithm) == ["ed25519-sha256", "rsa-sha256"])
        #expect(verdicts.map(\.selector) == ["brisbane", "test"])
        #expect(
            verdicts.allSatisfy {
                $0.domain == "football.example.com" && $0.coversWholeBody && $0.reason == nil
            }
        )
    }

    @Test(
        "what a change does to a signature",
        arguments: [
            ("Hi.", "Ho.", DKIMVerdict.Result.fail, "body has changed"),
            ("Is dinner", "Is lunch", .fail, "signature does not match"),
            ("From: Joe", "From: Eve <eve@evil.example>\nFrom: Joe", .fail, "signature does not match"),
            ("Message-ID:", "Subject: another\nMessage-ID:", .fail, "signature does not match"),
            ("game.  Are", "game. Are", .pass, nil),
            ("Joe.\n", "Joe.\n\n\n", .pass, nil),
            ("Subject: Is dinner ready?", "SUBJECT:  Is\n dinner ready?  ", .pass, nil),
            (" s=brisbane", " s=nobody", .permerror, "no key at nobody._domainkey.football.example.com"),
            ("a=ed25519-sha256", "a=rsa-sha256", .permerror, "no key for the algorithm"),
            ("a=ed25519-sha256", "a=rsa-sha1", .permerror, "algorithm rsa-sha1 is not accepted"),
            ("v=1; a=ed", "v=2; a=ed", .permerror, "unknown version"),
            ("i=@football", "i=@soccer", .permerror, "i= lies outside d="),
            ("q=dns/txt; s=brisbane", "q=http; s=brisbane", .permerror, "q= names no known method"),
            ("v=1; a=ed", "v=1; v=1; a=ed", .permerror, "signature field is malformed"),
            (
                " t=1528637909; h=from : to :\n subject", " t=9528637909; h=from : to :\n subject",
                .permerror, "signature is from the future"
            ),
            (
                " t=1528637909; h=from : to :\n subject", " t=1; x=2; h=from : to :\n subject", .fail,
                "signature has expired"
            ),
            (
                " t=1528637909; h=from : to :\n subject", " t=1; l=1000; h=from : to :\n subject", .permerror,
                "l= is longer than the body"
            ),
            (
                "c=relaxed/relaxed;\n d=football.example.com; i=@football.example.com;\n q=dns/txt; s=brisbane",
                "c=odd;\n d=football.example.com; i=@football.example.com;\n q=dns/txt; s=brisbane",
                .permerror, "c= names no known form"
            ),
        ] as [(String, String, DKIMVerdict.Result, String?)]
    )
    func changes(_ old: String, _ new: String, _ result: DKIMVerdict.Result, _ reason: String?) async throws {
        let range = try #require(Self.rfcMessage.range(of: old))
        let message = Self.rfcMessage.replacingCharacters(in: range, with: new)
        let verdict = try #require(await verdicts(OutboundCorpora.withCRLF(message), Self.rfcRecords).first)
        #expect(verdict.result == result)
        #expect(verdict.reason == reason)
    }

    @Test(
        "what a key record does to a signature",
        arguments: [
            ("v=DKIM1; k=ed25519; p=", DKIMVerdict.Result.permerror, "key is revoked"),
            ("k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo", .pass, nil),
            (
                "v=DKIM2; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", .permerror,
                "key record has an unknown version"
            ),
            (
                "v=DKIM1; h=sha1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", .permerror,
                "key record forbids sha256"
            ),
            (
                "v=DKIM1; s=other; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", .permerror,
                "key record is not for email"
            ),
            ("v=DKIM1; t=s; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", .pass, nil),
            (
                "v=DKIM1; t=y; k=ed25519; p=yi50DjK5O9pqbFpNHklsv9lqaS0ArSYu02qp1S0DW1Y=", .neutral,
                "signature does not match"
            ),
            (
                "v=DKIM1; k=ed25519; p=yi50DjK5O9pqbFpNHklsv9lqaS0ArSYu02qp1S0DW1Y=", .fail,
                "signature does not match"
            ),
            ("v=DKIM1; k=ed25519; p=xxxx", .permerror, "key record holds no Ed25519 key"),
            ("v=DKIM1; k=rsa; p=xxxx", .permerror, "key record holds no RSA key"),
            ("v=DKIM1; k=ec; p=xxxx", .permerror, "key record has an unknown kind of key"),
            ("v=DKIM1; k=ed25519", .permerror, "key record has no key"),
            ("nonsense", .permerror, "key record is malformed"),
        ] as [(String, DKIMVerdict.Result, String?)]
    )
    func records(_ record: String, _ result: DKIMVerdict.Result, _ reason: String?) async throws {
        var records = Self.rfcRecords
        records["brisbane._domainkey.football.example.com"] = record
        let verdict = try #require(await verdicts(OutboundCorpora.withCRLF(Self.rfcMessage), records).first)
        #expect(verdict.result == result)
        #expect(verdict.reason == reason)
    }

    @Test("DNS that does not answer is a temporary error of that signature alone")
    func temporary() async {
        struct NoAnswer: Error {}
        let verdicts = await DKIM.verify(OutboundCorpora.withCRLF(Self.rfcMessage), now: Self.now) { name in
            guard name.hasPrefix("test.") else { throw NoAnswer() }
            return [Self.rfcRecords[name] ?? ""]
        }
        #expect(verdicts.map(\.result) == [.temperror, .pass])
    }

    @Test("of several records the one that fits counts")
    func severalRecords() async {
        let verdicts = await DKIM.verify(OutboundCorpora.withCRLF(Self.rfcMessage), now: Self.now) { _ in
            ["v=spf1 -all"] + Self.rfcRecords.values.sorted()
        }
        #expect(verdicts.map(\.result) == [.pass, .pass])
    }

    @Test("both signatures of a signed message pass, and each signed field is protected")
    func roundTrip() async throws {
        let (signers, records) = try signers()
        let message = """
            From: Jörg <j@example.com>
            To: a@example.org
            Cc: c@example.org
            Subject:  Folded
             and   spaced\t
            Date: Fri, 11 Jul 2003 21:00:37 -0700
            Message-ID: <1@example.com>
            Reply-To: r@example.com
            List-Unsubscribe: <https://example.com/u>
            List-Unsubscribe-Post: List-Unsubscribe=One-Click
            X-Free: not signed

            Body  with \t blanks
            .
            and empty lines


            """
        let signed = try signed(message, signers)
        #expect(await verdicts(signed, records).map(\.result) == [.pass, .pass])
        let text = String(decoding: signed, as: UTF8.self)
        #expect(text.split(separator: "\r\n").allSatisfy { $0.utf8.count <= 78 })
        #expect(!text.contains("l="))
        for (old, new) in [
            ("c@example.org", "d@example.org"), ("r@example.com", "q@example.com"), ("One-Click", "Two"),
            ("example.com/u", "example.com/v"), ("<1@", "<2@"), ("Folded", "folded"),
            ("X-Free", "From: x@example.net\r\nX-Free"), ("empty lines", "lines"),
        ] {
            let changed = Array(text.replacing(old, with: new, maxReplacements: 1).utf8)
            #expect(await verdicts(changed, records).allSatisfy { $0.result == .fail }, "\(old)")
        }
        let harmless = Array(text.replacing("not signed", with: "changed").utf8)
        #expect(await verdicts(harmless, records).map(\.result) == [.pass, .pass])
    }

    @Test(
        "bodies without content, without an end and with odd ends are signed alike",
        arguments: ["", "\n", "\n\n\n", "x", " \n \n", "x\n\n", "\u{0}\n"]
    )
    func oddBodies(_ body: String) async throws {
        let (signers, records) = try signers()
        let signed = try signed("From: j@example.com\n\n\(body)", signers)
        #expect(await verdicts(signed, records).map(\.result) == [.pass, .pass])
    }

    @Test("keys survive being sealed and opened", arguments: DKIMKey.Algorithm.allCases)
    func keys(_ algorithm: DKIMKey.Algorithm) async throws {
        let key = try DKIMKey.generate(algorithm)
        let again = try DKIMKey(algorithm, privateBytes: try key.privateBytes)
        #expect(try again.publicRecord == key.publicRecord)
        let signed = try signed(
            "From: j@example.com\n\nx\n",
            [DKIM.Signer(domain: "example.com", selector: "s", key: again)]
        )
        let record = try key.publicRecord
        #expect(await verdicts(signed, ["s._domainkey.example.com": record]).map(\.result) == [.pass])
        #expect(try key.privateBytes.count == (algorithm == .ed25519 ? 32 : key.privateBytes.count))
        #expect(throws: DKIMFault.keyMalformed) { try DKIMKey(algorithm, privateBytes: [1, 2, 3]) }
        #expect(throws: DKIMFault.keyMalformed) { try DKIMKey(algorithm, privateBytes: []) }
    }

    @Test("one key signs in many tasks at a time")
    func concurrent() async throws {
        let key = try DKIMKey.generate(.rsa)
        let message = OutboundCorpora.withCRLF("From: j@example.com\n\nx\n")
        let signer = DKIM.Signer(domain: "example.com", selector: "s", key: key)
        let fields = try await withThrowingTaskGroup(of: [UInt8].self) { group in
            for _ in 0..<64 {
                group.addTask { try DKIM.sign(message, signers: [signer], at: Self.now) }
            }
            return try await group.reduce(into: Set<[UInt8]>()) { $0.insert($1) }
        }
        #expect(fields.count == 1)
    }

    @Test("no more than ten signatures are judged")
    func bounded() async throws {
        let (signers, records) = try signers()
        let message = OutboundCorpora.withCRLF("From: j@example.com\n\nx\n")
        let many = (0..<8).flatMap { _ in signers }
        let verdicts = await verdicts(try DKIM.sign(message, signers: many, at: Self.now) + message, records)
        #expect(verdicts.count == 10)
    }

    @Test("mutated messages and records never trap, and the work they cause stays bounded")
    func mutations() async {
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        let message = OutboundCorpora.withCRLF(Self.rfcMessage)
        for _ in 0..<500 {
            var records = Self.rfcRecords
            let mutated = random.mutate(message)
            for (name, record) in records where Bool.random(using: &random) {
                records[name] = String(decoding: random.mutate(Array(record.utf8)), as: UTF8.self)
            }
            let verdicts = await verdicts(mutated, records)
            #expect(verdicts.count <= 10, "seed \(seed)")
        }
    }

    @Test(
        "signed messages of the corpora pass",
        .enabled(if: OutboundCorpora.isPresent, "no corpora"),
        arguments: [
            ("stalwart-mail-auth/dkim/001.txt", 1_667_843_664),
            ("stalwart-mail-auth/dkim/003.txt", 1_667_592_145),
            ("stalwart-mail-auth/dkim/005.txt", 1_667_843_664),
        ]
    )
    func stalwart(_ path: String, _ now: Int) async throws {
        let text = try OutboundCorpora.text(path).replacing("\r\n", with: "\n")
        let end = try #require(text.range(of: "\n\n"))
        var records: [String: String] = [:]
        for line in text[..<end.lowerBound].split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            if words.count == 2 { records[String(words[0])] = String(words[1]) }
        }
        let message = OutboundCorpora.withCRLF(String(text[end.upperBound...]))
        let date = Date(timeIntervalSince1970: TimeInterval(now))
        let verdicts = await verdicts(message, records, now: date)
        #expect(!verdicts.isEmpty)
        #expect(verdicts.allSatisfy { $0.result == .pass }, "\(verdicts)")
    }

    @Test("the simple form of dkimpy's sample passes", .enabled(if: OutboundCorpora.isPresent, "no corpora"))
    func dkimpy() async throws {
        let message = OutboundCorpora.withCRLF(try OutboundCorpora.text("dkimpy/rfc6376.signed.msg"))
        #expect(await verdicts(message, Self.rfcRecords).map(\.result) == [.pass, .pass])
    }

    @Test("an l= tag is honoured and told of", .enabled(if: OutboundCorpora.isPresent, "no corpora"))
    func limitedBody() async throws {
        let message = OutboundCorpora.withCRLF(try OutboundCorpora.text("chasquid/dkim/09-limited_body.msg"))
        var records = Self.rfcRecords
        records["selector._domainkey.example.com"] =
            "v=DKIM1; k=ed25519; p=SvoPT692bVrQBT8UNxt6SF538O3snA4fE3/i/glCxwQ="
        let verdicts = await verdicts(message, records)
        #expect(verdicts.map(\.result) == [.pass, .pass, .pass])
        #expect(verdicts.map(\.coversWholeBody) == [false, true, true])
    }

    @Test("a strict key refuses a subdomain in i=", .enabled(if: OutboundCorpora.isPresent, "no corpora"))
    func strict() async throws {
        let message = OutboundCorpora.withCRLF(
            try OutboundCorpora.text("chasquid/dkim/11-strict_domain_check_fail.msg")
        )
        let record = "v=DKIM1; k=ed25519; t=s; p=SvoPT692bVrQBT8UNxt6SF538O3snA4fE3/i/glCxwQ="
        let strict = await verdicts(message, ["selector._domainkey.example.com": record])
        #expect(strict.map(\.result) == [.permerror])
        let lenient = record.replacing("t=s; ", with: "")
        #expect(
            await verdicts(message, ["selector._domainkey.example.com": lenient]).map(\.result) == [.pass]
        )
    }
}
