// RFC 2047: text beyond ASCII in header fields, read as generously as real mail needs.

/// Text of unstructured header fields and display names.
package enum EncodedText {
    /// A header's value as text: encoded words decoded, raw 8-bit text taken as UTF-8 or `fallback`.
    package static func decode(_ value: [UInt8], fallback: Charset? = nil) -> String {
        guard value.position(of: [ASCII.equals, ASCII.question], in: 0..<value.count) != nil else {
            return clean(Charset.guess(value, fallback: fallback))
        }
        var reader = Reader(value: value, fallback: fallback)
        return clean(reader.read())
    }

    /// PostgreSQL keeps no NUL in text, and no other control character has a business in a header.
    private static func clean(_ text: String) -> String {
        guard text.utf8.contains(where: { $0 < 0x20 }) else { return text }
        return String(
            String.UnicodeScalarView(
                text.unicodeScalars.compactMap { scalar in
                    if scalar.value >= 0x20 { return scalar }
                    return scalar == "\t" || scalar == "\n" || scalar == "\r" ? " " : nil
                }
            )
        )
    }

    private struct Word {
        let charset: String
        let bytes: [UInt8]
        let end: Int
    }

    private struct Reader {
        let value: [UInt8]
        let fallback: Charset?
        var text = ""
        /// Bytes of neighbouring words in one charset: some senders cut in the middle of a character.
        var pending: [UInt8] = []
        var pendingCharset: String?
        /// No `?=` follows from here on: spares looking for it again and again.
        var lastTerminator: Int

        init(value: [UInt8], fallback: Charset?) {
            self.value = value
            self.fallback = fallback
            var last = -1
            var position = value.count - 1
            while position > 0, last < 0 {
                if value[position] == ASCII.equals, value[position - 1] == ASCII.question {
                    last = position - 1
                }
                position -= 1
            }
            lastTerminator = last
        }

        mutating func read() -> String {
            var plain = 0
            var position = 0
            while let start = value.position(of: [ASCII.equals, ASCII.question], in: position..<value.count) {
                guard let word = word(at: start) else {
                    position = start + 2
                    continue
                }
                let between = plain..<start
                // RFC 2047 §6.2: blanks between two encoded words are not shown.
                let isBetweenWords = pendingCharset != nil && value[between].allSatisfy(\.isSpace)
                if !isBetweenWords {
                    flush()
                    text += Charset.guess(Array(value[between]), fallback: fallback)
                }
                if pendingCharset != word.charset { flush() }
                pending += word.bytes
                pendingCharset = word.charset
                plain = word.end
                position = word.end
            }
            flush()
            text += Charset.guess(Array(value[plain...]), fallback: fallback)
            return text
        }

        private mutating func flush() {
            if let label = pendingCharset {
                text += Charset.decode(pending, label: label, fallback: fallback)
            }
            pending = []
            pendingCharset = nil
        }

        private func word(at start: Int) -> Word? {
            // A charset's name is short; RFC 2231 §5 puts a language behind a star.
            let limit = min(value.count, start + 80)
            guard let mark = value.position(of: ASCII.question, in: (start + 2)..<limit), mark > start + 2
            else {
                return nil
            }
            let label = value[(start + 2)..<mark]
            guard label.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), mark + 2 < value.count,
                value[mark + 2] == ASCII.question
            else { return nil }
            // Known before the end is looked for: a refused word costs no search.
            let encoding = value[mark + 1].lowered
            let body = mark + 3
            guard encoding == UInt8(ascii: "b") || encoding == UInt8(ascii: "q"),
                let end = terminator(from: body)
            else { return nil }
            let encoded = value[body..<end].filter { !$0.isSpace || $0 == ASCII.space }
            let bytes =
                encoding == UInt8(ascii: "b") ? TransferDecoding.base64(encoded) : Self.unquote(encoded)
            let charset = String(decoding: label.prefix { $0 != UInt8(ascii: "*") }, as: UTF8.self)
            return Word(charset: charset.asciiLowercased, bytes: bytes, end: end + 2)
        }

        /// The `?=` that ends a word's text.
        private func terminator(from start: Int) -> Int? {
            guard start <= lastTerminator else { return nil }
            return value.position(of: [ASCII.question, ASCII.equals], in: start..<value.count)
        }

        /// RFC 2047 §4.2; a blank inside comes from folding where it may not be, so it is dropped.
        private static func unquote(_ text: [UInt8]) -> [UInt8] {
            var output: [UInt8] = []
            output.reserveCapacity(text.count)
            let hasUnderscores = text.contains(ASCII.underscore)
            var position = 0
            while position < text.count {
                let byte = text[position]
                position += 1
                switch byte {
                case ASCII.underscore: output.append(ASCII.space)
                case ASCII.space where hasUnderscores: break
                case ASCII.equals:
                    guard position + 1 < text.count, let high = text[position].hexValue,
                        let low = text[position + 1].hexValue
                    else {
                        output.append(byte)
                        continue
                    }
                    output.append(high << 4 | low)
                    position += 2
                default: output.append(byte)
                }
            }
            return output
        }
    }
}
