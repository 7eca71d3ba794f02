// The tree of a message: RFC 2045 entities, kept flat so that depth costs no stack.

/// One entity of a message: its header, and where its body lies in the raw bytes.
package struct MessagePart: Sendable {
    /// What the body holds.
    package enum Content: Sendable, Equatable {
        /// Bytes, to be decoded with `ParsedMessage.bytes(of:)`.
        case leaf
        /// The indexes of the parts inside.
        case multipart([Int])
        /// The index of the attached message's own root part.
        case message(Int)
    }

    /// Its own place in `ParsedMessage.parts`.
    package let index: Int
    /// The part around it; nil for the message itself.
    package let parent: Int?
    package let header: [HeaderField]
    /// Lower case; `text/plain` where the header says nothing (RFC 2045 §5.2) or nonsense.
    package let contentType: ParameterizedValue
    /// nil where the header says nothing.
    package let disposition: ParameterizedValue?
    package let encoding: TransferDecoding
    package internal(set) var content = Content.leaf
    /// Where the header begins in the raw bytes.
    package let headerStart: Int
    /// The encoded body in the raw bytes, without the line end that belongs to the next delimiter.
    package internal(set) var body: Range<Int>

    init(index: Int, parent: Int?, block: PartHeader, start: Int, end: Int, isInDigest: Bool) {
        self.index = index
        self.parent = parent
        header = block.fields
        headerStart = start
        body = block.end..<end
        let field = block.fields.first(named: "Content-Type")
        contentType = Self.contentType(field, isRoot: parent == nil, isInDigest: isInDigest)
        disposition = block.fields.first(named: "Content-Disposition").map { ParameterizedValue($0.value) }
        let encoding = block.fields.first(named: "Content-Transfer-Encoding")
        self.encoding = encoding.map { TransferDecoding($0.value) } ?? .identity
    }

    private static func contentType(
        _ field: HeaderField?,
        isRoot: Bool,
        isInDigest: Bool
    ) -> ParameterizedValue {
        guard let declared = field.map({ ParameterizedValue($0.value) }), !declared.type.isEmpty else {
            // RFC 2046 §5.1.5: the parts of a digest are messages unless they say otherwise.
            return ParameterizedValue(value: isInDigest ? "message/rfc822" : "text/plain", parameters: [])
        }
        guard declared.subtype.isEmpty else { return declared }
        let known = ["text": "text/plain", "html": "text/html", "multipart": "multipart/mixed"]
        let other = isRoot ? "text/plain" : "application/octet-stream"
        return ParameterizedValue(value: known[declared.type] ?? other, parameters: declared.parameters)
    }

    /// `type/subtype` in lower case.
    package var mimeType: String { contentType.value }

    /// True for a part whose bytes are text to be decoded by its charset.
    package var isText: Bool { contentType.type == "text" }

    /// RFC 2046 §5.2.1, and RFC 6532 §3.7.
    package var isAttachedMessage: Bool { mimeType == "message/rfc822" || mimeType == "message/global" }

    /// The name the sender gave, without any path (RFC 2183 §2.3).
    package var fileName: String? {
        let given = disposition?["filename"] ?? contentType["name"]
        guard let name = given?.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last else { return nil }
        let clean = String(name.filter { !$0.isNewline }).trimmedASCII
        return clean.isEmpty || clean == "." || clean == ".." ? nil : String(clean.prefix(255))
    }

    /// Without its angle brackets (RFC 2045 §7).
    package var contentID: String? {
        guard let field = header.first(named: "Content-ID") else { return nil }
        return MessageIDList.ids(in: field.value).first.map { String($0.dropFirst().dropLast()) }
    }

    /// The sender wants it shown in the message and not listed beside it.
    package var isInline: Bool { disposition?.value == "inline" || disposition == nil && contentID != nil }
}
