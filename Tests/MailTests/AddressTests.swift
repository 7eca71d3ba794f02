import Foundation
import TestSupport
import Testing

@testable import Mail

@Suite("Addresses")
struct AddressTests {
    @Test(
        "an address is normalised to what goes on the wire",
        arguments: [
            ("joe@Example.COM", "joe@example.com"),
            ("Joe.Doe@example.com", "Joe.Doe@example.com"),
            ("\"joe\"@example.com", "joe@example.com"),
            ("\"joe doe\"@example.com", "\"joe doe\"@example.com"),
            ("\"a\\\"b\"@example.com", "\"a\\\"b\"@example.com"),
            ("\"a\\bc\"@example.com", "abc@example.com"),
            ("\"a@b\"@example.com", "\"a@b\"@example.com"),
            ("\"\"@example.com", "\"\"@example.com"),
            ("x@bücher.example", "x@xn--bcher-kva.example"),
            ("x@BÜCHER.example", "x@xn--bcher-kva.example"),
            ("x@faß.de", "x@xn--fa-hia.de"),
            ("x@例え.テスト", "x@xn--r8jz45g.xn--zckzah"),
            ("jörg@example.com", "jörg@example.com"),
            ("postmaster@localhost", "postmaster@localhost"),
            ("a+b@agents.localhost", "a+b@agents.localhost"),
        ]
    )
    func normalises(_ given: String, _ wire: String) throws {
        let address = try EmailAddress(given)
        #expect(address.description == wire)
        #expect(try EmailAddress(address.description) == address)
    }

    @Test(
        "what is no address is refused with its reason",
        arguments: [
            ("", AddressFault.empty),
            ("joe", .atSignMissing),
            ("@example.com", .localPartMalformed),
            ("joe@", .domainMalformed),
            (".joe@example.com", .localPartMalformed),
            ("joe.@example.com", .localPartMalformed),
            ("j..oe@example.com", .localPartMalformed),
            ("joe doe@example.com", .localPartMalformed),
            ("joe@exa mple.com", .domainMalformed),
            ("joe@@example.com", .domainMalformed),
            ("joe@example..com", .domainMalformed),
            ("joe@example.com.", .domainMalformed),
            ("joe@-example.com", .domainMalformed),
            ("joe@example-.com", .domainMalformed),
            ("joe@exa_mple.com", .domainMalformed),
            ("\"joe@example.com", .localPartMalformed),
            ("\"joe\"x@example.com", .localPartMalformed),
            ("joe@example.com\r\nRCPT TO:<x@y>", .domainMalformed),
            ("joe\r\n@example.com", .localPartMalformed),
            ("joe\u{0}@example.com", .localPartMalformed),
            ("joe@exam\u{0}ple.com", .domainMalformed),
            ("joe\u{202E}@example.com", .localPartMalformed),
            ("joe@[127.0.0.1]", .addressLiteral),
            ("joe@127.0.0.1", .addressLiteral),
            ("joe@127.1", .addressLiteral),
            ("joe@0x7f000001", .addressLiteral),
        ]
    )
    func refuses(_ given: String, _ fault: AddressFault) {
        #expect(throws: fault) { try EmailAddress(given) }
    }

    @Test("lengths are bounded exactly")
    func bounds() throws {
        let local = String(repeating: "a", count: 64)
        let label = String(repeating: "b", count: 63)
        #expect(try EmailAddress("\(local)@example.com").local.count == 64)
        #expect(throws: AddressFault.localPartTooLong) { try EmailAddress("\(local)a@example.com") }
        #expect(try EmailAddress("a@\(label).com").domain.count == 67)
        #expect(throws: AddressFault.labelTooLong) { try EmailAddress("a@\(label)b.com") }
        let longest = "a@\(label).\(label).\(label).\(String(repeating: "c", count: 60))"
        #expect(try EmailAddress(longest).description.count == 254)
        #expect(throws: AddressFault.tooLong) { try EmailAddress("a\(longest)") }
        #expect(throws: AddressFault.domainTooLong) { try EmailAddress("\(longest)ccc") }
        #expect(throws: AddressFault.tooLong) { try EmailAddress(String(repeating: "x", count: 1_000_000)) }
    }

    @Test("keys, tags and SMTPUTF8 follow the local part")
    func parts() throws {
        let address = try EmailAddress("Support+42+x@Example.com")
        #expect(address.key == "support+42+x@example.com")
        #expect(address.withoutTag.description == "Support@example.com")
        #expect(address.tag == "42+x")
        #expect(try EmailAddress("+x@example.com").withoutTag.description == "+x@example.com")
        #expect(try EmailAddress("\"a+b c\"@example.com").tag == nil)
        #expect(!address.needsSMTPUTF8)
        #expect(try EmailAddress("jörg@example.com").needsSMTPUTF8)
        #expect(try !EmailAddress("joerg@bücher.example").needsSMTPUTF8)
    }

    @Test("literals are read only where they are allowed")
    func literals() throws {
        #expect(try EmailAddress("a@[192.0.2.1]", allowingLiteral: true).domain == "[192.0.2.1]")
        #expect(
            try EmailAddress("a@[ipv6:2001:DB8::1]", allowingLiteral: true).domain == "[IPv6:2001:db8::1]"
        )
        for bad in ["a@[192.0.2]", "a@[192.0.2.256]", "a@[IPv6:1::2::3]", "a@[x]", "a@[192.0.2.1", "a@[]"] {
            #expect(throws: AddressFault.domainMalformed) { try EmailAddress(bad, allowingLiteral: true) }
        }
    }

    @Test(
        "a mailbox is an address with or without a name",
        arguments: [
            ("ada@example.com", nil, "ada@example.com"),
            ("  ada@example.com\t", nil, "ada@example.com"),
            ("<ada@example.com>", nil, "ada@example.com"),
            ("Ada <ada@example.com>", "Ada", "Ada <ada@example.com>"),
            ("Ada<ada@example.com>", "Ada", "Ada <ada@example.com>"),
            ("Ada Lovelace  <ada@example.com>", "Ada Lovelace", "Ada Lovelace <ada@example.com>"),
            ("\"Lovelace, Ada\" <ada@example.com>", "Lovelace, Ada", "\"Lovelace, Ada\" <ada@example.com>"),
            (
                "\"Ada \\\"A\\\" <x>\" <ada@example.com>", "Ada \"A\" <x>",
                "\"Ada \\\"A\\\" <x>\" <ada@example.com>"
            ),
            ("Jörg Müller <j@example.com>", "Jörg Müller", "Jörg Müller <j@example.com>"),
            ("🦊 <fox@example.com>", "🦊", "🦊 <fox@example.com>"),
            ("\"a b\"@example.com", nil, "\"a b\"@example.com"),
            ("X <\"a<b\"@example.com>", "X", "X <\"a<b\"@example.com>"),
        ] as [(String, String?, String)]
    )
    func mailboxes(_ given: String, _ name: String?, _ written: String) throws {
        let mailbox = try Mailbox(given)
        #expect(mailbox.displayName == name)
        #expect(mailbox.description == written)
        #expect(try Mailbox(mailbox.description) == mailbox)
    }

    @Test(
        "what is no mailbox is refused",
        arguments: [
            "", "   ", "Ada <ada@example.com", "Ada ada@example.com>", "Ada <ada@example.com> x",
            "a <b> <c@d.e>",
            "\"Ada <ada@example.com>", "\"Ada\" x <ada@example.com>", "Ada\r\nBcc: x <ada@example.com>",
            "Ada\u{0} <ada@example.com>", "a@example.com, b@example.com", "<>", "Ada <>",
            String(repeating: "n", count: 513) + " <ada@example.com>",
        ]
    )
    func refusesMailboxes(_ given: String) {
        #expect(throws: AddressFault.self) { try Mailbox(given) }
    }

    @Test("domain names are normalised, IP addresses refused")
    func domains() throws {
        #expect(try DomainName("Example.COM.").ascii == "example.com")
        #expect(try DomainName("bücher.example").ascii == "xn--bcher-kva.example")
        #expect(try DomainName("xn--bcher-kva.example").unicode == "bücher.example")
        #expect(try DomainName("a.b.example").labels == ["a", "b", "example"])
        for bad in [
            "", ".", "..", "a..b", "127.0.0.1", "1.2.3.4.", "::1", "[::1]", "a b", "a/b", "a@b.c", "1",
        ] {
            #expect(throws: AddressFault.self) { try DomainName(bad) }
        }
    }

    @Test("public suffixes and registrable domains come from the list")
    func publicSuffixes() {
        #expect(PublicSuffix.isPublicSuffix("com"))
        #expect(PublicSuffix.isPublicSuffix("co.uk"))
        #expect(PublicSuffix.isPublicSuffix("localhost"))
        #expect(!PublicSuffix.isPublicSuffix("example.com"))
        #expect(PublicSuffix.registrableDomain(of: "mail.send.example.co.uk") == "example.co.uk")
        #expect(PublicSuffix.registrableDomain(of: "example.com") == "example.com")
        #expect(PublicSuffix.registrableDomain(of: "agents.localhost") == "agents.localhost")
        #expect(PublicSuffix.registrableDomain(of: "co.uk") == nil)
        #expect(PublicSuffix.registrableDomain(of: "") == nil)
    }

    @Test("mutated addresses are either refused or safe on the wire")
    func mutations() {
        let seeds = [
            "joe@example.com", "\"joe \\\" doe\"@example.com", "x@bücher.example", "Ada <ada@example.com>",
            "\"Lovelace, Ada\" <ada@[IPv6:2001:db8::1]>", "jörg+tag@例え.テスト",
        ]
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<20_000 {
            let given = String(
                decoding: random.mutate(Array(seeds[Int.random(in: 0..<seeds.count, using: &random)].utf8)),
                as: UTF8.self
            )
            guard let mailbox = try? Mailbox(given, allowingLiteral: true) else { continue }
            let wire = mailbox.address.description
            let isSafe = wire.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F } && wire.utf8.count <= 254
            #expect(isSafe, "\(given.debugDescription), seed \(seed)")
            #expect(
                (try? Mailbox(mailbox.description, allowingLiteral: true)) == mailbox,
                "\(given), seed \(seed)"
            )
        }
    }

    private struct IsEmail: Decodable {
        let id: String
        let address: String
        let category: String
        let diagnosis: String
    }

    @Test(
        "isemail agrees for what RFC 5321 allows on the wire",
        .enabled(if: OutboundCorpora.isPresent, "no corpora")
    )
    func isEmail() throws {
        let cases = try JSONDecoder().decode(
            [IsEmail].self,
            from: Data(try OutboundCorpora.bytes("isemail/tests.json"))
        )
        #expect(cases.count > 50)
        // A numeric top-level name is an IPv4 address in disguise for us; the elided single group is valid by RFC 5952's grammar.
        let exceptions = ["ISEMAIL_RFC5321_TLDNUMERIC", "ISEMAIL_RFC5321_IPV6DEPRECATED"]
        for test in cases where !exceptions.contains(test.diagnosis) {
            let address = String(
                String.UnicodeScalarView(
                    test.address.unicodeScalars.map {
                        (0x2400...0x241F).contains($0.value) ? Unicode.Scalar(UInt8($0.value - 0x2400)) : $0
                    }
                )
            )
            let isValid = ["ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"].contains(
                test.category
            )
            let isAccepted = (try? EmailAddress(address, allowingLiteral: true)) != nil
            #expect(isAccepted == isValid, "\(test.id) \(test.diagnosis) \(test.address)")
        }
    }
}
