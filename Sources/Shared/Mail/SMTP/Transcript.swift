// What was said, kept with a recipient so that its owner can see why a message did not arrive.

/// The bounded record of a session's opening and of its present transaction; no secret and no content is in it.
package struct Transcript: Sendable, Hashable {
    /// Of each of the two halves; the middle of a longer one is left out.
    package static let linesMax = 60
    /// In octets.
    package static let lineOctetsMax = 512

    private var opening: [String] = []
    private var exchange: [String] = []
    private var isInTransaction = false

    /// Lines beginning with `C: ` or `S: `, or with `-- ` for what was no line of either side.
    package var lines: [String] { Self.shortened(opening) + Self.shortened(exchange) }

    /// The lines as one text.
    package var text: String { lines.joined(separator: "\n") }

    // A kept connection serves many organizations; none may read what was said for another.
    mutating func beginTransaction() {
        exchange = []
        isInTransaction = true
    }

    mutating func client(_ line: some StringProtocol) { append("C: ", line) }

    mutating func server(_ reply: Reply) {
        for (index, line) in reply.lines.prefix(Self.linesMax).enumerated() {
            let separator = index + 1 < reply.lines.count ? "-" : " "
            let status = reply.status.map { "\($0) " } ?? ""
            append("S: ", "\(reply.code)\(separator)\(status)\(line)")
        }
    }

    mutating func note(_ line: some StringProtocol) { append("-- ", line) }

    private mutating func append(_ prefix: String, _ line: some StringProtocol) {
        let text =
            line.utf8.count <= Self.lineOctetsMax ? String(line) : "\(line.prefix(Self.lineOctetsMax / 4))…"
        if isInTransaction {
            exchange.append(prefix + text)
            Self.bound(&exchange)
        } else {
            opening.append(prefix + text)
            Self.bound(&opening)
        }
    }

    // Keeps the beginning and the end: the middle is RCPT after RCPT.
    private static func bound(_ lines: inout [String]) {
        if lines.count > linesMax { lines.remove(at: linesMax / 2) }
    }

    private static func shortened(_ lines: [String]) -> [String] {
        guard lines.count == linesMax else { return lines }
        return lines.prefix(linesMax / 2) + ["-- …"] + lines.suffix(linesMax / 2)
    }
}
