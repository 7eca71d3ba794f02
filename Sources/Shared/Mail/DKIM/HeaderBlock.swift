// Where the header fields of a message lie, without changing a byte of them: signatures are over bytes.

/// The fields of a message's header as ranges into its bytes, and where its body begins.
struct HeaderBlock {
    /// One field with its folded lines.
    struct Field {
        /// Without the colon; blanks before the colon belong to nobody.
        let name: Range<Int>
        /// From behind the colon to the end of the last line, without its line break.
        let value: Range<Int>
    }

    /// From top to bottom.
    let fields: [Field]
    /// Index of the first octet behind the empty line; the message's end when there is none.
    let bodyStart: Int
    private let indexes: [String: [Int]]

    init(of message: [UInt8]) {
        var fields: [Field] = []
        var indexes: [String: [Int]] = [:]
        var start = 0
        var bodyStart = message.count
        while start < message.count {
            let end = Self.lineEnd(message, from: start)
            if end == start {
                bodyStart = min(start + 2, message.count)
                break
            }
            var last = end
            var next = min(end + 2, message.count)
            while next < message.count, message[next] == 0x20 || message[next] == 0x09 {
                last = Self.lineEnd(message, from: next)
                next = min(last + 2, message.count)
            }
            if let colon = message[start..<last].firstIndex(of: UInt8(ascii: ":")) {
                let blanks = message[start..<colon].reversed().prefix { $0 == 0x20 || $0 == 0x09 }.count
                let name = start..<(colon - blanks)
                indexes[Self.lowercased(message[name]), default: []].append(fields.count)
                fields.append(Field(name: name, value: (colon + 1)..<last))
            }
            start = next
        }
        self.fields = fields
        self.bodyStart = bodyStart
        self.indexes = indexes
    }

    /// Fields of that lower-case name, from top to bottom.
    func fields(named name: String) -> [Field] {
        (indexes[name] ?? []).map { fields[$0] }
    }

    private static func lineEnd(_ message: [UInt8], from start: Int) -> Int {
        var index = start
        while index + 1 < message.count {
            if message[index] == 0x0D, message[index + 1] == 0x0A { return index }
            index += 1
        }
        return message.count
    }

    private static func lowercased(_ name: ArraySlice<UInt8>) -> String {
        String(decoding: name.map(HeaderCanonicalization.lowercased), as: UTF8.self)
    }
}
