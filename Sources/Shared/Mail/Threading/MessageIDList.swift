// RFC 5322 §3.6.4: Message-ID, In-Reply-To, References.

/// Message ids in a header's value.
package enum MessageIDList {
    /// More ids of one field than this are looked over: the newest ones count.
    static let idsMax = 200
    /// More bytes of one id than this make it no id.
    static let idSizeMax = 998

    /// The ids with their angle brackets, without blanks, in order; text without brackets counts where it has an @.
    package static func ids(in value: [UInt8]) -> [String] {
        var ids: [String] = []
        var position = 0
        while let start = value.position(of: ASCII.less, from: position) {
            guard let end = value.position(of: ASCII.greater, from: start + 1) else { break }
            // `<a <b@c>`: the last bracket is the one that counts.
            let from = value[start..<end].lastIndex(of: ASCII.less) ?? start
            if let id = id(value[(from + 1)..<end]) { ids.append(id) }
            position = end + 1
        }
        if ids.isEmpty {
            // Bare ids, as some senders write them.
            ids = value.split(whereSeparator: { $0.isSpace || $0 == UInt8(ascii: ",") }).prefix(idsMax)
                .filter { $0.contains(0x40) && !$0.contains(ASCII.less) }.compactMap { id($0) }
        }
        return ids.count > idsMax ? Array(ids.suffix(idsMax)) : ids
    }

    private static func id(_ bytes: ArraySlice<UInt8>) -> String? {
        let text = bytes.filter { !$0.isSpace && $0 > 0x1F && $0 != 0x7F }
        guard !text.isEmpty, text.count <= idSizeMax else { return nil }
        return "<\(String(decoding: text, as: UTF8.self))>"
    }
}
