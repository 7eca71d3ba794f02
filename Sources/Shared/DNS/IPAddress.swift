// Addresses and networks as numbers, so that a network's test is one comparison.

import Glibc
package import Platform

/// An IP address.
package enum IPAddress: Sendable, Hashable {
    /// IPv4, first octet highest.
    case v4(UInt32)
    /// IPv6, first octet highest.
    case v6(UInt128)

    /// Reads a literal strictly: four decimal octets without leading zeros, or IPv6 without zone and brackets
    /// (RFC 4291 §2.2).
    ///
    /// The odd spellings of `inet_aton` (`127.1`, `0x7f000001`, `017700000001`) are refused.
    package init?(_ text: some StringProtocol) {
        let text = String(text)
        // A zero byte would end the C string early and hide what follows.
        guard text.utf8.count <= 45, !text.utf8.contains(0) else { return nil }
        var four = in_addr()
        var six = in6_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self = .v4(UInt32(bigEndian: four.s_addr))
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            self = .v6(withUnsafeBytes(of: six) { Self.number($0) })
        } else {
            return nil
        }
    }

    /// Takes 4 or 16 bytes in network order.
    package init?(bytes: [UInt8]) {
        switch bytes.count {
        case 4: self = .v4(UInt32(truncatingIfNeeded: bytes.withUnsafeBytes { Self.number($0) }))
        case 16: self = .v6(bytes.withUnsafeBytes { Self.number($0) })
        default: return nil
        }
    }

    private static func number(_ bytes: UnsafeRawBufferPointer) -> UInt128 {
        bytes.reduce(0) { $0 << 8 | UInt128($1) }
    }

    /// Whether it is IPv4.
    package var isV4: Bool { if case .v4 = self { true } else { false } }

    /// 4 or 16 bytes in network order.
    package var bytes: [UInt8] {
        switch self {
        case .v4(let number): (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * UInt32($0))) }
        case .v6(let number): (0..<16).map { UInt8(truncatingIfNeeded: number >> (120 - 8 * UInt128($0))) }
        }
    }

    /// The IPv4 address of an IPv4-mapped one (`::ffff:a.b.c.d`), any other address as it is: the kernel connects to
    /// the same place.
    package var unmapped: IPAddress {
        guard case .v6(let number) = self, number >> 32 == 0xffff else { return self }
        return .v4(UInt32(truncatingIfNeeded: number))
    }
}

extension IPAddress: CustomStringConvertible {
    package var description: String {
        let family = isV4 ? AF_INET : AF_INET6
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 46) { buffer in
            guard inet_ntop(family, bytes, buffer.baseAddress, 46) != nil, let start = buffer.baseAddress
            else { return "" }
            return String(cString: start)
        }
    }
}

/// A network: an address and how many of its leading bits count.
package struct Network: Sendable, Hashable, CustomStringConvertible {
    private let base: IPAddress
    private let prefix: Int

    /// Reads CIDR notation, `10.0.0.0/8` or `fd00::/8`; a single address stands for itself.
    ///
    /// Bits behind the prefix must be zero, since a set one is most often a slip.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let first = parts.first, let base = IPAddress(first) else { return nil }
        let width = base.isV4 ? 32 : 128
        var prefix = width
        if parts.count == 2 {
            // Int would take `+8` and `08`.
            guard let number = Int(parts[1]), String(number) == parts[1], (0...width).contains(number)
            else { return nil }
            prefix = number
        }
        guard base.masked(to: prefix) == base else { return nil }
        self.base = base
        self.prefix = prefix
    }

    /// Whether an address lies within; an IPv4-mapped one as the IPv4 address it means.
    package func contains(_ address: IPAddress) -> Bool {
        let address = base.isV4 ? address.unmapped : address
        return address.isV4 == base.isV4 && address.masked(to: prefix) == base
    }

    package var description: String { "\(base)/\(prefix)" }
}

extension Settings {
    /// The networks of a variable such as `COMMUNE_WEBHOOK_ALLOW`: CIDR, between commas.
    package mutating func networks(_ variable: String) -> [Network] {
        list(variable).compactMap { text in
            if let network = Network(text) { return network }
            fault(variable, "holds “\(text.prefix(60))”, which is not a network such as 10.0.0.0/8.")
            return nil
        }
    }
}

extension IPAddress {
    fileprivate func masked(to prefix: Int) -> IPAddress {
        switch self {
        // A shift by the whole width gives zero, as it should.
        case .v4(let number): .v4(number & (UInt32.max << UInt32(32 - prefix)))
        case .v6(let number): .v6(number & (UInt128.max << UInt128(128 - prefix)))
        }
    }
}
