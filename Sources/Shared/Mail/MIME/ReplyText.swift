// What somebody wrote, without what they answered to and without their signature.

/// Finds the reply in a text that quotes what it answers.
package enum ReplyText {
    /// Longer texts are looked at up to here; what follows is quotation.
    private static let sizeMax = 1 << 20

    /// The reply; the whole text where nothing but quotation would be left out of it.
    package static func extract(from text: String) -> String {
        let lines = String(decoding: text.utf8.prefix(sizeMax), as: UTF8.self)
            .split(separator: "\n", omittingEmptySubsequences: false)
            .map { QuoteLine($0) }
        let kept = dropSignature(dropQuotation(lines))
        let reply = kept.map(\.text).joined(separator: "\n").trimmedASCII
        return reply.isEmpty ? text.trimmedASCII : reply
    }

    private static func dropQuotation(_ lines: [QuoteLine]) -> [QuoteLine] {
        var kept: [QuoteLine] = []
        var position = 0
        while position < lines.count {
            let line = lines[position]
            if line.isQuoted {
                position += 1
                continue
            }
            if let end = QuoteMarks.attributionEnd(lines, at: position) {
                // Marked quotation may have answers between and below; unmarked goes on to the end.
                let next = lines[end...].first { !$0.isBlank }
                guard next?.isQuoted == true else { return kept }
                position = end
                continue
            }
            if QuoteMarks.beginsOriginal(lines, at: position) { return kept }
            kept.append(line)
            position += 1
        }
        return kept
    }

    /// RFC 3676 §4.3, and the lines that telephones add.
    private static func dropSignature(_ lines: [QuoteLine]) -> [QuoteLine] {
        for (position, line) in lines.enumerated() {
            guard line.isSignatureMark || line.isDeviceLine && isNearEnd(lines, after: position) else {
                continue
            }
            return Array(lines[..<position])
        }
        return lines
    }

    private static func isNearEnd(_ lines: [QuoteLine], after position: Int) -> Bool {
        lines[(position + 1)...].filter { !$0.isBlank }.count <= 2
    }
}

/// One line of a text, and what it looks like.
struct QuoteLine {
    let text: Substring
    /// Without blanks and bold marks at its ends.
    let plain: String

    init(_ line: Substring) {
        text = line
        plain = String(line.prefix(1_000)).trimmedASCII
    }

    var isBlank: Bool { plain.isEmpty }
    /// `> ` as RFC 3676 §4.5 has it.
    var isQuoted: Bool { plain.first == ">" }
    /// `-- ` alone on its line; many forget the blank, some use other dashes.
    var isSignatureMark: Bool { ["--", "—", "––", "- --", "__"].contains(plain) }

    /// "Sent from my iPhone" and the like.
    var isDeviceLine: Bool {
        guard plain.utf8.count <= 120 else { return false }
        let lower = plain.lowercased()
        return QuoteMarks.deviceMarks.contains { lower.hasPrefix($0) }
    }
}
