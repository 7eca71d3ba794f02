// Bodies in 7 bits (RFC 2045 §6): quoted-printable for text that is mostly ASCII, base64 for the rest.

/// How a body's octets are carried.
enum TransferEncoding: String {
    case quotedPrintable = "quoted-printable"
    case base64 = "base64"

    /// The shorter one for this text.
    static func best(for text: UnsafeBufferPointer<UInt8>) -> TransferEncoding {
        var escaped = 0
        for byte in text
        where byte > 0x7E || byte == UInt8(ascii: "=") || (byte < 0x20 && !isBreakOrTab(byte)) {
            escaped += 1
        }
        // 3 octets for each escaped one against 4 for every 3.
        return escaped * 6 > text.count ? .base64 : .quotedPrintable
    }

    /// The text with CRLF for each line break, whichever it came with.
    static func withCRLF(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(text.count + text.count / 16)
        var index = 0
        while index < text.count {
            let byte = text[index]
            if byte == 0x0D || byte == 0x0A {
                output.append(0x0D)
                output.append(0x0A)
                if byte == 0x0D, index + 1 < text.count, text[index + 1] == 0x0A { index += 1 }
            } else {
                output.append(byte)
            }
            index += 1
        }
        return output
    }

    private static func isBreakOrTab(_ byte: UInt8) -> Bool { byte == 0x0D || byte == 0x0A || byte == 0x09 }
}

/// RFC 2045 §6.7, lines of at most 76 octets.
enum QuotedPrintableEncoder {
    /// Appends the encoded text and, where it does not end with one, a line break.
    static func append(_ text: UnsafeBufferPointer<UInt8>, to output: inout [UInt8]) {
        var column = 0
        var index = 0
        while index < text.count {
            let byte = text[index]
            if byte == 0x0D || byte == 0x0A {
                output.append(0x0D)
                output.append(0x0A)
                column = 0
                if byte == 0x0D, index + 1 < text.count, text[index + 1] == 0x0A { index += 1 }
                index += 1
                continue
            }
            if column + (isEscaped(text, index, column: column) ? 3 : 1) > 75 {
                output.append(UInt8(ascii: "="))
                output.append(0x0D)
                output.append(0x0A)
                column = 0
            }
            // Asked again, because the first octet of a line has rules of its own.
            if isEscaped(text, index, column: column) {
                output.append(UInt8(ascii: "="))
                appendHex(byte, to: &output)
                column += 3
            } else {
                output.append(byte)
                column += 1
            }
            index += 1
        }
        if column > 0 || text.isEmpty {
            output.append(0x0D)
            output.append(0x0A)
        }
    }

    static func appendHex(_ byte: UInt8, to output: inout [UInt8]) {
        output.append(hex(byte >> 4))
        output.append(hex(byte & 15))
    }

    private static func hex(_ digit: UInt8) -> UInt8 {
        digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "A") + digit - 10
    }

    private static func isEscaped(_ text: UnsafeBufferPointer<UInt8>, _ index: Int, column: Int) -> Bool {
        let byte = text[index]
        switch byte {
        case UInt8(ascii: "="): return true
        case UInt8(ascii: " "), 0x09:
            // Blanks at the end of a line are lost on the way.
            return index + 1 == text.count || text[index + 1] == 0x0D || text[index + 1] == 0x0A
        case UInt8(ascii: "."):
            // A dot at the beginning survives hosts that forget RFC 5321 §4.5.2.
            return column == 0
        case UInt8(ascii: "F"):
            // Mailbox files turn "From " at the beginning into ">From ", which would break the signature.
            return column == 0 && index + 4 < text.count && text[index + 1] == UInt8(ascii: "r")
                && text[index + 2] == UInt8(ascii: "o") && text[index + 3] == UInt8(ascii: "m")
                && text[index + 4] == UInt8(ascii: " ")
        default: return byte < 0x20 || byte > 0x7E
        }
    }
}
