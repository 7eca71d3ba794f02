// Address literals in place of a domain (RFC 5321 §4.1.3), allowed only where a caller asks for them.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// Checks `[192.0.2.1]` and `[IPv6:2001:db8::1]`.
enum AddressLiteral {
    /// The literal with its tag spelled as the RFC does and its digits in lower case.
    static func normalized(_ text: String) throws(AddressFault) -> String {
        guard text.hasPrefix("["), text.hasSuffix("]"), text.utf8.count <= 64 else { throw .domainMalformed }
        let inner = text.dropFirst().dropLast()
        guard inner.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw .domainMalformed }
        if inner.lowercased().hasPrefix("ipv6:") {
            let digits = inner.dropFirst(5).lowercased()
            var address = in6_addr()
            guard inet_pton(AF_INET6, digits, &address) == 1 else { throw .domainMalformed }
            return "[IPv6:\(digits)]"
        }
        var address = in_addr()
        guard inet_pton(AF_INET, String(inner), &address) == 1 else { throw .domainMalformed }
        return "[\(inner)]"
    }
}
