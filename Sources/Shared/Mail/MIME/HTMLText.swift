// HTML to text: what a person would read, for agents, search and snippets. One pass over the bytes; no tree is built.

/// HTML of a message as text, and text as HTML.
package enum HTMLText {
    /// The visible text: paragraphs and list items on lines of their own, quotations marked by `> `, links with their
    /// address behind them.
    package static func text(from html: String) -> String {
        var reader = HTMLReader(html: Array(html.utf8))
        return reader.read()
    }

    /// Text as HTML that shows it unchanged.
    package static func html(from text: String) -> String {
        var output = "<div style=\"white-space: pre-wrap\">"
        for character in text.unicodeScalars {
            switch character {
            case "&": output += "&amp;"
            case "<": output += "&lt;"
            case ">": output += "&gt;"
            default: output.unicodeScalars.append(character)
            }
        }
        return output + "</div>"
    }

    /// The charset a document declares about itself in its first kilobyte.
    static func declaredCharset(in bytes: [UInt8]) -> String? {
        let head = 0..<min(1_024, bytes.count)
        let lower = bytes[head].map(\.lowered)
        guard let found = lower.position(of: Array("charset=".utf8), in: head) else { return nil }
        let name = lower[(found + 8)...].drop { $0 == ASCII.quote || $0 == UInt8(ascii: "'") || $0.isSpace }
            .prefix { $0.isLetter || $0.isDigit || $0 == ASCII.dash || $0 == ASCII.underscore }
        return name.isEmpty ? nil : String(decoding: name, as: UTF8.self)
    }
}

/// Walks through a document once.
struct HTMLReader {
    let html: [UInt8]
    private var position = 0
    private var writer = TextWriter()
    /// Lists that are open: the next number, or nil for bullets.
    private var lists: [Int?] = []
    /// The address of the link that is open, and where its text begins.
    private var link: (address: String, start: Int)?
    private var preDepth = 0
    /// An element whose content is not shown, and how often it is open inside itself.
    private var hidden: (name: String, depth: Int)?

    init(html: [UInt8]) { self.html = html }

    mutating func read() -> String {
        while position < html.count {
            if html[position] == ASCII.less, readMarkup() { continue }
            readText()
        }
        return writer.finish()
    }

    // MARK: Text

    private mutating func readText() {
        let start = position
        let end = html.position(of: ASCII.less, from: position + 1) ?? html.count
        position = end
        guard hidden == nil else { return }
        var run = start
        while let mark = html.position(of: UInt8(ascii: "&"), in: run..<end) {
            writer.write(html[run..<mark], isPre: preDepth > 0)
            if let (scalar, next) = entity(at: mark, limit: end) {
                writer.write(Array(String(Character(scalar)).utf8)[...], isPre: preDepth > 0)
                run = next
            } else {
                writer.write(html[mark...mark], isPre: preDepth > 0)
                run = mark + 1
            }
        }
        writer.write(html[run..<end], isPre: preDepth > 0)
    }

    private func entity(at start: Int, limit: Int) -> (Unicode.Scalar, Int)? {
        let range = (start + 1)..<min(limit, start + 12)
        guard let first = range.first else { return nil }
        var end = first
        while end < range.upperBound,
            html[end].isLetter || html[end].isDigit || html[end] == UInt8(ascii: "#")
        {
            end += 1
        }
        guard end > first else { return nil }
        let hasEnd = end < limit && html[end] == ASCII.semicolon
        let name = String(decoding: html[first..<end], as: UTF8.self)
        let value: UInt32?
        if name.hasPrefix("#x") || name.hasPrefix("#X") {
            value = UInt32(name.dropFirst(2), radix: 16)
        } else if name.hasPrefix("#") {
            value = UInt32(name.dropFirst())
        } else {
            value = hasEnd || name == "nbsp" || name == "amp" ? HTMLText.entities[name] : nil
        }
        guard let value, value != 0, let scalar = Unicode.Scalar(Self.windows(value)) else { return nil }
        return (scalar, hasEnd ? end + 1 : end)
    }

    /// 128–159 mean Windows-1252 characters (HTML §13.2.5.80); the ones mail uses.
    private static func windows(_ value: UInt32) -> UInt32 {
        switch value {
        case 128: 0x20AC
        case 130: 0x201A
        case 132: 0x201E
        case 133: 0x2026
        case 145: 0x2018
        case 146: 0x2019
        case 147: 0x201C
        case 148: 0x201D
        case 149: 0x2022
        case 150: 0x2013
        case 151: 0x2014
        case 153: 0x2122
        default: value
        }
    }

    // MARK: Markup

    /// False where `<` begins no markup and is text.
    private mutating func readMarkup() -> Bool {
        guard position + 1 < html.count else { return false }
        let next = html[position + 1]
        if html.matches("<!--", at: position) {
            let end = html.position(of: Array("-->".utf8), in: (position + 4)..<html.count)
            position = end.map { $0 + 3 } ?? html.count
            return true
        }
        if next == UInt8(ascii: "!") || next == ASCII.question {
            position = html.position(of: ASCII.greater, from: position).map { $0 + 1 } ?? html.count
            return true
        }
        let isEnd = next == UInt8(ascii: "/")
        let nameStart = position + (isEnd ? 2 : 1)
        guard nameStart < html.count, html[nameStart].isLetter else { return false }
        var nameEnd = nameStart
        while nameEnd < html.count, nameEnd < nameStart + 40, !html[nameEnd].isSpace,
            html[nameEnd] != ASCII.greater, html[nameEnd] != UInt8(ascii: "/")
        {
            nameEnd += 1
        }
        let name = String(decoding: html[nameStart..<nameEnd].map(\.lowered), as: UTF8.self)
        let end = tagEnd(from: nameEnd)
        let attributes = nameEnd..<max(nameEnd, min(end, html.count))
        position = min(end + 1, html.count)
        if isEnd { close(name) } else { open(name, attributes) }
        return true
    }

    /// The `>` of a tag, which may also stand in a quoted attribute of reasonable length.
    private func tagEnd(from start: Int) -> Int {
        guard let plain = html.position(of: ASCII.greater, from: start) else { return html.count }
        var quote: UInt8?
        var place = start
        let limit = min(html.count, max(plain + 1, start + 8_192))
        while place < limit {
            let byte = html[place]
            if let open = quote {
                if byte == open { quote = nil }
            } else if byte == ASCII.greater {
                return place
            } else if byte == ASCII.quote || byte == UInt8(ascii: "'"), place > start,
                html[place - 1] == ASCII.equals
            {
                quote = byte
            }
            place += 1
        }
        // A quote that is never closed: the first bracket it is.
        return plain
    }

    private func attribute(_ name: String, in range: Range<Int>) -> String? {
        let wanted = Array(name.utf8)
        let lower = html[range].prefix(8_192).map(\.lowered)
        var start = 0
        while let found = lower.position(of: wanted, in: start..<lower.count) {
            start = found + wanted.count
            guard found > 0, lower[found - 1].isSpace || lower[found - 1] == ASCII.quote, start < lower.count,
                lower[start] == ASCII.equals
            else { continue }
            let value = html[(range.lowerBound + start + 1)..<range.upperBound]
            guard let first = value.first else { return nil }
            let bytes =
                first == ASCII.quote || first == UInt8(ascii: "'")
                ? value.dropFirst().prefix { $0 != first } : value.prefix { !$0.isSpace }
            return String(decoding: bytes.prefix(4_096), as: UTF8.self)
        }
        return nil
    }

    private static let void: Set<String> = [
        "br", "hr", "img", "input", "meta", "link", "area", "base", "col", "embed", "source", "track", "wbr",
        "p", "li",
        "td", "tr", "th", "html", "body",
    ]
    private static let unseen: Set<String> = ["script", "style", "title", "template", "noscript", "head"]
    private static let blocks: Set<String> = [
        "div", "tr", "table", "section", "article", "header", "footer", "address", "form", "fieldset",
        "center", "dl",
        "dt", "dd", "main", "nav", "aside", "figure", "tbody", "thead",
    ]

    private mutating func open(_ name: String, _ attributes: Range<Int>) {
        if let (hiddenName, depth) = hidden {
            // A body ends a head that was never closed.
            if hiddenName == "head", name == "body" { hidden = nil }
            if name == hiddenName { hidden = (hiddenName, depth + 1) }
            return
        }
        if Self.unseen.contains(name) || isInvisible(name, attributes) {
            hidden = (name, 1)
            return
        }
        switch name {
        case "br": writer.lineBreak()
        case "p", "h1", "h2", "h3", "h4", "h5", "h6": writer.paragraph()
        case "hr":
            writer.newLine()
            writer.write(Array("---".utf8)[...], isPre: false)
            writer.newLine()
        case "ul", "ol":
            writer.newLine()
            if lists.count < 50 { lists.append(name == "ol" ? 1 : nil) }
        case "li": openItem()
        case "td", "th": writer.space()
        case "pre":
            writer.newLine()
            preDepth += 1
        case "blockquote":
            writer.newLine()
            writer.quoteDepth = min(writer.quoteDepth + 1, 20)
        case "a": openLink(attributes)
        case "img":
            if let text = attribute("alt", in: attributes), !text.isEmpty { writeDecoded(text) }
        default:
            if Self.blocks.contains(name) { writer.newLine() }
        }
    }

    private mutating func close(_ name: String) {
        if let (hiddenName, depth) = hidden {
            if name == hiddenName { hidden = depth > 1 ? (hiddenName, depth - 1) : nil }
            return
        }
        switch name {
        case "p", "h1", "h2", "h3", "h4", "h5", "h6": writer.paragraph()
        case "ul", "ol":
            _ = lists.popLast()
            writer.newLine()
        case "pre":
            preDepth = max(0, preDepth - 1)
            writer.newLine()
        case "blockquote":
            writer.newLine()
            writer.quoteDepth = max(0, writer.quoteDepth - 1)
        case "a": closeLink()
        case "li": writer.newLine()
        default:
            if Self.blocks.contains(name) { writer.newLine() }
        }
    }

    /// Preview text and other things a reader never sees; often where instructions to machines are put.
    private func isInvisible(_ name: String, _ attributes: Range<Int>) -> Bool {
        guard !attributes.isEmpty, !Self.void.contains(name), let style = attribute("style", in: attributes)
        else {
            return false
        }
        let plain = style.asciiLowercased.filter { !$0.isWhitespace }
        return plain.contains("display:none") || plain.contains("visibility:hidden")
    }

    private mutating func openItem() {
        writer.newLine()
        let indent = String(repeating: "  ", count: max(0, lists.count - 1))
        if let number = lists.last ?? nil {
            lists[lists.count - 1] = number + 1
            writer.mark("\(indent)\(number). ")
        } else {
            writer.mark("\(indent)- ")
        }
    }

    private mutating func openLink(_ attributes: Range<Int>) {
        link = nil
        guard let address = attribute("href", in: attributes) else { return }
        let decoded = address.replacingEntities.trimmedASCII
        let lower = decoded.prefix(8).asciiLowercased
        guard lower.hasPrefix("http://") || lower.hasPrefix("https://"), decoded.utf8.count <= 2_000 else {
            return
        }
        link = (decoded, writer.output.count)
    }

    /// Text that says its own address needs none behind it.
    private mutating func closeLink() {
        guard let (address, start) = link else { return }
        link = nil
        guard start <= writer.output.count else { return }
        let shown = String(decoding: writer.output[start...], as: UTF8.self).trimmedASCII
        guard !shown.isEmpty, !shown.contains("http"), !address.hasSuffix("//" + shown), address != shown
        else { return }
        writer.write(Array(" <\(address)>".utf8)[...], isPre: false)
    }

    private mutating func writeDecoded(_ text: String) {
        writer.write(Array(text.replacingEntities.utf8)[...], isPre: false)
    }
}

extension Substring {
    fileprivate var asciiLowercased: String { String(self).asciiLowercased }
}

extension String {
    /// The few entities that occur in attributes.
    fileprivate var replacingEntities: String {
        guard utf8.contains(UInt8(ascii: "&")) else { return self }
        var output = ""
        var rest = self[...]
        while let mark = rest.firstIndex(of: "&") {
            output += rest[..<mark]
            rest = rest[mark...]
            if let known = [("&amp;", "&"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " ")]
                .first(where: { rest.hasPrefix($0.0) })
            {
                output += known.1
                rest = rest.dropFirst(known.0.count)
            } else {
                output.append("&")
                rest = rest.dropFirst()
            }
        }
        return output + rest
    }
}
