// A person's or program's address with the name shown beside it.

/// An address with an optional display name: `ada@example.com` or `Ada Lovelace <ada@example.com>`.
package struct Mailbox: Sendable, Hashable, CustomStringConvertible {
    /// Longer names are refused, in octets.
    package static let displayNameOctetsMax = 512

    /// The name as people read it, decoded and unquoted; nil when there is none.
    package let displayName: String?
    package let address: EmailAddress

    /// Puts a name beside a checked address; blanks around the name go, an empty name is none.
    package init(displayName: String?, address: EmailAddress) throws(AddressFault) {
        let name = displayName.map(Self.trimmed) ?? ""
        guard name.utf8.count <= Self.displayNameOctetsMax else { throw .displayNameMalformed }
        // A line break here could become a header of its own.
        guard !name.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) })
        else {
            throw .displayNameMalformed
        }
        self.displayName = name.isEmpty ? nil : name
        self.address = address
    }

    /// A mailbox without a name.
    package init(_ address: EmailAddress) {
        displayName = nil
        self.address = address
    }

    /// Reads `address`, `<address>`, `Name <address>` or `"Quoted, Name" <address>`.
    package init(_ text: String, allowingLiteral: Bool = false) throws(AddressFault) {
        let text = Self.trimmed(text)
        guard !text.isEmpty else { throw .empty }
        guard text.utf8.count <= 4_096 else { throw .tooLong }
        guard let opening = Self.openingBracket(of: text) else {
            self.init(try EmailAddress(text, allowingLiteral: allowingLiteral))
            return
        }
        guard text.hasSuffix(">") else { throw .mailboxMalformed }
        let inner = text[text.index(after: opening)...].dropLast()
        try self.init(
            displayName: Self.unquoted(Self.trimmed(text[..<opening])),
            address: EmailAddress(Self.trimmed(inner), allowingLiteral: allowingLiteral)
        )
    }

    /// The form that the initializer reads back; quoted where the name needs it, never encoded.
    package var description: String {
        guard let displayName else { return address.description }
        let isPlain = displayName.utf8.allSatisfy { LocalPart.isAtomText($0) || $0 == 0x20 || $0 >= 0x80 }
        guard !isPlain else { return "\(displayName) <\(address)>" }
        var quoted = ""
        for character in displayName.unicodeScalars {
            if character == "\"" || character == "\\" { quoted.append("\\") }
            quoted.unicodeScalars.append(character)
        }
        return "\"\(quoted)\" <\(address)>"
    }

    // The first < outside a quoted string. A quoted local part of a bare address has none.
    private static func openingBracket(of text: String) -> String.Index? {
        var inQuotes = false
        var escaped = false
        for index in text.utf8.indices {
            let byte = text.utf8[index]
            if escaped {
                escaped = false
            } else if inQuotes, byte == UInt8(ascii: "\\") {
                escaped = true
            } else if byte == UInt8(ascii: "\"") {
                inQuotes.toggle()
            } else if !inQuotes, byte == UInt8(ascii: "<") {
                return index
            }
        }
        return nil
    }

    private static func unquoted(_ name: String) throws(AddressFault) -> String {
        guard name.hasPrefix("\"") else {
            guard !name.utf8.contains(where: { $0 == UInt8(ascii: "<") || $0 == UInt8(ascii: ">") }) else {
                throw .mailboxMalformed
            }
            return name
        }
        var content = String.UnicodeScalarView()
        var scalars = name.unicodeScalars.dropFirst().makeIterator()
        while let scalar = scalars.next() {
            switch scalar {
            case "\"":
                guard scalars.next() == nil else { throw .mailboxMalformed }
                return String(content)
            case "\\":
                guard let next = scalars.next() else { throw .mailboxMalformed }
                content.append(next)
            default:
                content.append(scalar)
            }
        }
        throw .mailboxMalformed
    }

    private static func trimmed(_ text: some StringProtocol) -> String {
        func isBlank(_ scalar: Unicode.Scalar) -> Bool { scalar == " " || scalar == "\t" }
        let scalars = text.unicodeScalars.drop(while: isBlank)
        guard let last = scalars.lastIndex(where: { !isBlank($0) }) else { return "" }
        return String(String.UnicodeScalarView(scalars[...last]))
    }
}

extension Mailbox: Codable {
    package init(from decoder: any Decoder) throws {
        try self.init(decoder.singleValueContainer().decode(String.self), allowingLiteral: true)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
