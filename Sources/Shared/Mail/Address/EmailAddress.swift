// An address as SMTP carries it, checked once, so that each later use is safe on the wire.

/// An addr-spec as RFC 5321 §4.1.2 and RFC 6531 §3.3 allow it on the wire.
package struct EmailAddress: Sendable, Hashable, CustomStringConvertible {
    /// RFC 5321 §4.5.3.1.1, in octets.
    package static let localOctetsMax = 64
    /// RFC 5321 §4.5.3.1.3 allows a path 256 octets, its angle brackets among them.
    package static let octetsMax = 254

    /// The local part in wire form, quoted only where it must be; its case is kept.
    package let local: String
    /// A-labels in lower case, or an address literal in brackets where one was allowed.
    package let domain: String

    /// Checks and normalises; surrounding blanks are refused, `Mailbox` is the type that forgives.
    package init(_ text: String, allowingLiteral: Bool = false) throws(AddressFault) {
        guard !text.isEmpty else { throw .empty }
        guard text.utf8.count <= 2_048 else { throw .tooLong }
        let part = try LocalPart(readingFrom: Array(text.utf8))
        try self.init(
            part: part,
            domain: String(decoding: Array(text.utf8)[part.end...].dropFirst(), as: UTF8.self),
            allowingLiteral: allowingLiteral
        )
    }

    /// Joins a local part in wire form with a domain that was already checked.
    package init(local: String, domain: DomainName) throws(AddressFault) {
        let part = try LocalPart(readingFrom: Array(local.utf8) + [UInt8(ascii: "@")])
        guard part.end == local.utf8.count else { throw .localPartMalformed }
        try self.init(part: part, domain: domain.ascii, allowingLiteral: false)
    }

    private init(part: LocalPart, domain: String, allowingLiteral: Bool) throws(AddressFault) {
        local = part.wire
        guard local.utf8.count <= Self.localOctetsMax else { throw .localPartTooLong }
        guard !local.unicodeScalars.contains(where: LocalPart.isForbidden) else { throw .localPartMalformed }
        if domain.hasPrefix("[") {
            guard allowingLiteral else { throw .addressLiteral }
            self.domain = try AddressLiteral.normalized(domain)
        } else {
            self.domain = try DomainName.normalized(domain)
        }
        guard local.utf8.count + 1 + self.domain.utf8.count <= Self.octetsMax else { throw .tooLong }
    }

    package var description: String { "\(local)@\(domain)" }

    /// The lower-cased address, by which addresses are compared and suppressions are kept.
    package var key: String { "\(local.lowercased())@\(domain)" }

    /// Whether a server must offer SMTPUTF8 (RFC 6531) to be given this address.
    package var needsSMTPUTF8: Bool { !local.utf8.allSatisfy { $0 < 0x80 } }

    /// The address without its plus-tag: `support+42@x` is delivered to `support@x`.
    package var withoutTag: EmailAddress {
        guard !local.hasPrefix("\""), let plus = local.firstIndex(of: "+"), plus > local.startIndex else {
            return self
        }
        return EmailAddress(checkedLocal: String(local[..<plus]), domain: domain)
    }

    /// What follows the first plus sign of the local part, nil without one.
    package var tag: String? {
        guard !local.hasPrefix("\""), let plus = local.firstIndex(of: "+"), plus > local.startIndex else {
            return nil
        }
        return String(local[local.index(after: plus)...])
    }

    private init(checkedLocal: String, domain: String) {
        local = checkedLocal
        self.domain = domain
    }
}

extension EmailAddress: Codable {
    package init(from decoder: any Decoder) throws {
        try self.init(decoder.singleValueContainer().decode(String.self), allowingLiteral: true)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
