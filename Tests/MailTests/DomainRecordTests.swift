// The records of a domain: their names, and what counts as published.

import Mail
import Testing

@Suite("Domain records")
struct DomainRecordTests {
    private let key = "v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"

    private func records(_ name: String) throws -> [DomainRecord] {
        DomainRecord.expected(
            for: try DomainName(name),
            rsa: ("commune", key),
            ed25519: ("commune-ed", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
            receivingHost: "mx.platform.test",
            bounceHost: "bounce.platform.test",
            spfInclude: "platform.test"
        )
    }

    private func record(_ kind: DomainRecord.Kind) throws -> DomainRecord {
        try #require(try records("example.com").first { $0.kind == kind })
    }

    @Test(
        "names are relative to the registrable domain, as registrars want them",
        arguments: [
            (
                "example.com",
                ["commune._domainkey", "commune-ed._domainkey", "send", "send", "@", "_dmarc"]
            ),
            (
                "mail.example.co.uk",
                [
                    "commune._domainkey.mail", "commune-ed._domainkey.mail", "send.mail", "send.mail", "mail",
                    "_dmarc.mail",
                ]
            ),
        ]
    )
    func names(_ domain: String, _ expected: [String]) throws {
        let records = try records(domain)
        #expect(records.map(\.name) == expected)
        #expect(records.map(\.kind) == DomainRecord.Kind.allCases)
        #expect(records.allSatisfy { $0.fqdn.hasSuffix(domain) && $0.status == .pending && $0.found == nil })
        #expect(records.map(\.type) == [.txt, .txt, .mx, .txt, .mx, .txt])
        #expect(records.map(\.priority) == [nil, nil, 10, nil, 10, nil])
        #expect(records[3].value == "v=spf1 include:platform.test ~all")
        #expect(records[5].value == "v=DMARC1; p=none; rua=mailto:dmarc@send.\(domain)")
    }

    private static let key = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"

    @Test(
        "a key counts however it is written, among other records, and not when another one stands there",
        arguments: [
            (["v=DKIM1; k=rsa; p=\(key)"], true),
            (["p=\(key)"], true),
            (["  k = rsa ;p=MIIBIjANBgkqhkiG9w0B AQEFAAOCAQ8A; ; v=DKIM1 "], true),
            (["google-site-verification=x", "v=DKIM1; p=other", "v=DKIM1; p=\(key); t=y"], true),
            (["v=DKIM1; h=sha1:sha256; s=email; p=\(key)"], true),
            (["v=DKIM1; h=sha1; p=\(key)"], false),
            (["v=DKIM1; s=tls; p=\(key)"], false),
            (["v=DKIM1; k=ed25519; p=\(key)"], false),
            (["v=DKIM1; p="], false),
            (["v=DKIM1; p=MIIBIjANBgkqhkiG9w0BAQ"], false),
            (["v=DKIM2; p=\(key)"], false),
            (["\(key)"], false),
            (["nonsense", "\u{0}\u{1}; ;;="], false),
            ([String(repeating: "p=;", count: 10_000)], false),
            ([], false),
        ]
    )
    func keys(_ texts: [String], _ matches: Bool) throws {
        let judgement = try record(.dkimRSA).judge(.texts(texts))
        #expect(judgement.verdict == (matches ? .matches : .differs))
        #expect((judgement.detail == nil) == matches)
        #expect(judgement.found.unicodeScalars.count <= 1_000)
        #expect(!judgement.found.unicodeScalars.contains { $0.value < 0x20 })
    }

    @Test(
        "SPF counts with our include anywhere before its end, in exactly one record",
        arguments: [
            (["v=spf1 include:platform.test ~all"], true),
            (["V=SPF1 ip4:192.0.2.1 include:other.test +INCLUDE:Platform.Test. -all", "x"], true),
            (["v=spf1 include:platform.test"], true),
            (["v=spf1 -all include:platform.test"], false),
            (["v=spf1 -include:platform.test ~all"], false),
            (["v=spf1 include:platform.test.evil.test ~all"], false),
            (["v=spf10 include:platform.test ~all"], false),
            (["v=spf1 include:platform.test ~all", "v=spf1 mx ~all"], false),
            (["v=spf1 include:platform.test ~all", "v=spf1 include:platform.test ~all"], false),
            ([], false),
        ]
    )
    func spf(_ texts: [String], _ matches: Bool) throws {
        #expect(
            try record(.returnPathSPF).judge(.texts(texts)).verdict == (matches ? .matches : .differs)
        )
    }

    @Test(
        "an MX counts with any preference and beside others",
        arguments: [
            ([(5, "mx.platform.test")], true), ([(10, "a.test"), (99, "MX.Platform.Test.")], true),
            ([(10, "mx.platform.test.evil.test")], false), ([(0, ".")], false), ([], false),
        ]
    )
    func mx(_ hosts: [(Int, String)], _ matches: Bool) throws {
        let answer = RecordAnswer.exchangers(hosts.map { .init(preference: $0, host: $1) })
        let judgement = try record(.receiving).judge(answer)
        #expect(judgement.verdict == (matches ? .matches : .differs))
        if hosts.count == 2 { #expect(judgement.found == "10 a.test | 99 MX.Platform.Test.") }
    }

    @Test(
        "DMARC counts with any one policy",
        arguments: [
            (["v=DMARC1; p=reject"], true), (["v = DMARC1;p=none", "other"], true), (["v=DMARC1"], true),
            (["v=DMARC11; p=none"], false), (["p=none; v=DMARC1"], false),
            (["v=DMARC1; p=none", "v=DMARC1; p=reject"], false), ([], false),
        ]
    )
    func dmarc(_ texts: [String], _ matches: Bool) throws {
        #expect(try record(.dmarc).judge(.texts(texts)).verdict == (matches ? .matches : .differs))
    }

    @Test("a missing name differs, and a DNS without an answer proves nothing")
    func noAnswer() throws {
        let missing = try record(.dkimRSA).judge(.noSuchName)
        #expect(missing.verdict == .differs)
        #expect(missing.found == "no record: the name does not exist")
        let silent = try record(.dkimRSA).judge(.noAnswer("the DNS did not answer in time"))
        #expect(silent.verdict == .unknown)
        #expect(silent.found == "no answer: the DNS did not answer in time")
    }

    @Test("what was found is kept as long as the record says the same")
    func keeping() throws {
        var earlier = try record(.receiving)
        (earlier.status, earlier.found) = (.verified, "10 mx.platform.test")
        #expect(try record(.receiving).keeping(earlier) == earlier)
        let other = try #require(
            DomainRecord.expected(
                for: try DomainName("example.com"),
                rsa: ("commune", key),
                ed25519: ("commune-ed", key),
                receivingHost: "new.platform.test",
                bounceHost: "b.test",
                spfInclude: "s.test"
            ).first { $0.kind == .receiving }
        )
        #expect(other.keeping(earlier).status == .pending)
        #expect(other.keeping(earlier).found == nil)
    }
}
