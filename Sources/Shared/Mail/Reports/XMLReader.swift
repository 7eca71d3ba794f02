// XML as reports use it: elements and text. What XML can do beyond that (DTDs, entities, external files) has only ever
// been used against its readers, so it is refused.

/// Why a document is refused.
enum XMLFault: Error, Equatable {
    /// A document type or an entity that XML itself does not define.
    case forbidden
    case malformed(offset: Int)
    case tooDeep
    case tooManyElements
}

/// Pulls elements and text out of a document, one after the other.
struct XMLReader {
    enum Event: Equatable {
        case start(String)
        case text(String)
        case end(String)
    }

    static let depthMax = 50
    static let elementsMax = 3_000_000

    private let bytes: [UInt8]
    private var position = 0
    private var open: [String] = []
    private var elements = 0
    /// An element written `<a/>` ends where it begins.
    private var pendingEnd: String?

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
    }

    /// The next event; nil at the end of the document.
    mutating func next() throws(XMLFault) -> Event? {
        if let name = pendingEnd {
            pendingEnd = nil
            return .end(name)
        }
        while position < bytes.count {
            guard bytes[position] == ASCII.less else { return .text(try text()) }
            if let event = try markup() { return event }
        }
        guard open.isEmpty else { throw .malformed(offset: position) }
        return nil
    }

    private mutating func text() throws(XMLFault) -> String {
        let end = bytes.position(of: ASCII.less, from: position) ?? bytes.count
        let range = position..<end
        position = end
        return try Self.unescape(bytes, range)
    }

    /// nil for what carries nothing: comments, instructions.
    private mutating func markup() throws(XMLFault) -> Event? {
        if bytes.matches("<!--", at: position) {
            try skip(to: Array("-->".utf8), from: position + 4)
            return nil
        }
        if bytes.matches("<![CDATA[", at: position) {
            let start = position + 9
            try skip(to: Array("]]>".utf8), from: start)
            return .text(String(decoding: bytes[start..<(position - 3)], as: UTF8.self))
        }
        if bytes.matches("<!", at: position) { throw .forbidden }
        if bytes.matches("<?", at: position) {
            try skip(to: Array("?>".utf8), from: position + 2)
            return nil
        }
        return try tag()
    }

    private mutating func skip(to end: [UInt8], from start: Int) throws(XMLFault) {
        guard start <= bytes.count, let hit = bytes.position(of: end, in: start..<bytes.count) else {
            throw .malformed(offset: position)
        }
        position = hit + end.count
    }

    private mutating func tag() throws(XMLFault) -> Event {
        let start = position
        let isEnd = position + 1 < bytes.count && bytes[position + 1] == UInt8(ascii: "/")
        position += isEnd ? 2 : 1
        let nameStart = position
        while position < bytes.count, Self.isNameByte(bytes[position]) { position += 1 }
        guard position > nameStart, position - nameStart <= 200, !bytes[nameStart].isDigit else {
            throw .malformed(offset: start)
        }
        let name = String(decoding: bytes[nameStart..<position], as: UTF8.self)
        let isEmpty = try skipAttributes(allowed: !isEnd)
        if isEnd {
            guard open.popLast() == name else { throw .malformed(offset: start) }
            return .end(name)
        }
        elements += 1
        guard elements <= Self.elementsMax else { throw .tooManyElements }
        if isEmpty {
            pendingEnd = name
        } else {
            open.append(name)
            guard open.count <= Self.depthMax else { throw .tooDeep }
        }
        return .start(name)
    }

    /// Up to and including `>`; true where the element is empty.
    private mutating func skipAttributes(allowed: Bool) throws(XMLFault) -> Bool {
        while position < bytes.count {
            let byte = bytes[position]
            if byte == ASCII.greater {
                position += 1
                return false
            }
            if byte == UInt8(ascii: "/"), position + 1 < bytes.count, bytes[position + 1] == ASCII.greater,
                allowed
            {
                position += 2
                return true
            }
            if byte == ASCII.quote || byte == UInt8(ascii: "'") {
                guard allowed, let end = bytes.position(of: byte, from: position + 1) else { break }
                position = end + 1
            } else {
                guard byte.isSpace || allowed && (Self.isNameByte(byte) || byte == ASCII.equals) else {
                    break
                }
                position += 1
            }
        }
        throw .malformed(offset: position)
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        byte.isLetter || byte.isDigit || byte >= 0x80 || byte == ASCII.colon || byte == ASCII.dash
            || byte == ASCII.dot
            || byte == ASCII.underscore
    }

    /// The five entities of XML 1.0 §4.6 and character references.
    private static func unescape(_ bytes: [UInt8], _ range: Range<Int>) throws(XMLFault) -> String {
        let mark = UInt8(ascii: "&")
        guard bytes.position(of: mark, in: range) != nil else {
            return String(decoding: bytes[range], as: UTF8.self)
        }
        var output = ""
        var run = range.lowerBound
        while let start = bytes.position(of: mark, in: run..<range.upperBound) {
            output += String(decoding: bytes[run..<start], as: UTF8.self)
            let limit = start..<min(range.upperBound, start + 12)
            guard let end = bytes.position(of: ASCII.semicolon, in: limit) else {
                throw .malformed(offset: start)
            }
            output.unicodeScalars.append(
                try scalar(String(decoding: bytes[(start + 1)..<end], as: UTF8.self))
            )
            run = end + 1
        }
        return output + String(decoding: bytes[run..<range.upperBound], as: UTF8.self)
    }

    private static func scalar(_ name: String) throws(XMLFault) -> Unicode.Scalar {
        switch name {
        case "amp": return "&"
        case "lt": return "<"
        case "gt": return ">"
        case "quot": return "\""
        case "apos": return "'"
        default:
            guard name.hasPrefix("#") else { throw .forbidden }
            let digits = name.dropFirst()
            let value = digits.hasPrefix("x") ? UInt32(digits.dropFirst(), radix: 16) : UInt32(digits)
            guard let value, value != 0, let scalar = Unicode.Scalar(value) else { throw .forbidden }
            return scalar
        }
    }
}
