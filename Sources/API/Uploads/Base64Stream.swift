// Base64 that comes in pieces (RFC 4648 §4): the whole alphabet and nothing else, padded, no line breaks.

import Foundation

/// Decodes strictly; what it holds between pieces is less than a group.
struct Base64Stream {
    /// The text is no base64.
    struct Broken: Error {}

    /// Digits of a group that is not whole yet.
    private var carry: [UInt8] = []
    /// A padded group ends the text.
    private var isOver = false

    /// Decodes what is whole.
    mutating func decode(_ digits: ArraySlice<UInt8>) throws(Broken) -> [UInt8] {
        guard !digits.isEmpty else { return [] }
        guard !isOver else { throw Broken() }
        let all = carry.isEmpty ? digits : (carry + digits)[...]
        let whole = all.prefix(all.count / 4 * 4)
        carry = Array(all[whole.endIndex...])
        guard !carry.contains(padding) || carry.first != padding else { throw Broken() }
        guard !whole.isEmpty else { return [] }
        // A group with padding is judged here, since Foundation forgives what stands behind one.
        guard Self.contains(whole, padding) else { return try Self.decode(groups: whole) }
        let last = whole.suffix(4)
        let before = whole.dropLast(4)
        guard carry.isEmpty, !Self.contains(before, padding) else { throw Broken() }
        isOver = true
        return try Self.decode(groups: before) + Self.decode(last: Array(last))
    }

    /// Nothing may be left over.
    func finish() throws(Broken) {
        guard carry.isEmpty else { throw Broken() }
    }

    private static func decode(groups: ArraySlice<UInt8>) throws(Broken) -> [UInt8] {
        guard !groups.isEmpty else { return [] }
        guard let data = Data(base64Encoded: Data(groups)), data.count == groups.count / 4 * 3 else {
            throw Broken()
        }
        return [UInt8](data)
    }

    private static func decode(last group: [UInt8]) throws(Broken) -> [UInt8] {
        let count = group[2] == padding ? 1 : 2
        guard group[3] == padding, !group.prefix(count + 1).contains(padding) else { throw Broken() }
        guard let data = Data(base64Encoded: Data(group)), data.count == count else { throw Broken() }
        // Bits behind the last octet must be zero (§3.5): others tell of a text that was cut.
        guard Array(data.base64EncodedData()) == group else { throw Broken() }
        return [UInt8](data)
    }

    private static func contains(_ bytes: ArraySlice<UInt8>, _ byte: UInt8) -> Bool {
        bytes.withUnsafeBytes { buffer in
            buffer.baseAddress.map { memchr($0, Int32(byte), buffer.count) != nil } ?? false
        }
    }
}

private let padding = UInt8(ascii: "=")
