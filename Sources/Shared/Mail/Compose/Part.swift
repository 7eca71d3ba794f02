// The MIME parts of a message (RFC 2045, 2046, 2183, 2387) and how each is written.

/// A node of the tree that a body is.
indirect enum Part {
    case text(String, subtype: String)
    case file(DraftAttachment, isInline: Bool)
    case multipart(String, [Part])

    /// Writes the part's header fields, the empty line and its content, which ends with a line break.
    func write(to writer: inout HeaderWriter, boundaries: inout Boundaries) {
        switch self {
        case .text(let text, let subtype):
            Self.write(text, subtype: subtype, to: &writer)
        case .file(let attachment, let isInline):
            Self.write(attachment, isInline: isInline, to: &writer)
        case .multipart(let subtype, let parts):
            let boundary = boundaries.next()
            writer.begin("Content-Type")
            writer.word("multipart/\(subtype);".utf8)
            if subtype == "related" { writer.word("type=\"text/html\";".utf8) }
            writer.word(Array("boundary=\"".utf8) + boundary + [UInt8(ascii: "\"")])
            writer.end()
            writer.bytes.append(contentsOf: "\r\n".utf8)
            for part in parts {
                writer.line("--", boundary, "")
                part.write(to: &writer, boundaries: &boundaries)
            }
            writer.line("--", boundary, "--")
        }
    }

    private static func write(_ text: String, subtype: String, to writer: inout HeaderWriter) {
        var text = text
        writer.begin("Content-Type")
        writer.word("text/\(subtype); charset=utf-8".utf8)
        writer.end()
        text.withUTF8 { bytes in
            let encoding = TransferEncoding.best(for: bytes)
            writer.begin("Content-Transfer-Encoding")
            writer.word(encoding.rawValue.utf8)
            writer.end()
            writer.bytes.append(contentsOf: "\r\n".utf8)
            switch encoding {
            case .quotedPrintable: QuotedPrintableEncoder.append(bytes, to: &writer.bytes)
            case .base64: Base64Encoder.appendLines(TransferEncoding.withCRLF(bytes), to: &writer.bytes)
            }
        }
    }

    private static func write(_ attachment: DraftAttachment, isInline: Bool, to writer: inout HeaderWriter) {
        writer.begin("Content-Type")
        writer.word(contentType(attachment.mimeType).utf8)
        writer.end()
        writer.begin("Content-Transfer-Encoding")
        writer.word(TransferEncoding.base64.rawValue.utf8)
        writer.end()
        writer.begin("Content-Disposition")
        let name = FileName.parameters(attachment.fileName)
        writer.word((isInline ? "inline" : "attachment").utf8, followedBy: name.isEmpty ? nil : ";")
        for (index, parameter) in name.enumerated() {
            writer.word(parameter, followedBy: index + 1 < name.count ? ";" : nil)
        }
        writer.end()
        if let id = attachment.contentID, let identifier = References.valid(["<\(id)>"]).first {
            writer.identifiers("Content-ID", [identifier])
        }
        writer.bytes.append(contentsOf: "\r\n".utf8)
        Base64Encoder.appendLines(attachment.content, to: &writer.bytes)
    }

    // Composite types may not be base64 (RFC 2045 §6.4), and what is no type at all must not reach the header.
    private static func contentType(_ given: String) -> String {
        let pieces = given.lowercased().split(separator: ";", maxSplits: 8)
        guard let type = pieces.first.map(trimmed), type.utf8.count <= 127 else {
            return "application/octet-stream"
        }
        let halves = type.split(separator: "/", omittingEmptySubsequences: false)
        guard halves.count == 2, halves.allSatisfy({ HeaderRules.isToken($0) }),
            halves[0] != "multipart", halves[0] != "message"
        else { return "application/octet-stream" }
        for parameter in pieces.dropFirst().map(trimmed) where parameter.hasPrefix("charset=") {
            let charset = parameter.dropFirst("charset=".count).filter { $0 != "\"" }
            if HeaderRules.isToken(charset), charset.utf8.count <= 40 { return "\(type); charset=\(charset)" }
        }
        return type
    }

    private static func trimmed(_ text: Substring) -> String {
        String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
