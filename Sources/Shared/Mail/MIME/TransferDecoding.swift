// RFC 2045 §6: how a part's bytes travel, read as generously as real mail needs. Every decoder is one pass.

/// Content-Transfer-Encoding.
package enum TransferDecoding: Sendable, Equatable {
    /// 7bit, 8bit, binary, and everything unknown.
    case identity
    case quotedPrintable
    case base64
    case uuencode

    /// The encoding a header value means; comments and stray punctuation are looked over.
    package init(_ value: [UInt8]) {
        var word: [UInt8] = []
        for byte in value {
            if byte.isLetter || byte.isDigit || byte == ASCII.dash {
                word.append(byte.lowered)
            } else if !word.isEmpty {
                break
            }
        }
        switch String(decoding: word, as: UTF8.self) {
        case "quoted-printable", "quotedprintable", "qp": self = .quotedPrintable
        case "base64", "base-64", "b64": self = .base64
        case "uuencode", "x-uuencode", "uue", "x-uue", "x-uu": self = .uuencode
        default: self = .identity
        }
    }

    /// The bytes of `range` as they were before they were encoded.
    package func decode(_ bytes: [UInt8], in range: Range<Int>) -> [UInt8] {
        switch self {
        case .identity: Array(bytes[range])
        case .quotedPrintable: Self.quotedPrintable(bytes[range])
        case .base64: Self.base64(bytes[range])
        case .uuencode: Self.uuencode(bytes, in: range)
        }
    }

    /// RFC 2045 §6.8; bytes outside the alphabet are skipped, padding may stand anywhere and begins a new quantum.
    static func base64(_ bytes: some Collection<UInt8>) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(bytes.count / 4 * 3 + 3)
        var bits: UInt32 = 0
        var count = 0
        for byte in bytes {
            let value = base64Values[Int(byte)]
            if value == 0xFF {
                guard byte == ASCII.equals else { continue }
                flush(bits, count, into: &output)
                (bits, count) = (0, 0)
                continue
            }
            bits = bits << 6 | UInt32(value)
            count += 1
            guard count == 4 else { continue }
            output.append(UInt8(truncatingIfNeeded: bits >> 16))
            output.append(UInt8(truncatingIfNeeded: bits >> 8))
            output.append(UInt8(truncatingIfNeeded: bits))
            (bits, count) = (0, 0)
        }
        flush(bits, count, into: &output)
        return output
    }

    private static func flush(_ bits: UInt32, _ count: Int, into output: inout [UInt8]) {
        if count == 3 {
            output.append(UInt8(truncatingIfNeeded: bits >> 10))
            output.append(UInt8(truncatingIfNeeded: bits >> 2))
        } else if count == 2 {
            output.append(UInt8(truncatingIfNeeded: bits >> 4))
        }
    }

    private static let base64Values: [UInt8] = {
        var values = [UInt8](repeating: 0xFF, count: 256)
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        for (value, byte) in alphabet.enumerated() { values[Int(byte)] = UInt8(value) }
        return values
    }()

    /// RFC 2045 §6.7; what is no valid escape is kept as it stands.
    static func quotedPrintable(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(bytes.count)
        /// How much of `output` stays when the line ends here: blanks at a line's end are not part of it (rule 3).
        var solid = 0
        var position = bytes.startIndex
        while position < bytes.endIndex {
            let byte = bytes[position]
            position += 1
            switch byte {
            case ASCII.equals:
                if let skip = softBreak(bytes, at: position) {
                    position = skip
                } else if position + 1 < bytes.endIndex, let high = bytes[position].hexValue,
                    let low = bytes[position + 1].hexValue
                {
                    output.append(high << 4 | low)
                    position += 2
                } else {
                    output.append(byte)
                }
                solid = output.count
            case ASCII.lf:
                let hadCarriage = output.count > solid && output.last == ASCII.cr
                output.removeSubrange(solid...)
                if hadCarriage { output.append(ASCII.cr) }
                output.append(ASCII.lf)
                solid = output.count
            case ASCII.space, ASCII.tab, ASCII.cr:
                output.append(byte)
            default:
                output.append(byte)
                solid = output.count
            }
        }
        return output
    }

    /// Where the text goes on after `=` + blanks + line end; nil where that is no soft line break.
    private static func softBreak(_ bytes: ArraySlice<UInt8>, at start: Int) -> Int? {
        var position = start
        while position < bytes.endIndex, bytes[position].isBlank || bytes[position] == ASCII.cr {
            position += 1
        }
        guard position < bytes.endIndex else { return position }
        return bytes[position] == ASCII.lf ? position + 1 : nil
    }

    /// The classic `begin 644 name` … `end`; without a begin line everything is taken as encoded.
    static func uuencode(_ bytes: [UInt8], in range: Range<Int>) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(range.count / 4 * 3)
        var position = range.lowerBound
        while position < range.upperBound {
            let (content, next) = bytes.line(at: position, limit: range.upperBound)
            position = next
            if bytes.matches("begin ", at: content.lowerBound) { continue }
            if bytes.matches("end", at: content.lowerBound), content.count == 3 { break }
            uuencodedLine(bytes[content], into: &output)
        }
        return output
    }

    private static func uuencodedLine(_ line: ArraySlice<UInt8>, into output: inout [UInt8]) {
        guard let first = line.first, (0x20...0x60).contains(first) else { return }
        let wanted = Int((first &- 0x20) & 0x3F)
        let end = output.count + wanted
        var bits: UInt32 = 0
        var count = 0
        // Blanks at a line's end stand for zeros, and get lost on the way.
        let missing = (4 - (line.count - 1) % 4) % 4
        for byte in Array(line.dropFirst()) + Array(repeating: ASCII.space, count: missing)
        where output.count < end {
            bits = bits << 6 | UInt32((byte &- 0x20) & 0x3F)
            count += 1
            guard count == 4 else { continue }
            for shift in [UInt32(16), 8, 0] where output.count < end {
                output.append(UInt8(truncatingIfNeeded: bits >> shift))
            }
            (bits, count) = (0, 0)
        }
    }
}
