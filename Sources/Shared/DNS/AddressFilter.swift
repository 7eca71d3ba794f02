// Which addresses we may connect to when a stranger chose the name: customers' webhooks and recipients' MX.
// Whoever resolves a name filters every address and connects to exactly the one that passed.

package import Platform

/// What an address is for, by the IANA special-purpose registries (RFC 6890 and its updates).
package enum AddressKind: Sendable, Hashable {
    case `public`
    case unspecified
    case loopback
    case `private`
    case linkLocal
    /// Carrier-grade NAT (RFC 6598).
    case shared
    /// Answers cloud machines about themselves, outside the link-local range.
    case metadata
    case benchmark
    case documentation
    case multicast
    case reserved
}

extension IPAddress {
    /// What it is for; an IPv6 address that only wraps an IPv4 one is what that one is.
    package var kind: AddressKind {
        switch unmapped {
        case .v4(let number): Self.kind(of: .v4(number), in: specialV4) ?? .public
        case .v6(let number): Self.kind(v6: number)
        }
    }

    /// Whether it is an ordinary address of the public Internet.
    package var isPublic: Bool { kind == .public }

    private static func kind(v6 number: UInt128) -> AddressKind {
        // NAT64 (RFC 6052) carries the IPv4 address in its last 32 bits, 6to4 (RFC 3056) behind its first 16.
        if number >> 32 == 0x0064_ff9b_0000_0000_0000_0000 {
            return IPAddress.v4(UInt32(truncatingIfNeeded: number)).kind
        }
        if number >> 112 == 0x2002 {
            return IPAddress.v4(UInt32(truncatingIfNeeded: number >> 80)).kind
        }
        // Only 2000::/3 is handed out; whatever is not listed outside of it is reserved.
        return kind(of: .v6(number), in: specialV6) ?? (number >> 125 == 1 ? .public : .reserved)
    }

    private static func kind(
        of address: IPAddress,
        in table: [(network: Network, kind: AddressKind)]
    ) -> AddressKind? {
        table.first { $0.network.contains(address) }?.kind
    }
}

/// Decides about addresses: public ones, and those of networks that the operator allows.
package struct AddressFilter: Sendable {
    /// Networks that are allowed although they are not public.
    package let allowed: [Network]

    /// Allows public addresses and these networks.
    package init(allowing networks: [Network] = []) { allowed = networks }

    /// Reads the allowed networks from a variable such as `COMMUNE_WEBHOOK_ALLOW`: CIDR, between commas.
    package init(allowing variable: String, reading settings: inout Settings) {
        self.init(allowing: settings.networks(variable))
    }

    /// Whether we may connect to this address.
    package func allows(_ address: IPAddress) -> Bool {
        address.isPublic || allowed.contains { $0.contains(address) }
    }

    /// What a URL or configuration names: an address, a name to look up, or something that other software would read
    /// as an address in disguise.
    package enum Host: Sendable, Hashable {
        case address(IPAddress)
        case name(String)
        case refused
    }

    /// Reads a URL's host, IPv6 with or without brackets.
    ///
    /// A host whose last label is a number is no name (the “ends in a number” rule of the URL standard):
    /// `127.1`, `0x7f000001`, `2130706433` are refused.
    package static func host(_ text: some StringProtocol) -> Host {
        if text.hasPrefix("[") || text.contains(":") {
            let inner =
                text.hasPrefix("[") && text.hasSuffix("]")
                ? String(text.dropFirst().dropLast()) : String(text)
            return IPAddress(inner).flatMap { $0.isV4 ? nil : .address($0) } ?? .refused
        }
        if let address = IPAddress(text) { return .address(address) }
        guard let question = DomainName.question(String(text)) else { return .refused }
        let name = DomainName.normal(question)
        let last = name.split(separator: ".").last ?? ""
        let isNumber =
            last.allSatisfy(\.isNumber)
            || (last.hasPrefix("0x") && last.dropFirst(2).allSatisfy(\.isHexDigit))
        return isNumber ? .refused : .name(name)
    }
}

/// Pairs a list of networks with what they are; a misspelled one would be dropped, so a test counts them.
private func table(_ rows: [(String, AddressKind)]) -> [(network: Network, kind: AddressKind)] {
    rows.compactMap { text, kind in Network(text).map { ($0, kind) } }
}

let specialV4Rows: [(String, AddressKind)] = [
    ("0.0.0.0/8", .unspecified),
    ("10.0.0.0/8", .private),
    ("100.64.0.0/10", .shared),
    ("127.0.0.0/8", .loopback),
    ("168.63.129.16/32", .metadata),  // Azure
    ("169.254.0.0/16", .linkLocal),
    ("172.16.0.0/12", .private),
    ("192.0.0.0/24", .reserved),
    ("192.0.2.0/24", .documentation),
    ("192.88.99.0/24", .reserved),  // 6to4 relays, withdrawn by RFC 7526
    ("192.168.0.0/16", .private),
    ("198.18.0.0/15", .benchmark),
    ("198.51.100.0/24", .documentation),
    ("203.0.113.0/24", .documentation),
    ("224.0.0.0/4", .multicast),
    ("240.0.0.0/4", .reserved),
]

let specialV6Rows: [(String, AddressKind)] = [
    ("::/128", .unspecified),
    ("::1/128", .loopback),
    ("64:ff9b:1::/48", .private),  // NAT64 for local use, RFC 8215
    ("100::/64", .reserved),  // discard, RFC 6666
    ("2001:2::/48", .benchmark),
    ("2001:db8::/32", .documentation),
    ("2001::/23", .reserved),  // protocol assignments, Teredo and ORCHID among them
    ("3fff::/20", .documentation),
    ("fc00::/7", .private),
    ("fe80::/10", .linkLocal),
    ("fec0::/10", .private),  // site-local, withdrawn
    ("ff00::/8", .multicast),
]

private let specialV4 = table(specialV4Rows)
private let specialV6 = table(specialV6Rows)
