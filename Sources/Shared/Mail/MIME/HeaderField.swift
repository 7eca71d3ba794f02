// RFC 5322 §2.2: header fields as they came, unfolded and found by name.

/// One header field of a message or a part, as received.
package struct HeaderField: Sendable, Hashable {
    /// As the sender wrote it.
    package let name: String
    /// Unfolded, without blanks at its ends, otherwise raw: 8-bit bytes and encoded words are still there.
    package let value: [UInt8]

    package init(name: String, value: [UInt8]) {
        self.name = name
        self.value = value
    }

    /// The value as text, encoded words decoded.
    package var text: String { EncodedText.decode(value) }

    /// True for this name in any case (RFC 5322 §1.2.2).
    package func isNamed(_ other: String) -> Bool {
        name.utf8.count == other.utf8.count && name.asciiLowercased == other.asciiLowercased
    }
}

/// The header of a message or a part.
struct PartHeader: Sendable {
    var fields: [HeaderField] = []
    /// Where the body begins.
    var end = 0

    /// More fields than this are looked over.
    static let fieldsMax = 2_000
    /// More bytes of one field than this are cut off.
    static let fieldSizeMax = 1 << 18

    /// A header with no field.
    init() {}

    /// Reads the header at `start`; `isDelimiter` tells whether a line that begins with `--` ends a part, with or
    /// without the empty line that should stand before it.
    init(
        _ bytes: [UInt8],
        at start: Int,
        limit: Int,
        isRoot: Bool,
        isDelimiter: (Range<Int>) -> Bool = { _ in false }
    ) {
        var position = isRoot ? Self.skipLeading(bytes, at: start, limit: limit) : start
        var name: String?
        var value: [UInt8] = []
        func finish() {
            guard let name, fields.count < Self.fieldsMax else { return }
            fields.append(HeaderField(name: name, value: Array(value[value.trimmed(0..<value.count)])))
        }
        while position < limit {
            let (line, next) = bytes.line(at: position, limit: limit)
            if line.isEmpty {
                position = next
                break
            }
            if bytes[line.lowerBound] == ASCII.dash, isDelimiter(line) { break }
            if bytes[line.lowerBound].isBlank, name != nil {
                Self.unfold(bytes[line], into: &value)
            } else if let colon = Self.nameEnd(bytes, in: line) {
                finish()
                let label = bytes.trimmed(line.lowerBound..<colon)
                name = String(decoding: bytes[label], as: UTF8.self)
                value = Array(bytes[(colon + 1)..<line.upperBound].prefix(Self.fieldSizeMax))
            } else if !Self.isStray(bytes, line: line, next: next, limit: limit) {
                // Text where a field should be: the empty line is missing and the body begins here.
                break
            }
            position = next
        }
        finish()
        end = position
    }

    /// True where a header may begin: a field's name and a colon.
    static func beginsField(_ bytes: [UInt8], at start: Int, limit: Int) -> Bool {
        nameEnd(bytes, in: bytes.line(at: start, limit: limit).content) != nil
    }

    /// True where a message with a header begins, after empty lines and an mbox separator.
    static func beginsMessage(_ bytes: [UInt8], at start: Int, limit: Int) -> Bool {
        beginsField(bytes, at: skipLeading(bytes, at: start, limit: limit), limit: limit)
    }

    /// Empty lines and an mbox separator before the first field; where no field follows, nothing is skipped.
    private static func skipLeading(_ bytes: [UInt8], at start: Int, limit: Int) -> Int {
        var position = start
        if bytes.matches("\u{FEFF}", at: position) { position += 3 }
        while position < limit {
            let (line, next) = bytes.line(at: position, limit: limit)
            let isSeparator = bytes.matches("From ", at: position) || bytes.matches(">From ", at: position)
            guard bytes.trimmed(line).isEmpty || isSeparator else { break }
            position = next
        }
        return beginsField(bytes, at: position, limit: limit) ? position : start
    }

    /// A line inside the header that is no field: noise of some relay, if a field that mail really has follows soon.
    private static func isStray(_ bytes: [UInt8], line: Range<Int>, next: Int, limit: Int) -> Bool {
        if bytes.matches("From ", at: line.lowerBound) || bytes.matches(">From ", at: line.lowerBound) {
            return true
        }
        var position = next
        for _ in 0..<4 where position < limit {
            let (following, after) = bytes.line(at: position, limit: limit)
            guard !following.isEmpty else { return false }
            if let colon = nameEnd(bytes, in: following) {
                let name = bytes[following.lowerBound..<colon].filter { !$0.isBlank }.map(\.lowered)
                return isKnown(String(decoding: name, as: UTF8.self))
            }
            position = after
        }
        return false
    }

    private static func isKnown(_ name: String) -> Bool {
        known.contains(name)
            || ["x-", "content-", "list-", "arc-", "received"].contains { name.hasPrefix($0) }
    }

    private static let known: Set<String> = [
        "from", "to", "cc", "bcc", "subject", "date", "sender", "reply-to", "message-id", "in-reply-to",
        "references",
        "mime-version", "return-path", "delivered-to", "authentication-results", "dkim-signature",
        "importance",
        "thread-index", "thread-topic", "user-agent", "organization", "auto-submitted", "errors-to",
        "priority",
    ]

    /// The colon after a field's name (RFC 5322 §3.6.8; §4.5 allows blanks before it).
    private static func nameEnd(_ bytes: [UInt8], in line: Range<Int>) -> Int? {
        let head = line.lowerBound..<min(line.upperBound, line.lowerBound + 256)
        guard let colon = bytes.position(of: ASCII.colon, in: head), colon > head.lowerBound else {
            return nil
        }
        let name = bytes.trimmed(head.lowerBound..<colon)
        guard name.lowerBound == head.lowerBound, !name.isEmpty else { return nil }
        for position in name where bytes[position] <= 0x20 || bytes[position] >= 0x7F { return nil }
        return colon
    }

    /// RFC 5322 §2.2.3: a fold is one blank.
    private static func unfold(_ line: ArraySlice<UInt8>, into value: inout [UInt8]) {
        guard value.count < fieldSizeMax else { return }
        while let last = value.last, last.isSpace { value.removeLast() }
        value.append(ASCII.space)
        value.append(contentsOf: line.drop { $0.isSpace }.prefix(fieldSizeMax))
    }
}

extension Array where Element == HeaderField {
    /// The first field of this name.
    package func first(named name: String) -> HeaderField? { first { $0.isNamed(name) } }
    /// All fields of this name, in order.
    package func all(named name: String) -> [HeaderField] { filter { $0.isNamed(name) } }
}
