// RFC 5965: what a mailbox provider sends when one of its users calls a message spam.

/// A complaint about a message we sent.
///
/// Like a bounce it proves nothing by itself, and the addresses in it may be blanked: it is mapped by token
/// or Message-ID, never by To.
package struct FeedbackReport: Sendable, Equatable {
    /// `abuse`, `fraud`, `not-spam`, `virus`, `opt-out`, `auth-failure`, … in lower case (RFC 5965 §7.3).
    package let feedbackType: String
    package let userAgent: String?
    /// Original-Rcpt-To, which providers often leave out.
    package let recipients: [String]
    /// Original-Mail-From, without angle brackets: our return path with its token.
    package let sender: String?
    package let sourceAddress: String?
    package let reportedDomain: String?
    /// The Message-ID of the message complained about, with angle brackets.
    package let originalMessageID: String?
    /// The header of the message complained about, as far as it came back.
    package let originalHeader: [HeaderField]

    /// True for reports that mean: this person wants no more of it.
    package var isComplaint: Bool { !["not-spam", "auth-failure", "virus"].contains(feedbackType) }

    /// The report in a message; nil where it is none.
    package static func read(_ message: ParsedMessage) -> FeedbackReport? {
        guard let fields = Self.fields(in: message) else { return nil }
        let original = originalHeader(in: message)
        let type = fields.first(named: "Feedback-Type")?.text.trimmedASCII.asciiLowercased
        return FeedbackReport(
            feedbackType: type ?? "abuse",
            userAgent: fields.first(named: "User-Agent")?.text,
            recipients: fields.all(named: "Original-Rcpt-To").flatMap {
                AddressList.parse($0.value).flattened.map(\.address)
            },
            sender: fields.first(named: "Original-Mail-From").flatMap {
                AddressList.parse($0.value).flattened.first?.address
            },
            sourceAddress: fields.first(named: "Source-IP")?.text.trimmedASCII,
            reportedDomain: fields.first(named: "Reported-Domain")?.text.trimmedASCII,
            originalMessageID: original.first(named: "Message-ID").flatMap {
                MessageIDList.ids(in: $0.value).first
            },
            originalHeader: original
        )
    }

    private static func fields(in message: ParsedMessage) -> [HeaderField]? {
        if let part = message.parts.first(where: { $0.mimeType == "message/feedback-report" }) {
            let bytes = message.bytes(of: part.index)
            return PartHeader(bytes, at: 0, limit: bytes.count, isRoot: true).fields
        }
        // The right fields under a wrong type, in a message that says it is one; and Hotmail's reports, which are only
        // the message itself with a header of their own.
        let declared = message.parts.first?.contentType
        if declared?["report-type"]?.asciiLowercased == "feedback-report" {
            for part in message.parts where part.content == .leaf {
                let bytes = message.bytes(of: part.index)
                let fields = PartHeader(bytes, at: 0, limit: bytes.count, isRoot: true).fields
                if fields.first(named: "Feedback-Type") != nil { return fields }
            }
            return []
        }
        // Apple's mail programs unsubscribe for their users by a letter of their own.
        if message.header.first(named: "X-Apple-Unsubscribe") != nil {
            return [HeaderField(name: "Feedback-Type", value: Array("opt-out".utf8))]
        }
        let header = message.header + originalHeader(in: message)
        guard let recipient = header.first(named: "X-HmXmrOriginalRecipient") else { return nil }
        return [HeaderField(name: "Original-Rcpt-To", value: recipient.value)]
    }

    private static func originalHeader(in message: ParsedMessage) -> [HeaderField] {
        for part in message.parts.dropFirst() {
            if part.isAttachedMessage {
                if case .message(let root) = part.content { return message.parts[root].header }
                return MIMEReader.read(message.bytes(of: part.index)).header
            }
            if part.mimeType == "text/rfc822-headers" {
                return MIMEReader.read(message.bytes(of: part.index)).header
            }
        }
        return []
    }
}
