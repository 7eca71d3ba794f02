// Reads a message of a stranger into its parts. One pass over the lines; nothing is ever dropped: what cannot be read
// as MIME becomes text.

/// Cuts a message into parts (RFC 2046 §5.1), in time linear in its size.
package struct MIMEReader {
    /// The bounds of a message's structure; what lies beyond stays in one piece.
    package struct Limits: Sendable {
        /// Parts of one message.
        package var partsMax = 1_000
        /// Levels of multiparts and attached messages.
        package var depthMax = 100

        package init() {}
    }

    /// A part whose end is not known yet.
    private struct Open {
        let part: Int
        /// nil for leaves, attached messages, and multiparts whose closing delimiter has come.
        var boundary: [UInt8]?
    }

    private let raw: [UInt8]
    private let limits: Limits
    private var parts: [MessagePart] = []
    /// From the message itself down to the part that is being read.
    private var stack: [Open] = []
    /// A boundary → the places in `stack` that wait for it, outermost first.
    private var waiting: [[UInt8]: [Int]] = [:]
    /// The lines of the whole message that could be delimiters; nil where there are too many to remember.
    private lazy var candidates: Set<[UInt8]>? = Self.findCandidates(raw)

    /// RFC 2046 §5.1.1 allows 70 characters; real mail has longer ones.
    private static let boundaryMax = 250
    private static let candidatesMax = 20_000
    private static let guessesMax = 50

    private init(_ raw: [UInt8], limits: Limits) {
        self.raw = raw
        self.limits = limits
    }

    /// Reads a whole message; CRLF and LF both end lines here, and CR where there is nothing else.
    package static func read(_ raw: [UInt8], limits: Limits = Limits()) -> ParsedMessage {
        let isOldMac =
            raw.position(of: ASCII.lf, from: 0) == nil && raw.position(of: ASCII.cr, from: 0) != nil
        let raw = isOldMac ? raw.map { $0 == ASCII.cr ? ASCII.lf : $0 } : raw
        var reader = MIMEReader(raw, limits: limits)
        reader.readParts()
        return ParsedMessage(raw: raw, parts: reader.parts)
    }

    private mutating func readParts() {
        var position = open(at: 0, parent: nil)
        while !waiting.isEmpty, let line = Self.nextDashes(raw, from: position) {
            position = line.next
            let text = Array(raw[line.text])
            if let level = waiting[text]?.last {
                // Beyond the limit the rest of the message stays in the part that is open.
                guard parts.count < limits.partsMax else { break }
                close(above: level, at: line.start)
                position = open(at: line.next, parent: stack[level].part)
            } else if text.count > 2, text.suffix(2) == [ASCII.dash, ASCII.dash],
                let level = waiting[Array(text.dropLast(2))]?.last
            {
                close(above: level, at: line.start)
                stopWaiting(level)
            }
        }
        close(above: -1, at: raw.count)
    }
}

// MARK: - Opening and closing parts

extension MIMEReader {
    /// Reads the header at `start`; the place where looking for delimiters goes on.
    private mutating func open(at start: Int, parent: Int?) -> Int {
        let waiting = waiting
        let raw = raw
        let isRoot = parent.map { parts[$0].isAttachedMessage } ?? true
        let block = PartHeader(raw, at: start, limit: raw.count, isRoot: isRoot) { line in
            guard line.count > 2, raw[line.lowerBound + 1] == ASCII.dash else { return false }
            let text = Array(raw[Self.delimiterText(raw, line)])
            return waiting[text] != nil || text.count > 2 && waiting[Array(text.dropLast(2))] != nil
        }
        let isInDigest = parent.map { parts[$0].mimeType == "multipart/digest" } ?? false
        let part = MessagePart(
            index: parts.count,
            parent: parent,
            block: block,
            start: start,
            end: raw.count,
            isInDigest: isInDigest
        )
        parts.append(part)
        if let parent { adopt(part.index, by: parent) }
        stack.append(Open(part: part.index, boundary: nil))
        guard stack.count < limits.depthMax, parts.count < limits.partsMax else { return block.end }
        if part.contentType.type == "multipart" { return openMultipart(part) }
        if part.isAttachedMessage { return openMessage(part) }
        return block.end
    }

    private mutating func openMultipart(_ part: MessagePart) -> Int {
        guard let boundary = boundary(of: part) else { return part.body.lowerBound }
        let level = stack.count - 1
        parts[part.index].content = .multipart([])
        stack[level].boundary = boundary
        waiting[boundary, default: []].append(level)
        openUndelimited(part)
        return part.body.lowerBound
    }

    /// A header with a second Content-Type: the delimiter and the empty line between a multipart and its first part are
    /// missing.
    private mutating func openUndelimited(_ part: MessagePart) {
        let types = part.header.indices.filter { part.header[$0].isNamed("Content-Type") }
        guard types.count > 1, parts.count < limits.partsMax else { return }
        var block = PartHeader()
        block.fields = Array(part.header[types[1]...])
        block.end = part.body.lowerBound
        let child = MessagePart(
            index: parts.count,
            parent: part.index,
            block: block,
            start: part.body.lowerBound,
            end: raw.count,
            isInDigest: false
        )
        guard child.contentType.type != "multipart", !child.isAttachedMessage else { return }
        parts.append(child)
        adopt(child.index, by: part.index)
        stack.append(Open(part: child.index, boundary: nil))
    }

    /// RFC 2046 §5.2.1.
    ///
    /// What carries no header is kept as a file.
    private mutating func openMessage(_ part: MessagePart) -> Int {
        let start = part.body.lowerBound
        guard
            part.encoding == .identity,
            PartHeader.beginsMessage(raw, at: start, limit: raw.count)
        else { return start }
        return open(at: start, parent: part.index)
    }

    private mutating func adopt(_ child: Int, by parent: Int) {
        if case .multipart(let children) = parts[parent].content {
            parts[parent].content = .multipart(children + [child])
        } else {
            parts[parent].content = .message(child)
        }
    }

    /// Ends every part that is deeper than `level`; the line end before a delimiter belongs to it (RFC 2046 §5.1.1).
    private mutating func close(above level: Int, at position: Int) {
        var end = position
        if position < raw.count, end > 0, raw[end - 1] == ASCII.lf {
            end -= 1
            if end > 0, raw[end - 1] == ASCII.cr { end -= 1 }
        }
        while stack.count - 1 > level {
            stopWaiting(stack.count - 1)
            let part = stack.removeLast().part
            let start = parts[part].body.lowerBound
            parts[part].body = start..<max(start, end)
            // Delimiters were announced and none came: the body is text, or at least bytes.
            if parts[part].content == .multipart([]) { parts[part].content = .leaf }
            if stack.count - 1 > level { dropIfNothing(part) }
        }
    }

    /// A delimiter behind which nothing comes before a surrounding part ends began no part.
    private mutating func dropIfNothing(_ part: Int) {
        guard
            part == parts.count - 1,
            parts[part].header.isEmpty,
            raw.trimmed(parts[part].body).isEmpty,
            let parent = parts[part].parent,
            case .multipart(let children) = parts[parent].content
        else { return }
        parts.removeLast()
        parts[parent].content = .multipart(children.dropLast())
    }

    private mutating func stopWaiting(_ level: Int) {
        guard let boundary = stack[level].boundary else { return }
        stack[level].boundary = nil
        waiting[boundary]?.removeLast()
        if waiting[boundary]?.isEmpty == true { waiting[boundary] = nil }
    }
}

// MARK: - Delimiters

extension MIMEReader {
    /// The next line that begins with two dashes: its start, what stands behind the dashes, and the next line's start.
    private static func nextDashes(_ raw: [UInt8], from: Int) -> (start: Int, text: Range<Int>, next: Int)? {
        var position = from
        while position < raw.count {
            let start: Int
            if raw.matches("--", at: position) {
                start = position
            } else if let hit = raw.position(
                of: [ASCII.lf, ASCII.dash, ASCII.dash],
                in: position..<raw.count
            ) {
                start = hit + 1
            } else {
                return nil
            }
            let (line, next) = raw.line(at: start, limit: raw.count)
            let text = delimiterText(raw, line)
            if !text.isEmpty, text.count <= boundaryMax + 2 { return (start, text, next) }
            position = next
        }
        return nil
    }

    /// What follows the dashes; blanks at the end are transport padding (RFC 2046 §5.1.1).
    private static func delimiterText(_ raw: [UInt8], _ line: Range<Int>) -> Range<Int> {
        var end = line.upperBound
        let start = min(line.lowerBound + 2, end)
        while end > start, raw[end - 1].isSpace { end -= 1 }
        return start..<end
    }

    private static func findCandidates(_ raw: [UInt8]) -> Set<[UInt8]>? {
        var found: Set<[UInt8]> = []
        var position = 0
        while let line = nextDashes(raw, from: position) {
            found.insert(Array(raw[line.text]))
            guard found.count <= candidatesMax else { return nil }
            position = line.next
        }
        return found
    }

    /// The declared boundary where a line uses it, else the one that the body seems to use.
    private mutating func boundary(of part: MessagePart) -> [UInt8]? {
        let declared = Array((part.contentType["boundary"] ?? "").utf8)
        let boundary = Array(declared[declared.trimmed(0..<declared.count)])
        if !boundary.isEmpty, boundary.count <= Self.boundaryMax {
            guard let candidates else { return boundary }
            if candidates.contains(boundary) { return boundary }
            if candidates.contains(boundary + [ASCII.dash, ASCII.dash]) { return nil }
        }
        return guessBoundary(from: part.body.lowerBound)
    }

    /// The first dashed line that a header follows.
    private func guessBoundary(from start: Int) -> [UInt8]? {
        var position = start
        for _ in 0..<Self.guessesMax {
            guard let line = Self.nextDashes(raw, from: position) else { return nil }
            let text = Array(raw[line.text])
            // Here the surrounding multipart goes on.
            guard waiting[text] == nil else { return nil }
            if text.count <= Self.boundaryMax, raw.matches("content-", at: line.next) { return text }
            position = line.next
        }
        return nil
    }
}
