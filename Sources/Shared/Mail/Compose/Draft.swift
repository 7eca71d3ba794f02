// A message before it is bytes: everything that its author decided, and nothing that the wire adds.

package import FoundationEssentials

/// A custom header field of a draft; `HeaderRules` says which are allowed.
package struct DraftHeader: Sendable, Hashable, Codable {
    package let name: String
    package let value: String

    package init(name: String, value: String) {
        self.name = name
        self.value = value
    }
}

/// A file that goes with a draft; with a Content-ID it is shown inside the HTML.
package struct DraftAttachment: Sendable, Hashable {
    package let fileName: String
    /// `type/subtype`, a charset allowed behind it; anything else is sent as application/octet-stream.
    package let mimeType: String
    package let content: [UInt8]
    /// Without angle brackets; the HTML refers to it as `cid:…`.
    package let contentID: String?

    package init(fileName: String, mimeType: String, content: [UInt8], contentID: String? = nil) {
        self.fileName = fileName
        self.mimeType = mimeType
        self.content = content
        self.contentID = contentID
    }
}

/// Everything that a message says; there is no Bcc, blind recipients exist in the envelope alone.
package struct Draft: Sendable {
    package var from: Mailbox
    package var to: [Mailbox]
    package var cc: [Mailbox]
    package var replyTo: Mailbox?
    package var subject: String
    package var text: String?
    package var html: String?
    package var headers: [DraftHeader]
    /// With its angle brackets; stored before anything is sent and never changed over retries.
    package var messageID: String
    package var date: Date
    package var inReplyTo: String?
    package var references: [String]
    package var attachments: [DraftAttachment]
    /// The boundaries are made from this, so that a retry composes the same bytes.
    package var boundarySeed: String

    package init(
        from: Mailbox,
        to: [Mailbox],
        cc: [Mailbox] = [],
        replyTo: Mailbox? = nil,
        subject: String,
        text: String? = nil,
        html: String? = nil,
        headers: [DraftHeader] = [],
        messageID: String,
        date: Date,
        inReplyTo: String? = nil,
        references: [String] = [],
        attachments: [DraftAttachment] = [],
        boundarySeed: String
    ) {
        self.from = from
        self.to = to
        self.cc = cc
        self.replyTo = replyTo
        self.subject = subject
        self.text = text
        self.html = html
        self.headers = headers
        self.messageID = messageID
        self.date = date
        self.inReplyTo = inReplyTo
        self.references = references
        self.attachments = attachments
        self.boundarySeed = boundarySeed
    }

    /// Whether a header carries an address that only SMTPUTF8 (RFC 6531) can transport.
    package var needsSMTPUTF8: Bool {
        from.address.needsSMTPUTF8 || replyTo?.address.needsSMTPUTF8 == true
            || to.contains { $0.address.needsSMTPUTF8 } || cc.contains { $0.address.needsSMTPUTF8 }
    }
}
