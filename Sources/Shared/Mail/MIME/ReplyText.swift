// What somebody wrote, without what they answered to and without their signature.

/// Finds the reply in a text that quotes what it answers.
package enum ReplyText {
    /// Longer texts are looked at up to here; what follows is quotation.
    private static let sizeMax = 1 << 20

    /// The reply; the whole text where nothing but quotation would be left out of it.
    package static func extract(from text: String) -> String {
        let lines = String(decoding: text.utf8.prefix(sizeMax), as: UTF8.self)
            .split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }
            .map { QuoteLine($0) }
        let kept = dropRule(dropSignature(dropQuotation(lines)))
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
        /// Lines with something on them from here to the end.
        var below = lines.count { !$0.isBlank }
        for (position, line) in lines.enumerated() where !line.isBlank {
            below -= 1
            let isMark =
                line.isSignatureMark || line.isDeviceLine && below <= 2 || line.isDashRule && below <= 8
            if isMark { return Array(lines[..<position]) }
        }
        return lines
    }

    /// A rule that stood above the quotation.
    private static func dropRule(_ lines: [QuoteLine]) -> [QuoteLine] {
        guard let last = lines.lastIndex(where: { !$0.isBlank }), lines[last].isRule else { return lines }
        return Array(lines[..<last])
    }
}

/// One line of a text, and what it looks like.
struct QuoteLine {
    let text: Substring
    /// Without blanks and bold marks at its ends.
    let plain: String

    init(_ line: Substring) {
        text = line
        // Some programs write no-break spaces around their attributions.
        let trimmed = line.prefix(1_000).drop { $0.isWhitespace }
        let end = trimmed.lastIndex { !$0.isWhitespace } ?? trimmed.startIndex
        plain = trimmed.isEmpty ? "" : String(trimmed[...end])
    }

    var isBlank: Bool { plain.isEmpty }
    /// `> ` as RFC 3676 §4.5 has it.
    var isQuoted: Bool { plain.first == ">" }
    /// `-- ` alone on its line; many forget the blank, some use other dashes.
    var isSignatureMark: Bool { ["--", "—", "––", "- --", "__"].contains(plain) }
    /// A rule of long dashes.
    var isDashRule: Bool { plain.count >= 3 && plain.allSatisfy { $0 == "—" || $0 == "–" } }
    /// Any rule.
    var isRule: Bool { plain.count >= 3 && plain.allSatisfy { "-_=*—–".contains($0) } }

    /// "Sent from my iPhone" and the like.
    var isDeviceLine: Bool {
        guard plain.utf8.count <= 160 else { return false }
        let lower = plain.lowercased()
        guard let mark = QuoteMarks.deviceMarks.first(where: { lower.hasPrefix($0) }) else { return false }
        let words = lower.dropFirst(mark.count).split(separator: " ")
        return words.count <= 4
            || words.first.map { QuoteMarks.devices.contains($0.filter(\.isLetter)) } == true
    }
}
