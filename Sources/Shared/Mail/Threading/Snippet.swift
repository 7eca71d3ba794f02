// The line under a subject in a list of threads.

/// The beginning of a message's text, on one line.
package enum Snippet {
    /// The longest snippet, in characters.
    package static let lengthMax = 200

    /// At most `lengthMax` characters of `text`, blanks and line ends as one space, cut at a word's end.
    package static func of(_ text: String) -> String {
        var output = ""
        var count = 0
        var isSpaceDue = false
        var isASCII = true
        for character in text.unicodeScalars {
            if character.isASCII {
                if isInvisibleASCII(character) { continue }
            } else {
                if isInvisible(character) { continue }
                isASCII = false
            }
            if isWhitespace(character) {
                isSpaceDue = count > 0
                continue
            }
            if isSpaceDue {
                output.unicodeScalars.append(" ")
                count += 1
                isSpaceDue = false
            }
            output.unicodeScalars.append(character)
            count += 1
            // Scalars bound the work; characters bound the answer, and each of ASCII's is one.
            if count > (isASCII ? lengthMax : lengthMax * 4) { break }
        }
        guard output.count > lengthMax else { return output }
        let cut = output.prefix(lengthMax - 1)
        let end = cut.lastIndex(of: " ").map { cut.distance(from: cut.startIndex, to: $0) } ?? 0
        return String(end > lengthMax / 2 ? cut.prefix(end) : cut) + "…"
    }

    /// The table of properties is slow, and most of what is asked is ASCII.
    private static func isWhitespace(_ scalar: Unicode.Scalar) -> Bool {
        scalar.isASCII
            ? scalar == " " || (0x09...0x0D).contains(scalar.value) : scalar.properties.isWhitespace
    }

    private static func isInvisibleASCII(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 ? !(0x09...0x0D).contains(scalar.value) : scalar.value == 0x7F
    }

    /// Newsletters fill the preview with joiners and soft hyphens.
    private static func isInvisible(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00...0x08, 0x0E...0x1F, 0x7F...0x84, 0x86...0x9F: true
        case 0xAD, 0x34F, 0x61C, 0x180E, 0x200B...0x200F, 0x202A...0x202E, 0x2060...0x206F, 0xFEFF,
            0xFFF9...0xFFFC:
            scalar.value != 0x200D
        default: false
        }
    }
}
