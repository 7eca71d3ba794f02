// Bytes as letters and digits that survive a change of case: what mail servers may fold, as in a local part.

extension [UInt8] {
    /// Lower-case base32 without padding (RFC 4648 §6).
    package var base32: String {
        var text: [UInt8] = []
        text.reserveCapacity((count * 8 + 4) / 5)
        var (bits, held) = (0, 0)
        for byte in self {
            bits = (bits << 8 | Int(byte)) & 0xfff
            held += 8
            while held >= 5 {
                held -= 5
                text.append(base32Alphabet[bits >> held & 31])
            }
        }
        if held > 0 { text.append(base32Alphabet[bits << (5 - held) & 31]) }
        return String(decoding: text, as: UTF8.self)
    }

    /// Reads base32 of either case without padding; nil when it is not what `base32` would write.
    package init?(base32 text: some StringProtocol) {
        self = []
        reserveCapacity(text.utf8.count * 5 / 8)
        var (bits, held) = (0, 0)
        for digit in text.utf8 {
            guard let value = base32Value(digit) else { return nil }
            bits = (bits << 5 | value) & 0xfff
            held += 5
            if held >= 8 {
                held -= 8
                append(UInt8(truncatingIfNeeded: bits >> held))
            }
        }
        // A spare digit, or bits behind the last byte, would give one value several texts.
        guard held < 5, bits & ((1 << held) - 1) == 0 else { return nil }
    }
}

private let base32Alphabet = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)

private func base32Value(_ digit: UInt8) -> Int? {
    switch digit {
    case UInt8(ascii: "a")...UInt8(ascii: "z"): Int(digit - UInt8(ascii: "a"))
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): Int(digit - UInt8(ascii: "A"))
    case UInt8(ascii: "2")...UInt8(ascii: "7"): Int(digit - UInt8(ascii: "2")) + 26
    default: nil
    }
}
