// Lays out the text of an HTML document: blanks collapse, lines and paragraphs are kept apart, quotations are marked.

/// The text that is being written.
struct TextWriter {
    private(set) var output: [UInt8] = []
    /// How many `> ` begin each line.
    var quoteDepth = 0
    /// Line ends that the next text needs before it: 0, 1, or 2 for an empty line between.
    private var breaksDue = 0
    private var isSpaceDue = false
    private var isLineStart = true

    /// Writes text; outside `pre` runs of blanks become one.
    mutating func write(_ text: ArraySlice<UInt8>, isPre: Bool) {
        var run = text.startIndex
        var position = text.startIndex
        while position < text.endIndex {
            let byte = text[position]
            let isNoBreakSpace = byte == 0xC2 && position + 1 < text.endIndex && text[position + 1] == 0xA0
            guard byte.isSpace || isNoBreakSpace else {
                position += 1
                continue
            }
            put(text[run..<position])
            position += isNoBreakSpace ? 2 : 1
            run = position
            if isPre, byte == ASCII.lf {
                lineBreak()
            } else if isPre {
                begin()
                output.append(ASCII.space)
            } else {
                space()
            }
        }
        put(text[run...])
    }

    /// A blank, if text follows on the same line.
    mutating func space() {
        if !isLineStart, breaksDue == 0 { isSpaceDue = true }
    }

    /// The end of the line, if anything stands on it.
    mutating func newLine() {
        isSpaceDue = false
        if !isLineStart { breaksDue = max(breaksDue, 1) }
    }

    /// An empty line before what follows.
    mutating func paragraph() {
        isSpaceDue = false
        if !output.isEmpty { breaksDue = 2 }
    }

    /// `<br>`: two of them make an empty line.
    mutating func lineBreak() {
        isSpaceDue = false
        breaksDue = min(breaksDue + 1, 3)
    }

    /// A list item's mark, behind which no blank is lost.
    mutating func mark(_ text: String) {
        put(Array(text.utf8)[...])
        isLineStart = true
    }

    private mutating func put(_ text: ArraySlice<UInt8>) {
        guard !text.isEmpty else { return }
        begin()
        output.append(contentsOf: text)
    }

    private mutating func begin() {
        if output.isEmpty {
            breaksDue = 0
            quote()
        } else if breaksDue > 0 {
            for _ in 0..<breaksDue {
                output.append(ASCII.lf)
            }
            breaksDue = 0
            quote()
        } else if isSpaceDue {
            output.append(ASCII.space)
        }
        isSpaceDue = false
        isLineStart = false
    }

    private mutating func quote() {
        for _ in 0..<quoteDepth { output.append(contentsOf: [ASCII.greater, ASCII.space]) }
    }

    /// The text, without blanks at its end.
    mutating func finish() -> String {
        while let last = output.last, last.isSpace { output.removeLast() }
        return String(decoding: output, as: UTF8.self)
    }
}
