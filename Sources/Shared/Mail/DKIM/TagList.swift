// The `tag=value;` lists of signatures and key records (RFC 6376 §3.2).

import FoundationEssentials

/// A parsed tag list; a repeated tag or a piece without `=` makes the whole list invalid.
struct TagList {
    private static let tagsMax = 64

    private let values: [String: ArraySlice<UInt8>]

    init?(_ bytes: ArraySlice<UInt8>) {
        var values: [String: ArraySlice<UInt8>] = [:]
        for piece in bytes.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: true) {
            if Self.trimmed(piece).isEmpty { continue }
            guard let equals = piece.firstIndex(of: UInt8(ascii: "=")) else { return nil }
            let name = String(decoding: Self.trimmed(piece[..<equals]), as: UTF8.self)
            guard !name.isEmpty, values[name] == nil, values.count < Self.tagsMax else { return nil }
            values[name] = piece[piece.index(after: equals)...]
        }
        self.values = values
    }

    /// The tag's value with all blanks and folds removed; nil when the tag is absent.
    subscript(name: String) -> String? {
        values[name].map { String(decoding: $0.filter { !Self.isBlank($0) }, as: UTF8.self) }
    }

    /// Where the tag's value lies in the bytes that were parsed: all between its `=` and the next `;` or the end.
    func range(of name: String) -> Range<Int>? {
        values[name].map { $0.startIndex..<$0.endIndex }
    }

    /// The value's pieces between colons, in lower case, which is how lists of names are compared.
    func list(_ name: String) -> [String]? {
        self[name].map { $0.lowercased().split(separator: ":").map(String.init) }
    }

    /// The value decoded from base64; nil when it is absent or no base64.
    func base64(_ name: String) -> [UInt8]? {
        guard let text = self[name] else { return nil }
        // Missing padding is common in published keys, and harmless.
        let padding = String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        return Data(base64Encoded: text + padding).map { Array($0) }
    }

    static func isBlank(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0D || byte == 0x0A
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let front = bytes.drop(while: isBlank)
        guard let last = front.lastIndex(where: { !isBlank($0) }) else { return front.prefix(0) }
        return front[...last]
    }
}
