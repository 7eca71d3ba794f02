// Which addresses we may connect to, as a table.

import Platform
import Testing

@testable import DNS

@Suite("Address filter")
struct AddressFilterTests {
    @Test(
        "each address is what the registries say it is",
        arguments: [
            ("8.8.8.8", AddressKind.public), ("1.1.1.1", .public), ("9.255.255.255", .public),
            ("11.0.0.0", .public),
            ("0.0.0.0", .unspecified), ("0.1.2.3", .unspecified),
            ("10.0.0.0", .private), ("10.255.255.255", .private), ("172.15.255.255", .public),
            ("172.16.0.0", .private), ("172.31.255.255", .private), ("172.32.0.0", .public),
            ("192.168.0.1", .private), ("192.167.255.255", .public), ("192.169.0.0", .public),
            ("100.63.255.255", .public), ("100.64.0.0", .shared), ("100.127.255.255", .shared),
            ("100.128.0.0", .public), ("100.100.100.200", .shared),
            ("127.0.0.1", .loopback), ("127.255.255.255", .loopback), ("128.0.0.0", .public),
            ("169.254.169.254", .linkLocal), ("169.253.255.255", .public), ("168.63.129.16", .metadata),
            ("192.0.0.1", .reserved), ("192.0.0.192", .reserved), ("192.0.1.0", .public),
            ("192.0.2.1", .documentation), ("198.51.100.7", .documentation),
            ("203.0.113.255", .documentation),
            ("192.88.99.1", .reserved), ("198.17.255.255", .public), ("198.18.0.0", .benchmark),
            ("198.19.255.255", .benchmark), ("198.20.0.0", .public),
            ("223.255.255.255", .public), ("224.0.0.1", .multicast), ("239.255.255.255", .multicast),
            ("240.0.0.0", .reserved), ("255.255.255.255", .reserved),
            ("2606:4700:4700::1111", .public), ("2a00:1450:4001::1", .public),
            ("::", .unspecified), ("::1", .loopback), ("::2", .reserved), ("::7f00:1", .reserved),
            ("fe80::1", .linkLocal), ("febf::1", .linkLocal), ("fec0::1", .private),
            ("fc00::1", .private), ("fdff::1", .private), ("fd00:ec2::254", .private),
            ("ff02::1", .multicast), ("100::1", .reserved), ("4000::1", .reserved), ("5f00::1", .reserved),
            ("2001::1", .reserved), ("2001:2::1", .benchmark), ("2001:10::1", .reserved),
            ("2001:20::1", .reserved), ("2001:200::1", .public), ("2001:db8::1", .documentation),
            ("3fff::1", .documentation), ("3fff:1000::1", .public),
            ("::ffff:127.0.0.1", .loopback), ("::ffff:7f00:1", .loopback), ("::ffff:10.0.0.1", .private),
            ("::ffff:8.8.8.8", .public), ("::ffff:0:8.8.8.8", .reserved),
            ("64:ff9b::169.254.169.254", .linkLocal), ("64:ff9b::8.8.8.8", .public),
            ("64:ff9b:1::8.8.8.8", .private), ("2002:7f00:1::", .loopback), ("2002:a00:1::1", .private),
            ("2002:808:808::1", .public), ("2002:a9fe:a9fe::", .linkLocal),
        ]
    )
    func kinds(_ text: String, _ kind: AddressKind) throws {
        let address = try #require(IPAddress(text))
        #expect(address.kind == kind)
        #expect(AddressFilter().allows(address) == (kind == .public))
        #expect(IPAddress(bytes: address.bytes) == address)
        #expect(IPAddress(address.description) == address)
    }

    @Test("every row of the tables is a network")
    func rows() {
        for (text, _) in specialV4Rows + specialV6Rows { #expect(Network(text)?.description == text) }
    }

    @Test(
        "odd spellings are no addresses",
        arguments: [
            "127.1", "127.0.1", "0x7f000001", "0x7f.0.0.1", "2130706433", "017700000001", "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.1.", "127.0.0.1 ", " 127.0.0.1", "127.0.0.256", "1.2.3.4.5", "+1.2.3.4", "1.2.3.4\0",
            "127.0.0.1\n", "１２７.0.0.1", "[::1]", "::1%lo", "fe80::1%eth0", ":::", "1::2::3", "::ffff:127.1",
            "12345::",
            "::ffff:1.2.3.4.5", "", ".", "1", "0:0:0:0:0:0:0:0:1",
        ]
    )
    func oddSpellings(_ text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test("hosts are addresses, names, or refused")
    func hosts() throws {
        func address(_ text: String) throws -> AddressFilter.Host { .address(try #require(IPAddress(text))) }
        #expect(AddressFilter.host("127.0.0.1") == (try address("127.0.0.1")))
        #expect(AddressFilter.host("[::ffff:7f00:1]") == (try address("::ffff:127.0.0.1")))
        #expect(AddressFilter.host("::1") == (try address("::1")))
        #expect(AddressFilter.host("Hooks.Example.COM.") == .name("hooks.example.com"))
        #expect(AddressFilter.host("localhost") == .name("localhost"))
        #expect(AddressFilter.host("4.in-addr.arpa") == .name("4.in-addr.arpa"))
        let refused = [
            "127.1", "0x7f000001", "0x7F.1", "a.0x", "2130706433", "127.0.0.1.", "[127.0.0.1]", "[::1",
            "::1]",
            "[fe80::1%25lo]", "a..b", "", ".", "a b", "ex\\097mple.com", "ex\u{e4}mple.com", "example.123",
            String(repeating: "a", count: 64) + ".com",
        ]
        for text in refused { #expect(AddressFilter.host(text) == .refused, "\(text)") }
    }

    @Test("allowed networks are let through, IPv4-mapped as well, and nothing beside them")
    func allowed() throws {
        var settings = Settings(["NETS": "127.0.0.0/8, fd00::/8,10.1.2.3"])
        let filter = AddressFilter(allowing: "NETS", reading: &settings)
        #expect(settings.faults.isEmpty)
        let cases = [
            ("127.0.0.1", true), ("::ffff:127.0.0.1", true), ("fd12::1", true), ("10.1.2.3", true),
            ("10.1.2.4", false), ("192.168.1.1", false), ("::1", false), ("fc00::1", false),
            ("8.8.8.8", true),
        ]
        for (text, isAllowed) in cases {
            #expect(filter.allows(try #require(IPAddress(text))) == isAllowed, "\(text)")
        }
        var bad = Settings(["NETS": "127.0.0.1/8,10.0.0.0/33,x,10.0.0.0/8/9,10.0.0.0/+8,::/129,/8,10.0.0.0/"])
        #expect(AddressFilter(allowing: "NETS", reading: &bad).allowed.isEmpty)
        #expect(bad.faults.count == 8)
    }

    @Test("networks hold exactly their addresses")
    func networks() throws {
        let cases = [
            ("0.0.0.0/0", "255.255.255.255", true), ("0.0.0.0/0", "::1", false), ("::/0", "ffff::", true),
            ("192.168.4.0/22", "192.168.7.255", true), ("192.168.4.0/22", "192.168.8.0", false),
            ("10.0.0.1/32", "10.0.0.1", true), ("10.0.0.1/32", "10.0.0.0", false),
            ("2001:db8::/33", "2001:db8:7fff::", true), ("2001:db8::/33", "2001:db8:8000::", false),
            ("::ffff:0:0/96", "::ffff:1.2.3.4", true),
        ]
        for (network, address, isInside) in cases {
            let network = try #require(Network(network))
            #expect(network.contains(try #require(IPAddress(address))) == isInside, "\(network) \(address)")
        }
    }
}
