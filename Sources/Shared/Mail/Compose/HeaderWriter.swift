// Header fields as bytes: folding, phrases, address lists, encoded words. All of a message is written into one array.

/// Appends header fields, folded at 78 columns where there is a place to fold (RFC 5322 §2.1.1, §2.2.3).
struct HeaderWriter {
    private static let columnMax = 78
    /// A run without blanks that is longer than this is sent as encoded words, which fold anywhere.
    private static let runOctetsMax = 500

    var bytes: [UInt8] = []
    private var column = 0
    private var isFirstWord = true

    init(reserving octets: Int) {
        bytes.reserveCapacity(octets)
    }

    mutating func begin(_ name: String) {
        bytes.append(contentsOf: name.utf8)
        bytes.append(UInt8(ascii: ":"))
        column = name.utf8.count + 1
        isFirstWord = true
    }

    /// Writes a blank, or a line break and a blank, then the word and what must cling to it.
    mutating func word(_ word: some Collection<UInt8>, followedBy suffix: Character? = nil) {
        let width = 1 + word.count + (suffix == nil ? 0 : 1)
        if !isFirstWord, column + width > Self.columnMax { fold() }
        bytes.append(UInt8(ascii: " "))
        bytes.append(contentsOf: word)
        if let ascii = suffix?.asciiValue { bytes.append(ascii) }
        column += width
        isFirstWord = false
    }

    mutating func end() {
        bytes.append(contentsOf: "\r\n".utf8)
        column = 0
    }

    /// A whole line that is no header field: boundaries.
    mutating func line(_ prefix: StaticString, _ content: [UInt8], _ suffix: StaticString) {
        prefix.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: content)
        suffix.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: "\r\n".utf8)
    }

    private mutating func fold() {
        bytes.append(contentsOf: "\r\n".utf8)
        column = 0
    }
}

// MARK: Fields

extension HeaderWriter {
    /// `Name: value` with free text; encoded words when it is not plain ASCII.
    mutating func unstructured(_ name: String, _ value: String) {
        let value = Self.withoutControls(value)
        begin(name)
        if EncodedWord.isNeeded(for: value) || !foldedWords(value) { encodedWords(value) }
        end()
    }

    /// An address list (RFC 5322 §3.4); nothing is written for an empty one.
    mutating func mailboxes(_ name: String, _ mailboxes: [Mailbox]) {
        guard !mailboxes.isEmpty else { return }
        begin(name)
        for (index, mailbox) in mailboxes.enumerated() {
            let comma: Character? = index + 1 < mailboxes.count ? "," : nil
            if let displayName = mailbox.displayName {
                phrase(Array(displayName.utf8))
                word("<\(mailbox.address)>".utf8, followedBy: comma)
            } else {
                word(mailbox.address.description.utf8, followedBy: comma)
            }
        }
        end()
    }

    /// Message identifiers, one word each; nothing is written when there is none.
    mutating func identifiers(_ name: String, _ identifiers: [String]) {
        guard !identifiers.isEmpty else { return }
        begin(name)
        for identifier in identifiers { word(identifier.utf8) }
        end()
    }

    private mutating func phrase(_ name: [UInt8]) {
        if EncodedWord.isNeeded(for: name) || name.count > 60 {
            encodedWords(name)
            return
        }
        let isAtoms = name.allSatisfy { LocalPart.isAtomText($0) || $0 == UInt8(ascii: " ") }
        if isAtoms {
            for atom in name.split(separator: UInt8(ascii: " ")) { word(atom) }
            return
        }
        var quoted: [UInt8] = [UInt8(ascii: "\"")]
        for byte in name {
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { quoted.append(UInt8(ascii: "\\")) }
            quoted.append(byte)
        }
        quoted.append(UInt8(ascii: "\""))
        word(quoted)
    }

    // Breaks only where the value has blanks and keeps them, so that unfolding gives the value back.
    // False, with nothing written, when some run is too long for a line.
    private mutating func foldedWords(_ value: [UInt8]) -> Bool {
        var runs: [Range<Int>] = []
        var start = 0
        var index = 0
        while index < value.count {
            while index < value.count, Self.isBlank(value[index]) { index += 1 }
            while index < value.count, !Self.isBlank(value[index]) { index += 1 }
            guard index - start <= Self.runOctetsMax else { return false }
            runs.append(start..<index)
            start = index
        }
        for (number, run) in runs.enumerated() {
            if number == 0 {
                bytes.append(UInt8(ascii: " "))
                column += 1
            } else if column + run.count > Self.columnMax {
                fold()
            }
            bytes.append(contentsOf: value[run])
            column += run.count
        }
        isFirstWord = false
        return true
    }

    // RFC 2047 §2: at most 75 characters a word and 76 a line.
    private mutating func encodedWords(_ value: [UInt8]) {
        let encoder = EncodedWord(for: value)
        var index = 0
        while index < value.count {
            if 76 - column - 1 < EncodedWord.octetsMin { fold() }
            bytes.append(UInt8(ascii: " "))
            column += 1
            let before = bytes.count
            index = encoder.append(value, from: index, room: min(75, 76 - column), to: &bytes)
            column += bytes.count - before
            isFirstWord = false
        }
    }

    // A line break in a value would be a header field of somebody else's making.
    private static func withoutControls(_ value: String) -> [UInt8] {
        var clean: [UInt8] = []
        clean.reserveCapacity(value.utf8.count)
        for byte in value.utf8 {
            clean.append(
                (byte < 0x20 && byte != UInt8(ascii: "\t")) || byte == 0x7F ? UInt8(ascii: " ") : byte
            )
        }
        while let last = clean.last, isBlank(last) { clean.removeLast() }
        return Array(clean.drop(while: isBlank))
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
    }
}
