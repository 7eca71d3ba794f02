// How large a message will be, before the files in it are read.

extension Draft {
    /// Bytes that `compose` will write when each attachment has a content of this many bytes.
    ///
    /// Exact, so that what is accepted is what can be sent; a signature comes on top.
    package func composedSize(withContents sizes: [Int]) -> Int {
        var hollow = self
        hollow.attachments = attachments.map {
            DraftAttachment(
                fileName: $0.fileName,
                mimeType: $0.mimeType,
                content: [],
                contentID: $0.contentID
            )
        }
        let lines = sizes.reduce(0) { $0 + Base64Encoder.lineOctets(of: $1) }
        return hollow.compose().count + lines - sizes.count * Base64Encoder.lineOctets(of: 0)
    }
}
