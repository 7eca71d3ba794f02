// A message as its reader sees it: who, when, what, and the files with it.

internal import Foundation

/// A received message, parsed; made by `MIMEReader.read`.
package struct ParsedMessage: Sendable {
    /// The bytes as they were received.
    package let raw: [UInt8]
    /// Every part, the message itself first, in the order in which they stand.
    package let parts: [MessagePart]
    /// Indexes of the parts that are the text, the HTML and the attachments (RFC 8621 §4.1.4).
    package let bodies: BodyChoice
    /// The message as text, made from HTML where it has no text part; nil where it has neither.
    package let text: String?
    /// The HTML part; nil where there is none.
    package let html: String?
    /// What is neither; not decoded yet.
    package let attachments: [ReceivedAttachment]

    init(raw: [UInt8], parts: [MessagePart]) {
        self.raw = raw
        self.parts = parts
        bodies = BodyChoice(parts)
        (text, html) = Self.compose(bodies, parts: parts, raw: raw)
        attachments = bodies.attachments.map { ReceivedAttachment(parts[$0]) }
    }

    /// The message's own header.
    package var header: [HeaderField] { parts.first?.header ?? [] }

    /// The decoded bytes of a leaf; for a multipart or an attached message its bytes as received.
    package func bytes(of part: Int) -> [UInt8] { Self.bytes(of: parts[part], in: raw) }

    /// The text of a leaf by its charset, lines ended by LF.
    package func text(of part: Int) -> String { Self.text(of: parts[part], in: raw) }

    /// A part's bytes from the first byte of its header on: an attached message or report as a message of its own.
    package func whole(_ part: Int) -> [UInt8] {
        Array(raw[parts[part].headerStart..<parts[part].body.upperBound])
    }
}

// MARK: - Header fields

extension ParsedMessage {
    /// The charset that raw 8-bit header bytes are probably in.
    private var headerCharset: Charset? {
        bodies.text.first.flatMap { parts[$0].contentType["charset"] }.flatMap { Charset(label: $0) }
    }

    /// A field's text, the last one where there are several; empty where there is none.
    private func text(_ name: String) -> String? {
        header.first(named: name).map { EncodedText.decode($0.value, fallback: headerCharset) }
    }

    private func addresses(_ name: String) -> [ReceivedAddress] {
        let charset = headerCharset
        return header.all(named: name).flatMap { AddressList.parse($0.value, fallback: charset).flattened }
    }

    /// Decoded; nil where there is none.
    package var subject: String? { text("Subject") }
    package var from: [ReceivedAddress] { addresses("From") }
    package var sender: ReceivedAddress? { addresses("Sender").first }
    package var replyTo: [ReceivedAddress] { addresses("Reply-To") }
    package var to: [ReceivedAddress] { addresses("To") }
    package var cc: [ReceivedAddress] { addresses("Cc") }

    /// With angle brackets; nil where there is none (RFC 5322 §3.6.4).
    package var messageID: String? {
        header.first(named: "Message-ID").flatMap { MessageIDList.ids(in: $0.value).first }
    }
    /// With angle brackets, in order.
    package var inReplyTo: [String] {
        header.all(named: "In-Reply-To").flatMap { MessageIDList.ids(in: $0.value) }
    }
    /// With angle brackets, oldest first.
    package var references: [String] {
        header.all(named: "References").flatMap { MessageIDList.ids(in: $0.value) }
    }
    /// When the sender says that it was written; nil where that is missing or unreadable.
    package var date: HeaderDate? { header.first(named: "Date").flatMap { HeaderDate($0.value) } }

    /// RFC 3834 §2: made by a program; nothing automatic may answer it.
    package var isAutomatic: Bool {
        if let value = text("Auto-Submitted")?.asciiLowercased, !value.hasPrefix("no") { return true }
        let precedence = text("Precedence")?.trimmedASCII.asciiLowercased
        return ["bulk", "junk", "list", "auto_reply"].contains(precedence)
    }

    /// The text without quotation and signature.
    package var extractedText: String { ReplyText.extract(from: text ?? "") }
}

// MARK: - Bodies

extension ParsedMessage {
    private static func bytes(of part: MessagePart, in raw: [UInt8]) -> [UInt8] {
        guard part.content == .leaf else { return Array(raw[part.body]) }
        return part.encoding.decode(raw, in: part.body)
    }

    private static func text(of part: MessagePart, in raw: [UInt8]) -> String {
        let bytes = bytes(of: part, in: raw)
        var label = part.contentType["charset"]
        if label.flatMap({ Charset(label: $0) }) == nil, part.mimeType == "text/html" {
            label = HTMLText.declaredCharset(in: bytes) ?? label
        }
        return normalize(Charset.decode(bytes, label: label))
    }

    /// LF at line ends, and no NUL: PostgreSQL keeps none in text.
    private static func normalize(_ text: String) -> String {
        guard text.utf8.contains(where: { $0 == ASCII.cr || $0 == ASCII.nul }) else { return text }
        var output: [UInt8] = []
        output.reserveCapacity(text.utf8.count)
        var previous: UInt8 = 0
        for byte in text.utf8 {
            if byte == ASCII.cr {
                output.append(ASCII.lf)
            } else if byte != ASCII.nul, !(byte == ASCII.lf && previous == ASCII.cr) {
                output.append(byte)
            }
            previous = byte
        }
        return String(decoding: output, as: UTF8.self)
    }

    private static func compose(
        _ bodies: BodyChoice,
        parts: [MessagePart],
        raw: [UInt8]
    ) -> (text: String?, html: String?) {
        var texts: [String] = []
        for index in bodies.text where bodies.isShownAsText(parts[index]) {
            let text = text(of: parts[index], in: raw)
            texts.append(parts[index].mimeType == "text/html" ? HTMLText.text(from: text) : text)
        }
        let htmlParts = bodies.html.filter { bodies.isShownAsText(parts[$0]) }
        guard htmlParts.contains(where: { parts[$0].mimeType == "text/html" }) else {
            return (texts.isEmpty ? nil : texts.joined(separator: "\n"), nil)
        }
        let html = htmlParts.map { index in
            let text = text(of: parts[index], in: raw)
            return parts[index].mimeType == "text/html" ? text : HTMLText.html(from: text)
        }
        return (texts.isEmpty ? nil : texts.joined(separator: "\n"), html.joined(separator: "\n"))
    }
}

/// What is not the message's text: a file, a picture, an attached message.
package struct ReceivedAttachment: Sendable, Equatable {
    /// Its place in `ParsedMessage.parts`.
    package let part: Int
    /// As sent, or made from the type where the sender gave none; never a path.
    package let fileName: String
    package let mimeType: String
    /// For `cid:` references, without angle brackets.
    package let contentID: String?
    package let isInline: Bool

    init(_ part: MessagePart) {
        self.part = part.index
        mimeType = part.mimeType.contains("/") ? part.mimeType : "application/octet-stream"
        fileName = part.fileName ?? Self.madeUpName(part)
        contentID = part.contentID
        isInline = part.isInline
    }

    private static func madeUpName(_ part: MessagePart) -> String {
        let endings = [
            "text/plain": "txt", "text/html": "html", "text/calendar": "ics", "text/csv": "csv",
            "image/jpeg": "jpg",
            "image/png": "png", "image/gif": "gif", "application/pdf": "pdf", "application/zip": "zip",
            "message/rfc822": "eml", "message/global": "eml", "message/delivery-status": "txt",
            "text/rfc822-headers": "txt", "application/pgp-signature": "asc", "application/ms-tnef": "dat",
        ]
        let stem = part.isAttachedMessage ? "message" : "attachment"
        return "\(stem)-\(part.index).\(endings[part.mimeType] ?? "bin")"
    }
}
