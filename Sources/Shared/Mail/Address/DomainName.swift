// Domain names as mail and DNS use them: A-labels, lower case, no dot at the end.

import CIDN2

/// A host or mail domain, normalised by IDNA to lower-case A-labels; never an IP address.
package struct DomainName: Sendable, Hashable, CustomStringConvertible {
    /// DNS allows 255 octets on its wire, which are 253 characters of text.
    package static let octetsMax = 253

    /// The lower-case A-label form, which goes on the wire and into the database.
    package let ascii: String

    package var description: String { ascii }

    /// The name's labels from left to right; at least one.
    package var labels: [Substring] { ascii.split(separator: ".") }

    /// The form for people's eyes, with U-labels where the name decodes to them.
    package var unicode: String {
        var output: UnsafeMutablePointer<CChar>?
        guard idn2_to_unicode_8z8z(ascii, &output, 0) == IDN2_OK.rawValue, let output else { return ascii }
        defer { idn2_free(output) }
        return String(cString: output)
    }

    /// Normalises what a person or a peer gave; one dot at the end is taken as the root's and dropped.
    package init(_ text: String) throws(AddressFault) {
        guard !text.isEmpty else { throw .empty }
        ascii = try Self.normalized(text.hasSuffix(".") ? String(text.dropLast()) : text)
    }

    /// The A-label form of a name without a dot at its end.
    static func normalized(_ text: String) throws(AddressFault) -> String {
        // U-labels may be longer than what they encode to; beyond this no name can be valid.
        guard text.utf8.count <= 4 * octetsMax else { throw .domainTooLong }
        var allASCII = true
        for byte in text.utf8 {
            // A NUL would also end the C string early and hide what follows it.
            guard byte > 0x20, byte != 0x7F else { throw .domainMalformed }
            if byte >= 0x80 { allASCII = false }
        }
        let name = allASCII ? text.lowercased() : try aLabels(of: text)
        try check(name)
        return name
    }

    private static func aLabels(of text: String) throws(AddressFault) -> String {
        var output: UnsafeMutablePointer<CChar>?
        let flags = Int32(IDN2_NFC_INPUT.rawValue | IDN2_NONTRANSITIONAL.rawValue)
        let status = idn2_to_ascii_8z(text, &output, flags)
        guard status == IDN2_OK.rawValue, let output else {
            switch status {
            case IDN2_TOO_BIG_LABEL.rawValue: throw .labelTooLong
            case IDN2_TOO_BIG_DOMAIN.rawValue: throw .domainTooLong
            default: throw .domainMalformed
            }
        }
        defer { idn2_free(output) }
        return String(cString: output).lowercased()
    }

    // RFC 5321 §4.1.2: letters, digits and hyphens, no hyphen at either end of a label.
    private static func check(_ name: String) throws(AddressFault) {
        guard name.utf8.count <= octetsMax else { throw .domainTooLong }
        let labels = name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        for label in labels {
            guard let first = label.first, let last = label.last else { throw .domainMalformed }
            guard label.count <= 63 else { throw .labelTooLong }
            guard first != UInt8(ascii: "-"), last != UInt8(ascii: "-") else { throw .domainMalformed }
            guard label.allSatisfy({ Self.isLetterDigitHyphen($0) }) else { throw .domainMalformed }
        }
        // No top-level domain is a number (RFC 3696 §2); what ends in one is an IPv4 address in some spelling.
        guard let top = labels.last else { throw .domainMalformed }
        let isNumber = top.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        guard !isNumber, !(top.starts(with: Array("0x".utf8))) else { throw .addressLiteral }
    }

    private static func isLetterDigitHyphen(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
}

extension DomainName: Codable {
    package init(from decoder: any Decoder) throws {
        try self.init(decoder.singleValueContainer().decode(String.self))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(ascii)
    }
}
