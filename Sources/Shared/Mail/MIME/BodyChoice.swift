// RFC 8621 §4.1.4: which parts are the message's text, which its HTML, and which are attachments.

/// The parts of a message by what a reader does with them; indexes into `ParsedMessage.parts`.
package struct BodyChoice: Sendable, Equatable {
    /// Shown one after the other to who wants text; HTML parts among them have no text twin.
    package private(set) var text: [Int] = []
    /// Shown one after the other to who wants HTML; text parts among them have no HTML twin.
    package private(set) var html: [Int] = []
    package private(set) var attachments: [Int] = []

    init(_ parts: [MessagePart]) {
        guard !parts.isEmpty else { return }
        walk([0], in: parts, place: Place(multipart: "mixed"))
    }

    /// True for parts whose text is shown; pictures among the bodies are not.
    func isShownAsText(_ part: MessagePart) -> Bool { part.isText || part.contentType.type == "multipart" }

    /// What surrounds a part.
    private struct Place {
        var multipart: String
        var isInAlternative = false
        /// False where the twin of what stands here has been found: the list takes nothing more at this level.
        var takesText = true
        var takesHTML = true
    }

    /// The RFC's parseStructure.
    ///
    /// The depth of parts is bounded by the reader.
    private mutating func walk(_ indexes: [Int], in parts: [MessagePart], place: Place) {
        var place = place
        let textBefore = text.count
        let htmlBefore = html.count
        for (position, index) in indexes.enumerated() {
            let part = parts[index]
            if case .multipart(let children) = part.content {
                var inner = place
                inner.multipart = part.contentType.subtype
                inner.isInAlternative = place.isInAlternative || inner.multipart == "alternative"
                walk(children, in: parts, place: inner)
            } else if Self.isInline(part, position: position, multipart: place.multipart) {
                take(part, place: &place)
            } else {
                attachments.append(index)
            }
        }
        guard place.multipart == "alternative", place.takesText, place.takesHTML else { return }
        // Only one of the twins was found: it serves both.
        let newText = text[textBefore...]
        let newHTML = html[htmlBefore...]
        if newText.isEmpty { text += newHTML } else if newHTML.isEmpty { html += newText }
    }

    private mutating func take(_ part: MessagePart, place: inout Place) {
        if place.multipart == "alternative" {
            switch part.mimeType {
            case "text/plain": text.append(part.index)
            case "text/html": html.append(part.index)
            default: attachments.append(part.index)
            }
            return
        }
        if place.isInAlternative {
            if part.mimeType == "text/plain" { place.takesHTML = false }
            if part.mimeType == "text/html" { place.takesText = false }
        }
        if place.takesText { text.append(part.index) }
        if place.takesHTML { html.append(part.index) }
        // Beyond the RFC: a picture between the texts is a file too, and is kept as one.
        if Self.isMedia(part) { attachments.append(part.index) }
    }

    private static func isInline(_ part: MessagePart, position: Int, multipart: String) -> Bool {
        guard part.disposition?.value != "attachment" else { return false }
        // A multipart in which no delimiter was found is all the text there is.
        if part.content == .leaf, part.contentType.type == "multipart" { return part.parent == nil }
        guard part.content == .leaf,
            part.mimeType == "text/plain" || part.mimeType == "text/html" || isMedia(part)
        else { return false }
        return position == 0 || multipart != "related" && (isMedia(part) || part.fileName == nil)
    }

    private static func isMedia(_ part: MessagePart) -> Bool {
        ["image", "audio", "video"].contains(part.contentType.type)
    }
}
