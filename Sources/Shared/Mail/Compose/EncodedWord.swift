// RFC 2047 encoded words in UTF-8: Q for mostly Latin text, which stays readable, B for the rest.

/// Writes pieces of one text as encoded words that never split a character.
struct EncodedWord {
    /// Room for one character of four octets in Q, with the frame around it.
    static let octetsMin = 12 + 12

    private let usesQ: Bool

    init(for text: [UInt8]) {
        let plain = text.count { Self.isPlain($0) || $0 == UInt8(ascii: " ") }
        // Half as long again is what being readable in raw mail is worth.
        usesQ = 2 * (plain + 3 * (text.count - plain)) <= 3 * ((text.count + 2) / 3 * 4)
    }

    /// Whether the text cannot stand in a header as it is, or would be taken for an encoded word.
    static func isNeeded(for text: [UInt8]) -> Bool {
        var previous: UInt8 = 0
        for byte in text {
            if byte >= 0x7F || (byte < 0x20 && byte != UInt8(ascii: "\t")) { return true }
            if byte == UInt8(ascii: "?"), previous == UInt8(ascii: "=") { return true }
            previous = byte
        }
        return false
    }

    /// Appends one encoded word of at most `room` octets and says where the next one begins.
    func append(_ text: [UInt8], from start: Int, room: Int, to output: inout [UInt8]) -> Int {
        let budget = room - 12
        var end = start
        var used = 0
        while end < text.count {
            let next = min(end + Self.scalarOctets(text[end]), text.count)
            let cost =
                usesQ
                ? text[end..<next].reduce(0) { $0 + (Self.isPlain($1) || $1 == UInt8(ascii: " ") ? 1 : 3) }
                : (next - start + 2) / 3 * 4 - used
            if used + cost > budget { break }
            used += cost
            end = next
        }
        // Never empty, so that a caller's loop ends whatever room it offers.
        if end == start { end = min(start + Self.scalarOctets(text[start]), text.count) }
        output.append(contentsOf: usesQ ? "=?UTF-8?Q?".utf8 : "=?UTF-8?B?".utf8)
        if usesQ {
            for byte in text[start..<end] { appendQ(byte, to: &output) }
        } else {
            Base64Encoder.append(text[start..<end], to: &output)
        }
        output.append(contentsOf: "?=".utf8)
        return end
    }

    private func appendQ(_ byte: UInt8, to output: inout [UInt8]) {
        if byte == UInt8(ascii: " ") {
            output.append(UInt8(ascii: "_"))
        } else if Self.isPlain(byte) {
            output.append(byte)
        } else {
            output.append(UInt8(ascii: "="))
            QuotedPrintableEncoder.appendHex(byte, to: &output)
        }
    }

    // The set of RFC 2047 §5 (3), which is safe in phrases too.
    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "!"), UInt8(ascii: "*"), UInt8(ascii: "+"),
            UInt8(ascii: "-"), UInt8(ascii: "/"):
            true
        default:
            false
        }
    }

    /// Octets of the character that begins with this octet of valid UTF-8.
    static func scalarOctets(_ first: UInt8) -> Int {
        switch first {
        case 0xF0...0xFF: 4
        case 0xE0...0xEF: 3
        case 0xC0...0xDF: 2
        default: 1
        }
    }
}
