// Base64 (RFC 4648 §4) written straight into the message's array; attachments make this a hot loop.

/// Encodes octets as base64, in one run or in lines of 76.
enum Base64Encoder {
    private static let alphabet = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8
    )
    /// 57 octets make one line of 76 characters (RFC 2045 §6.8).
    private static let lineOctets = 57

    /// Appends one run without line breaks.
    static func append(_ octets: some Collection<UInt8>, to output: inout [UInt8]) {
        let octets = Array(octets)
        octets.withUnsafeBufferPointer { append($0, 0..<$0.count, to: &output) }
    }

    /// Appends lines of 76 characters, each with its line break; an empty content is one empty line.
    static func appendLines(_ octets: [UInt8], to output: inout [UInt8]) {
        octets.withUnsafeBufferPointer { octets in
            var start = 0
            repeat {
                let end = min(start + lineOctets, octets.count)
                append(octets, start..<end, to: &output)
                output.append(0x0D)
                output.append(0x0A)
                start = end
            } while start < octets.count
        }
    }

    /// Bytes that `appendLines` writes for so many octets.
    static func lineOctets(of count: Int) -> Int {
        let (lines, rest) = count.quotientAndRemainder(dividingBy: lineOctets)
        let last = rest == 0 && lines > 0 ? 0 : (rest + 2) / 3 * 4 + 2
        return lines * (lineOctets / 3 * 4 + 2) + last
    }

    /// One run as text.
    static func string(_ octets: some Collection<UInt8>) -> String {
        var output: [UInt8] = []
        append(octets, to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    private static func append(
        _ octets: UnsafeBufferPointer<UInt8>,
        _ range: Range<Int>,
        to output: inout [UInt8]
    ) {
        alphabet.withUnsafeBufferPointer { alphabet in
            var index = range.lowerBound
            while index + 2 < range.upperBound {
                let group =
                    UInt32(octets[index]) << 16 | UInt32(octets[index + 1]) << 8 | UInt32(octets[index + 2])
                output.append(alphabet[Int(group >> 18)])
                output.append(alphabet[Int(group >> 12 & 63)])
                output.append(alphabet[Int(group >> 6 & 63)])
                output.append(alphabet[Int(group & 63)])
                index += 3
            }
            let left = range.upperBound - index
            guard left > 0 else { return }
            let group = UInt32(octets[index]) << 16 | (left == 2 ? UInt32(octets[index + 1]) << 8 : 0)
            output.append(alphabet[Int(group >> 18)])
            output.append(alphabet[Int(group >> 12 & 63)])
            output.append(left == 2 ? alphabet[Int(group >> 6 & 63)] : UInt8(ascii: "="))
            output.append(UInt8(ascii: "="))
        }
    }
}
