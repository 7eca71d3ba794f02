// What can be wrong with an address or a domain name that somebody typed.

/// Why an address, mailbox or domain name was refused; `description` is fit for an API answer.
package enum AddressFault: Error, Hashable, Sendable, CustomStringConvertible {
    case empty
    case tooLong
    case atSignMissing
    case localPartMalformed
    /// More than 64 octets (RFC 5321 §4.5.3.1.1).
    case localPartTooLong
    case domainMalformed
    /// More than 253 characters, which is DNS's limit of 255 octets on its wire.
    case domainTooLong
    /// More than 63 octets in one label (RFC 1035 §2.3.4).
    case labelTooLong
    /// An IP address, or an address literal where none is allowed.
    case addressLiteral
    case mailboxMalformed
    case displayNameMalformed

    package var description: String {
        switch self {
        case .empty: "address is empty"
        case .tooLong: "address is too long"
        case .atSignMissing: "address has no @"
        case .localPartMalformed: "the part before @ is not valid"
        case .localPartTooLong: "the part before @ is longer than 64 octets"
        case .domainMalformed: "the domain is not valid"
        case .domainTooLong: "the domain is longer than 253 characters"
        case .labelTooLong: "a label of the domain is longer than 63 octets"
        case .addressLiteral: "an IP address is not allowed here"
        case .mailboxMalformed: "expected address or Name <address>"
        case .displayNameMalformed: "the display name is not valid"
        }
    }
}
