// The reply of a server inside of somebody else's text.

/// A piece of diagnostic text, with the code and the status that stand in it.
struct Diagnostic {
    /// On one line.
    let text: String
    let code: Int?
    let status: EnhancedStatus?

    /// The refusal is said to have come after the data.
    let isAfterData: Bool

    private static let textMax = 1_000
    private static let scanMax = 1 << 14

    init(_ text: some StringProtocol) {
        let bytes = Array(text.utf8.prefix(Self.scanMax))
        let status = Self.status(bytes)
        self.status = status
        code = Self.code(bytes, status: status)
        let lower = String(decoding: bytes, as: UTF8.self).lowercased()
        isAfterData = Self.dataPhrases.contains { lower.contains($0) }
        self.text = String(
            String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).joined(
                separator: " "
            )
            .prefix(Self.textMax)
        )
    }

    private static let dataPhrases = [
        "in reply to end of data", "smtp command data", "after end of data", ">>> data", "our final data",
        "end of message", "after sending data", "data command)",
    ]

    /// The first enhanced status in a text.
    static func status(in text: String) -> EnhancedStatus? { status(Array(text.utf8.prefix(scanMax))) }

    /// The status that says most: one with a subject, if there is any.
    private static func status(_ bytes: [UInt8]) -> EnhancedStatus? {
        var first: EnhancedStatus?
        for start in bytes.indices where bytes[start].isDigit {
            guard let status = status(bytes, at: start) else { continue }
            if status.subject != 0 { return status }
            first = first ?? status
        }
        return first
    }

    /// `5.1.1`, not part of a longer number or of an IP address.
    private static func status(_ bytes: [UInt8], at start: Int) -> EnhancedStatus? {
        if start > 0 {
            let before = bytes[start - 1]
            guard !before.isDigit, !before.isLetter, before != ASCII.dot, before != ASCII.dash else {
                return nil
            }
        }
        guard [0x32, 0x34, 0x35].contains(bytes[start]) else { return nil }
        var fields: [Int] = []
        var position = start
        for _ in 0..<3 {
            var number = 0
            let first = position
            while position < bytes.count, bytes[position].isDigit, position - first < 3 {
                number = number * 10 + Int(bytes[position] - 0x30)
                position += 1
            }
            guard position > first else { return nil }
            fields.append(number)
            guard fields.count < 3 else { break }
            guard position < bytes.count, bytes[position] == ASCII.dot else { return nil }
            position += 1
        }
        if position < bytes.count {
            let after = bytes[position]
            guard !after.isDigit, !after.isLetter else { return nil }
            // 5.1.1. ends a sentence, 5.1.1.20 is an address.
            if after == ASCII.dot, position + 1 < bytes.count, bytes[position + 1].isDigit { return nil }
        }
        guard fields[0] < 10 else { return nil }
        return EnhancedStatus(fields[0], fields[1], fields[2])
    }

    /// A three-digit code that begins a reply: before a status of its class, or after a word that announces it.
    private static func code(_ bytes: [UInt8], status: EnhancedStatus?) -> Int? {
        for start in bytes.indices where bytes[start] == 0x34 || bytes[start] == 0x35 {
            guard start + 2 < bytes.count, bytes[start + 1] <= 0x37, bytes[start + 1].isDigit,
                bytes[start + 2].isDigit, isBoundary(bytes, start - 1), isEnd(bytes, start + 3)
            else { continue }
            let code =
                Int(bytes[start] - 0x30) * 100 + Int(bytes[start + 1] - 0x30) * 10
                + Int(bytes[start + 2] - 0x30)
            if let status, status.class != code / 100, status.class != 2 { continue }
            return code
        }
        return nil
    }

    private static func isBoundary(_ bytes: [UInt8], _ position: Int) -> Bool {
        guard position >= 0 else { return true }
        let byte = bytes[position]
        return byte.isSpace || byte == ASCII.colon || byte == ASCII.quote || byte == ASCII.greater
            || byte == 0x28
            || byte == 0x27 || byte == ASCII.equals || byte == ASCII.semicolon || byte == 0x23 || byte == 0x5B
    }

    private static func isEnd(_ bytes: [UInt8], _ position: Int) -> Bool {
        guard position < bytes.count else { return true }
        let byte = bytes[position]
        return byte.isSpace || byte == ASCII.dash || byte == ASCII.colon || byte == 0x2C
            || byte == ASCII.semicolon
            || byte == 0x29 || byte == ASCII.quote || byte == 0x23
    }
}
