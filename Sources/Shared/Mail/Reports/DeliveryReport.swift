// What comes back about a message we sent: delivery status notifications (RFC 3464), and the many letters that say the
// same in their own words.

/// A report about the delivery of an earlier message.
///
/// Nobody has proved anything with it: only the token in the address that it came to says whether it may
/// change something.
package struct DeliveryReport: Sendable, Equatable {
    /// RFC 3464 §2.3.3.
    package enum Action: String, Sendable, Equatable, CaseIterable {
        case failed, delayed, delivered, relayed, expanded
    }

    /// What happened to one recipient.
    package struct Recipient: Sendable, Equatable {
        /// As reported; empty where the report names nobody.
        package let address: String
        package let action: Action
        /// The most telling enhanced status that the report gives.
        package let status: EnhancedStatus?
        /// The SMTP code in the diagnostic text.
        package let code: Int?
        /// What the remote server said, or the letter's words; one line, cut at 1,000 characters.
        package let diagnostic: String
        /// The server that said so.
        package let remoteMTA: String?

        /// The refusal came after the data, when the address itself had been accepted.
        package let isAfterData: Bool

        /// What a failure means for the address; nil where nothing failed.
        package var bounce: Bounce? {
            guard action == .failed || action == .delayed else { return nil }
            return ReportedBounce.read(
                code: code,
                status: status,
                text: diagnostic,
                isPermanent: isPermanent,
                isAfterData: isAfterData
            )
        }

        /// Trying again cannot help: by the status, then by the code, then because the report says failed.
        private var isPermanent: Bool {
            if action == .delayed { return false }
            if let status { return status.class == 5 }
            if let code { return code >= 500 }
            return action == .failed
        }
    }

    /// One for each recipient that the report names.
    package let recipients: [Recipient]
    /// The Message-ID of the message it is about, with angle brackets.
    package let originalMessageID: String?
    /// The ENVID we gave at MAIL (RFC 3461 §4.4).
    package let envelopeID: String?
    /// The server that wrote the report.
    package let reportingMTA: String?
    /// True for RFC 3464 reports, false where a letter was interpreted.
    package let isStandard: Bool

    /// More recipients of one report than this are looked over.
    static let recipientsMax = 1_000

    /// The report in a message; nil where it is none.
    package static func read(_ message: ParsedMessage) -> DeliveryReport? {
        let original = OriginalMessage(in: message)
        let fields = StatusFields(in: message)
        let letter = BounceLetter(message)
        if let fields, !fields.recipients.isEmpty {
            let groups = fields.recipients.prefix(recipientsMax)
            let addresses = groups.map(\.address)
            return DeliveryReport(
                recipients: groups.map { $0.recipient(letter: letter, among: addresses) },
                originalMessageID: original.messageID ?? fields.originalMessageID,
                envelopeID: fields.envelopeID,
                reportingMTA: fields.reportingMTA,
                isStandard: true
            )
        }
        guard letter.isBounce else { return nil }
        let recipients = letter.recipients(original: original)
        guard !recipients.isEmpty else { return nil }
        return DeliveryReport(
            recipients: recipients,
            originalMessageID: original.messageID ?? letter.originalMessageID,
            envelopeID: fields?.envelopeID,
            reportingMTA: fields?.reportingMTA,
            isStandard: false
        )
    }
}

/// What a report returns of the message it is about.
struct OriginalMessage {
    let messageID: String?
    let recipients: [String]

    init(in message: ParsedMessage) {
        let header = Self.header(in: message)
        messageID = header.first(named: "Message-ID").flatMap { MessageIDList.ids(in: $0.value).first }
        recipients = header.all(named: "To").flatMap { AddressList.parse($0.value).flattened.map(\.address) }
    }

    private static func header(in message: ParsedMessage) -> [HeaderField] {
        for part in message.parts.dropFirst() {
            switch part.mimeType {
            case "message/rfc822", "message/global":
                if case .message(let root) = part.content { return message.parts[root].header }
                return MIMEReader.read(message.bytes(of: part.index)).header
            case "text/rfc822-headers", "message/global-headers", "text/rfc822-header":
                // RFC 3462 §2: only the header comes back.
                return MIMEReader.read(message.bytes(of: part.index)).header
            default: continue
            }
        }
        return []
    }
}
