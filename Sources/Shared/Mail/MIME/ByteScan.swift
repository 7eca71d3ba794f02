// Searching bytes: the only place in MIME and SMTP reading that touches unsafe memory.

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#endif

/// The ASCII bytes that mail syntax is made of.
enum ASCII {
    static let nul: UInt8 = 0x00
    static let tab: UInt8 = 0x09
    static let lf: UInt8 = 0x0A
    static let cr: UInt8 = 0x0D
    static let space: UInt8 = 0x20
    static let quote: UInt8 = 0x22
    static let dash: UInt8 = 0x2D
    static let dot: UInt8 = 0x2E
    static let colon: UInt8 = 0x3A
    static let semicolon: UInt8 = 0x3B
    static let less: UInt8 = 0x3C
    static let equals: UInt8 = 0x3D
    static let greater: UInt8 = 0x3E
    static let question: UInt8 = 0x3F
    static let backslash: UInt8 = 0x5C
    static let underscore: UInt8 = 0x5F
}

extension UInt8 {
    var isBlank: Bool { self == ASCII.space || self == ASCII.tab }
    var isSpace: Bool { self == ASCII.space || (self >= 0x09 && self <= 0x0D) }
    var isDigit: Bool { self >= 0x30 && self <= 0x39 }
    var isLetter: Bool { (self | 0x20) >= 0x61 && (self | 0x20) <= 0x7A }
    var lowered: UInt8 { self >= 0x41 && self <= 0x5A ? self | 0x20 : self }

    var hexValue: UInt8? {
        switch self {
        case 0x30...0x39: self - 0x30
        case 0x41...0x46: self - 0x41 + 10
        case 0x61...0x66: self - 0x61 + 10
        default: nil
        }
    }
}

extension Array where Element == UInt8 {
    /// The first place of `byte` in `range`, by memchr: debug builds stay fast too.
    func position(of byte: UInt8, in range: Range<Int>) -> Int? {
        guard !range.isEmpty else { return nil }
        return withUnsafeBytes { whole -> Int? in
            // The rebased slice checks the range; memchr then stays inside it.
            let part = UnsafeRawBufferPointer(rebasing: whole[range])
            guard let base = part.baseAddress, let hit = memchr(base, Int32(byte), part.count) else {
                return nil
            }
            return range.lowerBound + (UnsafeRawPointer(hit) - base)
        }
    }

    func position(of byte: UInt8, from start: Int) -> Int? {
        position(of: byte, in: Swift.min(start, count)..<count)
    }

    /// The first place of a short `pattern` in `range`.
    func position(of pattern: [UInt8], in range: Range<Int>) -> Int? {
        guard let first = pattern.first else { return nil }
        var start = range.lowerBound
        while let hit = position(of: first, in: start..<range.upperBound) {
            guard hit + pattern.count <= range.upperBound else { return nil }
            if self[hit..<(hit + pattern.count)] == pattern[...] { return hit }
            start = hit + 1
        }
        return nil
    }

    /// True where `range` starts with `text`, ASCII case aside.
    func matches(_ text: StaticString, at start: Int) -> Bool {
        let length = text.utf8CodeUnitCount
        guard start >= 0, start + length <= count else { return false }
        return text.withUTF8Buffer { wanted in
            for offset in 0..<length where self[start + offset].lowered != wanted[offset].lowered {
                return false
            }
            return true
        }
    }

    /// The range without blanks and line ends at either side.
    func trimmed(_ range: Range<Int>) -> Range<Int> {
        var lower = range.lowerBound
        var upper = range.upperBound
        while lower < upper, self[lower].isSpace { lower += 1 }
        while upper > lower, self[upper - 1].isSpace { upper -= 1 }
        return lower..<upper
    }

    /// Where the line that begins at `start` ends, and where the next one begins; LF and CRLF both end it.
    func line(at start: Int, limit: Int) -> (content: Range<Int>, next: Int) {
        guard let end = position(of: ASCII.lf, in: start..<limit) else { return (start..<limit, limit) }
        let content = end > start && self[end - 1] == ASCII.cr ? end - 1 : end
        return (start..<content, end + 1)
    }
}

extension String {
    /// The text in lower case, ASCII letters only: enough for names that protocols compare.
    var asciiLowercased: String {
        utf8.contains { $0 >= 0x41 && $0 <= 0x5A }
            ? String(decoding: utf8.map(\.lowered), as: UTF8.self) : self
    }

    /// The text without blanks and line ends at either side.
    var trimmedASCII: String {
        let bytes = Array(utf8)
        return String(decoding: bytes[bytes.trimmed(0..<bytes.count)], as: UTF8.self)
    }
}
