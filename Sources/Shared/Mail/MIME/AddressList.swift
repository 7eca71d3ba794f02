// RFC 5322 §3.4: From, To and the rest, as strangers write them.

/// One address of a header field; what it says may be no valid address at all.
package struct ReceivedAddress: Sendable, Hashable {
    /// Display name, with comments in parentheses behind it; nil where there is none.
    package let name: String?
    /// As written, without blanks and comments; empty where only a name was given.
    package let address: String

    /// The address where it is one that SMTP can carry.
    package var email: EmailAddress? { try? EmailAddress(address) }
}

/// A header field's addresses and groups.
package struct AddressList: Sendable, Equatable {
    /// One address, or a group with its members (RFC 5322 §3.4).
    package enum Entry: Sendable, Equatable {
        case address(ReceivedAddress)
        case group(name: String, members: [ReceivedAddress])
    }

    package let entries: [Entry]

    /// More addresses of one field than this are looked over.
    private static let entriesMax = 5_000

    /// The addresses, those of groups included, without entries that hold none.
    package var flattened: [ReceivedAddress] {
        entries.flatMap { entry in
            switch entry {
            case .address(let address): [address]
            case .group(_, let members): members
            }
        }.filter { !$0.address.isEmpty }
    }

    /// Reads a header's value; nothing is so broken that it gives no answer.
    package static func parse(_ value: [UInt8], fallback: Charset? = nil) -> AddressList {
        var reader = Reader(value: value, fallback: fallback)
        return AddressList(entries: reader.read())
    }

    private struct Reader {
        let value: [UInt8]
        let fallback: Charset?
        var position = 0
        var entries: [Entry] = []
        /// Members of the group that is open.
        var members: [ReceivedAddress] = []
        var groupName: String?
        /// Words outside angle brackets: the name, or the address where no bracket comes.
        var words: [UInt8] = []
        /// True where `words` holds a quoted string, whose blanks count.
        var hasQuoted = false
        var comments: [String] = []
        var angle: [UInt8]?

        init(value: [UInt8], fallback: Charset?) {
            self.value = value
            self.fallback = fallback
        }

        mutating func read() -> [Entry] {
            while position < value.count, entries.count + members.count < entriesMax { step() }
            finishAddress()
            finishGroup()
            return entries
        }

        private mutating func step() {
            let byte = value[position]
            position += 1
            switch byte {
            case UInt8(ascii: ","): finishAddress()
            case ASCII.semicolon:
                finishAddress()
                finishGroup()
            case ASCII.colon where beginsGroup:
                groupName = name() ?? ""
                clear()
            case ASCII.less: readAngle()
            case ASCII.quote: readQuoted()
            case UInt8(ascii: "("): comments.append(readComment())
            case ASCII.backslash where position < value.count:
                words.append(value[position])
                position += 1
            default:
                if angle != nil, !byte.isSpace {
                    // Two addresses and the comma between them is missing.
                    if byte != ASCII.greater, value[position - 2].isSpace { finishAddress() }
                }
                if byte != ASCII.greater || angle == nil { words.append(byte) }
            }
        }

        /// A group has members or a semicolon; a colon elsewhere smiles.
        private var beginsGroup: Bool {
            guard groupName == nil, !words.contains(0x40), angle == nil else { return false }
            return value.position(of: ASCII.semicolon, from: position) != nil
                || value[position...].allSatisfy(\.isSpace)
        }

        private mutating func readAngle() {
            if angle != nil { finishAddress() }
            var text: [UInt8] = []
            while position < value.count {
                let byte = value[position]
                position += 1
                switch byte {
                case ASCII.greater:
                    angle = text
                    return
                case UInt8(ascii: "("): comments.append(readComment())
                case ASCII.quote:
                    text.append(byte)
                    while position < value.count, value[position] != ASCII.quote {
                        if value[position] == ASCII.backslash, position + 1 < value.count {
                            text.append(value[position])
                            position += 1
                        }
                        text.append(value[position])
                        position += 1
                    }
                    text.append(byte)
                    position += 1
                case ASCII.less: text = []
                case UInt8(ascii: ",") where text.contains(0x40) && text.first != 0x40:
                    // The bracket is never closed.
                    angle = text
                    position -= 1
                    return
                default: text.append(byte)
                }
            }
            position = min(position, value.count)
            angle = text
        }

        private mutating func readQuoted() {
            var text: [UInt8] = []
            while position < value.count, value[position] != ASCII.quote {
                if value[position] == ASCII.backslash, position + 1 < value.count { position += 1 }
                text.append(value[position])
                position += 1
            }
            position = min(position + 1, value.count)
            hasQuoted = true
            // `"john doe"@example.com` keeps its quotes, `"John Doe" <…>` loses them.
            if position < value.count, value[position] == 0x40, angle == nil {
                words += [ASCII.quote] + text + [ASCII.quote]
            } else {
                words += text
            }
        }

        private mutating func readComment() -> String {
            var depth = 1
            var text: [UInt8] = []
            while position < value.count {
                let byte = value[position]
                position += 1
                switch byte {
                case ASCII.backslash where position < value.count:
                    text.append(value[position])
                    position += 1
                    continue
                case UInt8(ascii: "("): depth += 1
                case UInt8(ascii: ")"): depth -= 1
                default: break
                }
                if depth == 0 { break }
                text.append(byte)
            }
            return EncodedText.decode(Array(text[text.trimmed(0..<text.count)]), fallback: fallback)
        }

        private func name() -> String? {
            let name = EncodedText.decode(words, fallback: fallback).split(whereSeparator: \.isWhitespace)
                .joined(separator: " ")
            let comment = comments.filter { !$0.isEmpty }.joined(separator: " ")
            if name.isEmpty { return comment.isEmpty ? nil : comment }
            return comment.isEmpty ? name : "\(name) (\(comment))"
        }

        private mutating func finishAddress() {
            defer { clear() }
            let found: ReceivedAddress
            if let angle {
                found = ReceivedAddress(name: name(), address: Self.address(angle[...]))
            } else if words.contains(0x40) || isOneWord {
                let text = words[words.trimmed(0..<words.count)]
                words = []
                found = ReceivedAddress(name: name(), address: Self.address(text))
            } else if let name = name() {
                // A name alone: kept, since something stood there.
                found = ReceivedAddress(name: name, address: "")
            } else {
                return
            }
            if groupName == nil { entries.append(.address(found)) } else { members.append(found) }
        }

        /// A local part without a domain, as machines write to their own users.
        private var isOneWord: Bool {
            let text = words[words.trimmed(0..<words.count)]
            return !text.isEmpty && !hasQuoted && text.allSatisfy { $0 > 0x20 && $0 < 0x7F }
                && text.first != ASCII.equals
        }

        private mutating func finishGroup() {
            guard let name = groupName else { return }
            entries.append(.group(name: name, members: members))
            members = []
            groupName = nil
        }

        private mutating func clear() {
            words = []
            hasQuoted = false
            comments = []
            angle = nil
        }

        /// Without blanks around dots and the at sign, and without a source route (RFC 5322 §4.4).
        private static func address(_ bytes: ArraySlice<UInt8>) -> String {
            var bytes = bytes
            if bytes.first(where: { !$0.isSpace }) == 0x40, let colon = bytes.firstIndex(of: ASCII.colon) {
                bytes = bytes[(colon + 1)...]
            }
            let isQuoted = bytes.contains(ASCII.quote)
            let text = String(decoding: isQuoted ? Array(bytes) : bytes.filter { !$0.isSpace }, as: UTF8.self)
            return text.trimmedASCII.filter { $0 != "\0" }
        }
    }
}
