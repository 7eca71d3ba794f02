// The part before @: a dot-string or a quoted string (RFC 5321 §4.1.2), with UTF-8 as RFC 6531 adds it.

/// A local part read from the beginning of an address.
struct LocalPart {
    /// The shortest wire form: quotes fall away where the content does not need them.
    let wire: String
    /// Index of the @ that follows.
    let end: Int

    init(readingFrom bytes: [UInt8]) throws(AddressFault) {
        let content: [UInt8]
        if bytes.first == UInt8(ascii: "\"") {
            (content, end) = try Self.quoted(bytes)
        } else {
            guard let at = bytes.firstIndex(of: UInt8(ascii: "@")) else { throw .atSignMissing }
            content = Array(bytes[..<at])
            end = at
            guard Self.isDotString(content) else { throw .localPartMalformed }
        }
        guard end < bytes.count, bytes[end] == UInt8(ascii: "@") else { throw .localPartMalformed }
        wire = Self.isDotString(content) ? String(decoding: content, as: UTF8.self) : Self.quote(content)
    }

    private static func quoted(_ bytes: [UInt8]) throws(AddressFault) -> (content: [UInt8], end: Int) {
        var content: [UInt8] = []
        var index = 1
        while index < bytes.count {
            switch bytes[index] {
            case UInt8(ascii: "\""):
                return (content, index + 1)
            case UInt8(ascii: "\\"):
                index += 1
                guard index < bytes.count, (0x20...0x7E).contains(bytes[index]) else {
                    throw .localPartMalformed
                }
                content.append(bytes[index])
            case 0x20...0x7E, 0x80...0xFF:
                content.append(bytes[index])
            default:
                throw .localPartMalformed
            }
            index += 1
        }
        throw .localPartMalformed
    }

    private static func quote(_ content: [UInt8]) -> String {
        var quoted: [UInt8] = [UInt8(ascii: "\"")]
        for byte in content {
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { quoted.append(UInt8(ascii: "\\")) }
            quoted.append(byte)
        }
        quoted.append(UInt8(ascii: "\""))
        return String(decoding: quoted, as: UTF8.self)
    }

    private static func isDotString(_ bytes: [UInt8]) -> Bool {
        var afterDot = true
        for byte in bytes {
            if byte == UInt8(ascii: ".") {
                guard !afterDot else { return false }
                afterDot = true
            } else {
                guard isAtomText(byte) || byte >= 0x80 else { return false }
                afterDot = false
            }
        }
        return !afterDot
    }

    /// RFC 5322 §3.2.3 `atext`.
    static func isAtomText(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
            UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "/"),
            UInt8(ascii: "="), UInt8(ascii: "?"), UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"),
            UInt8(ascii: "{"), UInt8(ascii: "|"), UInt8(ascii: "}"), UInt8(ascii: "~"):
            true
        default:
            false
        }
    }

    /// Characters that let an address look like another one: C1 controls, line separators, direction overrides.
    static func isForbidden(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x80...0x9F, 0x2028...0x202E, 0x2066...0x2069, 0xFEFF, 0xFFF9...0xFFFD: true
        default: false
        }
    }
}
