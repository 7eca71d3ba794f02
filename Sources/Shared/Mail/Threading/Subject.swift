// RFC 5256 §2.1: the base subject, by which answers find their thread when nothing better is left.

/// What a subject is about, without the marks of answering and forwarding.
package enum Subject {
    /// The base subject, and whether marks of an answer or a forwarded message were taken off it.
    package static func base(_ subject: String) -> (base: String, isReply: Bool) {
        // Step 1: blanks and tabs become one space. (Encoded words are decoded already.)
        var text = collapse(subject.prefix(lengthMax))[...]
        var isReply = false
        while true {
            // Step 2: trailing "(fwd)".
            let before = text
            while let shorter = dropTrailer(text, &isReply) { text = shorter }
            // Steps 3 to 5: "Re:", "Fw:", "[list]", for as long as something is left.
            while let shorter = dropLeader(text, &isReply) ?? dropBlob(text) { text = shorter }
            // Step 6: "[fwd: …]".
            if let inner = unwrap(text) {
                text = inner
                isReply = true
            }
            guard text != before else { break }
        }
        return (String(text), isReply)
    }

    /// The subject of an answer: as it was given, with exactly one `Re:` before it.
    ///
    /// Marks of answers in other languages, and counted ones, give way to it; marks of forwarding stay.
    package static func answering(_ subject: String) -> String {
        var rest = trim(subject[...])
        while let shorter = dropAnswerMark(rest) { rest = shorter }
        return rest.isEmpty ? "Re:" : "Re: \(rest)"
    }

    private static let answerMarks: Set<String> = [
        "re", "aw", "antw", "antwort", "sv", "vs", "res", "rif", "ref", "odp", "ynt", "atb", "vá", "απ", "回复",
        "回覆",
        "答复", "答覆", "ответ", "отв", "תגובה", "رد",
    ]

    private static func dropAnswerMark(_ text: Substring) -> Substring? {
        guard let colon = text.prefix(24).firstIndex(where: { $0 == ":" || $0 == "：" }) else { return nil }
        guard answerMarks.contains(markWord(text[..<colon]).lowercased()) else { return nil }
        return trim(text[text.index(after: colon)...])
    }

    /// Without a counter: "Re[2]", "Re(2)", "Re^2", "Re²".
    private static func markWord(_ text: Substring) -> Substring {
        var word = text
        if word.last == "]", let bracket = word.lastIndex(of: "[") { word = word[..<bracket] }
        if word.last == ")", let bracket = word.lastIndex(of: "(") { word = word[..<bracket] }
        while let last = word.last, last.isNumber || last == "^" || last == "*" || last.isWhitespace {
            word = word.dropLast()
        }
        return word
    }

    /// Longer subjects are cut: the marks stand at the beginning.
    private static let lengthMax = 2_000

    private static func collapse(_ text: Substring) -> String {
        text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    private static func trim(_ text: Substring) -> Substring {
        var text = text
        while text.first?.isWhitespace == true { text = text.dropFirst() }
        while text.last?.isWhitespace == true { text = text.dropLast() }
        return text
    }

    private static func dropTrailer(_ text: Substring, _ isReply: inout Bool) -> Substring? {
        if text.last == " " { return trim(text) }
        guard text.suffix(5).lowercased() == "(fwd)" else { return nil }
        isReply = true
        return trim(text.dropLast(5))
    }

    /// subj-refwd: ("re" / ("fw" ["d"])) *WSP [subj-blob] ":".
    ///
    /// Beyond the RFC, the same words of other languages and counters ("Re[2]:", "Re²:") that real mailers
    /// write.
    private static func dropLeader(_ text: Substring, _ isReply: inout Bool) -> Substring? {
        // subj-leader = (*subj-blob subj-refwd) / WSP
        if text.first == " " { return text.dropFirst() }
        var rest = text
        while let shorter = dropOneBlob(rest) { rest = shorter }
        guard let colon = rest.prefix(24).firstIndex(where: { $0 == ":" || $0 == "：" }) else { return nil }
        guard marks.contains(markWord(rest[..<colon]).lowercased()) else { return nil }
        isReply = true
        return trim(rest[rest.index(after: colon)...])
    }

    private static let marks: Set<String> = [
        "re", "fw", "fwd",
        "aw", "wg", "antw", "antwort", "sv", "vs", "vb", "vl", "rv", "res", "enc", "rif", "ref", "tr", "odp",
        "pd",
        "ynt", "ilt", "atb", "vá", "továbbítás", "απ", "πρθ", "hdk", "bls", "trs", "回复", "回覆", "转发", "轉寄",
        "答复", "答覆", "ответ", "отв", "пересл", "ха", "תגובה", "הועבר", "رد", "إعادة توجيه",
    ]

    /// Step 4: a blob at the beginning goes where a base is left behind it.
    private static func dropBlob(_ text: Substring) -> Substring? {
        guard let rest = dropOneBlob(text), !trim(rest).isEmpty else { return nil }
        return rest
    }

    // subj-blob = "[" *BLOBCHAR "]" *WSP
    private static func dropOneBlob(_ text: Substring) -> Substring? {
        guard text.first == "[", let close = text.firstIndex(of: "]") else { return nil }
        let inner = text[text.index(after: text.startIndex)..<close]
        guard !inner.contains("[") else { return nil }
        return trim(text[text.index(after: close)...])
    }

    /// Step 6: subj-fwd-hdr subject subj-fwd-trl.
    private static func unwrap(_ text: Substring) -> Substring? {
        guard text.last == "]", text.prefix(5).lowercased() == "[fwd:" else { return nil }
        return trim(text.dropFirst(5).dropLast())
    }
}
