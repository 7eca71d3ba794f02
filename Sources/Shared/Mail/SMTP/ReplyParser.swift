// Replies from bytes as they come in. A server is a stranger too: everything is bounded.

/// Why a server's bytes are no reply; the session cannot go on after one.
package enum ReplyFault: Error, Hashable, Sendable {
    case lineTooLong
    case tooManyLines
    /// A line without a code, or with something else than a blank or a hyphen behind it.
    case malformed
    /// Lines of one reply with different codes (RFC 5321 §4.2.1).
    case codesDiffer
}

/// Cuts a server's bytes into replies; a bare LF ends a line as well, as nothing that we send depends on it.
package struct ReplyParser: Sendable {
    /// RFC 5321 §4.5.3.1.5 allows 512; real servers send more.
    package static let lineOctetsMax = 4_096
    package static let linesMax = 100

    private var line: [UInt8] = []
    private var code = 0
    private var status: EnhancedStatus?
    private var lines: [String] = []
    private var fault: ReplyFault?

    package init() {}

    /// The replies that these bytes complete; bytes of an incomplete one are kept.
    ///
    /// Replies before a fault are still handed out: look at `isFaulted` after handling them. Later calls throw.
    package mutating func append(_ bytes: some Sequence<UInt8>) throws(ReplyFault) -> [Reply] {
        if let fault { throw fault }
        var replies: [Reply] = []
        do throws(ReplyFault) {
            for byte in bytes {
                guard byte == 0x0A else {
                    guard line.count < Self.lineOctetsMax else { throw .lineTooLong }
                    line.append(byte)
                    continue
                }
                if line.last == 0x0D { line.removeLast() }
                if let reply = try endLine() { replies.append(reply) }
                line.removeAll(keepingCapacity: true)
            }
        } catch {
            fault = error
            // What was complete before the fault is still the server's word.
            if replies.isEmpty { throw error }
        }
        return replies
    }

    /// Whether a fault was met, also when the last call could still hand out replies.
    package var isFaulted: Bool { fault != nil }

    private mutating func endLine() throws(ReplyFault) -> Reply? {
        let digits = line.prefix(3)
        guard digits.count == 3, digits.allSatisfy({ (0x30...0x39).contains($0) }) else { throw .malformed }
        let code = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
        guard (200...599).contains(code) else { throw .malformed }
        let isLast: Bool
        switch line.dropFirst(3).first {
        case nil, UInt8(ascii: " "): isLast = true
        case UInt8(ascii: "-"): isLast = false
        default: throw .malformed
        }
        guard lines.isEmpty || code == self.code else { throw .codesDiffer }
        guard lines.count < Self.linesMax else { throw .tooManyLines }
        self.code = code
        lines.append(text(of: line.dropFirst(4)))
        guard isLast else { return nil }
        defer {
            lines = []
            status = nil
        }
        return Reply(code: code, status: status, lines: lines)
    }

    // The first status counts; where further lines repeat it, it is taken off them too.
    private mutating func text(of bytes: ArraySlice<UInt8>) -> String {
        var text = bytes
        if let (found, length) = EnhancedStatus.prefix(of: bytes), status == nil || status == found {
            status = found
            text = bytes.dropFirst(length).drop { $0 == 0x20 || $0 == UInt8(ascii: ":") }
        }
        // Controls have no place in a log or a database; a NUL cannot even be stored in one.
        let clean = text.map { $0 == 0x09 ? 0x20 : $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: "?") : $0 }
        return String(decoding: clean, as: UTF8.self)
    }
}
