// RFC 2045 §5.1 and RFC 2183: a value with parameters; RFC 2231: parameters in pieces and in other charsets.

/// Content-Type, Content-Disposition and other `value; name=value` fields.
package struct ParameterizedValue: Sendable, Equatable {
    /// What stands before the first semicolon, in lower case, without comments and blanks.
    package let value: String
    /// By name in lower case, decoded; of two with one name the first counts.
    package let parameters: [(name: String, value: String)]

    package static func == (left: Self, right: Self) -> Bool {
        left.value == right.value && left.parameters.elementsEqual(right.parameters, by: ==)
    }

    /// More parameters than this are looked over.
    private static let parametersMax = 200

    /// Reads a header's value; nothing is so broken that it gives no answer.
    package init(_ bytes: [UInt8], fallback: Charset? = nil) {
        var scanner = Scanner(bytes: bytes)
        value = String(decoding: scanner.head().map(\.lowered), as: UTF8.self)
        var found: [(name: String, value: [UInt8])] = []
        while found.count < Self.parametersMax, let parameter = scanner.parameter() {
            found.append(parameter)
        }
        parameters = Self.join(found, fallback: fallback)
    }

    init(value: String, parameters: [(name: String, value: String)]) {
        self.value = value
        self.parameters = parameters
    }

    /// The parameter of this name.
    package subscript(name: String) -> String? { parameters.first { $0.name == name }?.value }

    /// The part before the slash.
    package var type: String { String(value.prefix { $0 != "/" }) }
    /// The part behind the slash, empty where there is none.
    package var subtype: String {
        value.firstIndex(of: "/").map { String(value[value.index(after: $0)...]) } ?? ""
    }
}

extension ParameterizedValue {
    /// One piece of an RFC 2231 parameter.
    private struct Piece {
        let index: Int
        let isEncoded: Bool
        let value: [UInt8]
    }

    private static func join(
        _ found: [(name: String, value: [UInt8])],
        fallback: Charset?
    ) -> [(name: String, value: String)] {
        var order: [String] = []
        var plain: [String: [UInt8]] = [:]
        var pieces: [String: [Piece]] = [:]
        for (fullName, value) in found {
            // RFC 2231 §3 and §4: name*0, name*0*, name*.
            let words = fullName.split(separator: "*", omittingEmptySubsequences: false)
            guard let first = words.first, !first.isEmpty else { continue }
            let name = String(first)
            if plain[name] == nil, pieces[name] == nil { order.append(name) }
            if words.count == 1 {
                if plain[name] == nil { plain[name] = value }
            } else {
                let isEncoded = words.last?.isEmpty == true
                pieces[name, default: []].append(
                    Piece(index: Int(words[1]) ?? 0, isEncoded: isEncoded, value: value)
                )
            }
        }
        return order.map { name in
            if let pieces = pieces[name] { return (name, decode(pieces, fallback: fallback)) }
            return (name, EncodedText.decode(plain[name] ?? [], fallback: fallback))
        }
    }

    private static func decode(_ pieces: [Piece], fallback: Charset?) -> String {
        var bytes: [UInt8] = []
        var label: String?
        var isEncodedWord = true
        for (position, piece) in pieces.sorted(by: { $0.index < $1.index }).enumerated() {
            guard piece.isEncoded else {
                bytes += piece.value
                continue
            }
            isEncodedWord = false
            var value = piece.value[...]
            if position == 0, let (charset, rest) = charset(of: value) {
                label = charset
                value = rest
            }
            bytes += percentDecode(value)
        }
        // Some senders cut an encoded word into pieces.
        if isEncodedWord { return EncodedText.decode(bytes, fallback: fallback) }
        return Charset.decode(bytes, label: label, fallback: fallback).filter { $0 != "\0" }
    }

    // charset'language'text
    private static func charset(of value: ArraySlice<UInt8>) -> (String, ArraySlice<UInt8>)? {
        let quote = UInt8(ascii: "'")
        guard let first = value.firstIndex(of: quote),
            let second = value[(first + 1)...].firstIndex(of: quote)
        else { return nil }
        return (String(decoding: value[..<first], as: UTF8.self), value[(second + 1)...])
    }

    private static func percentDecode(_ value: ArraySlice<UInt8>) -> [UInt8] {
        var output: [UInt8] = []
        var position = value.startIndex
        while position < value.endIndex {
            if value[position] == UInt8(ascii: "%"), position + 2 < value.endIndex,
                let high = value[position + 1].hexValue, let low = value[position + 2].hexValue
            {
                output.append(high << 4 | low)
                position += 3
            } else {
                output.append(value[position])
                position += 1
            }
        }
        return output
    }

    /// Walks through a value once.
    private struct Scanner {
        let bytes: [UInt8]
        var position = 0

        /// Everything up to the first semicolon; blanks and comments are no part of it.
        mutating func head() -> [UInt8] {
            var output: [UInt8] = []
            while position < bytes.count, bytes[position] != ASCII.semicolon {
                if bytes[position] == UInt8(ascii: "(") {
                    skipComment()
                    continue
                }
                if !bytes[position].isSpace, bytes[position] != ASCII.quote {
                    output.append(bytes[position])
                } else if let last = output.last, last != UInt8(ascii: "/"), beginsBlanks, isParameterNext() {
                    // `text/plain charset=x`: the semicolon is missing.
                    return output
                }
                position += 1
            }
            return output
        }

        /// True at the first of several blanks: each run of them is looked behind once.
        private var beginsBlanks: Bool { position == 0 || !bytes[position - 1].isSpace }

        private func isParameterNext() -> Bool {
            var place = position
            while place < bytes.count, bytes[place].isSpace { place += 1 }
            let start = place
            while place < bytes.count, place < start + 40, isNameByte(bytes[place]) { place += 1 }
            return place > start && place < bytes.count && bytes[place] == ASCII.equals
        }

        private func isNameByte(_ byte: UInt8) -> Bool {
            byte.isLetter || byte.isDigit || byte == ASCII.dash || byte == UInt8(ascii: "*")
        }

        mutating func parameter() -> (name: String, value: [UInt8])? {
            while position < bytes.count {
                skipSpace()
                while position < bytes.count, bytes[position] == ASCII.semicolon {
                    position += 1
                    skipSpace()
                }
                let start = position
                while position < bytes.count, !isNameEnd(bytes[position]) { position += 1 }
                let name = String(decoding: bytes[start..<position].map(\.lowered), as: UTF8.self)
                skipSpace()
                guard position < bytes.count else { return nil }
                guard bytes[position] == ASCII.equals else {
                    // No value: a word that stands alone.
                    if position == start { position += 1 }
                    continue
                }
                position += 1
                skipSpace()
                let value = position < bytes.count && bytes[position] == ASCII.quote ? quoted() : token()
                if !name.isEmpty { return (name, value) }
            }
            return nil
        }

        private func isNameEnd(_ byte: UInt8) -> Bool {
            byte == ASCII.equals || byte == ASCII.semicolon || byte.isSpace || byte == UInt8(ascii: "(")
        }

        /// A value without quotes ends at a semicolon; blanks inside a file name belong to it.
        private mutating func token() -> [UInt8] {
            let start = position
            while position < bytes.count, bytes[position] != ASCII.semicolon {
                if bytes[position] == UInt8(ascii: "("), position > start, bytes[position - 1].isSpace {
                    break
                }
                if bytes[position].isSpace, beginsBlanks, isParameterNext() { break }
                position += 1
            }
            return Array(bytes[bytes.trimmed(start..<position)])
        }

        private mutating func quoted() -> [UInt8] {
            position += 1
            var output: [UInt8] = []
            while position < bytes.count, bytes[position] != ASCII.quote {
                // A backslash quotes a quote or itself; elsewhere it is a Windows path.
                if bytes[position] == ASCII.backslash, position + 1 < bytes.count,
                    bytes[position + 1] == ASCII.quote || bytes[position + 1] == ASCII.backslash
                {
                    position += 1
                }
                output.append(bytes[position])
                position += 1
            }
            position += 1
            return output
        }

        private mutating func skipSpace() {
            while position < bytes.count {
                if bytes[position] == UInt8(ascii: "(") {
                    skipComment()
                } else if bytes[position].isSpace {
                    position += 1
                } else {
                    return
                }
            }
        }

        private mutating func skipComment() {
            var depth = 0
            while position < bytes.count {
                switch bytes[position] {
                case ASCII.backslash: position += 1
                case UInt8(ascii: "("): depth += 1
                case UInt8(ascii: ")"): depth -= 1
                default: break
                }
                position += 1
                if depth == 0 { return }
            }
            position = min(position, bytes.count)
        }
    }
}
