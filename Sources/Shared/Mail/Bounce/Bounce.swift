// What a refusal means for the address: is it gone, is it full, or are we the trouble?
//
// Codes on the left, reason on the right. Text decides only where the status is missing or says nothing (5.0.0, 5.5.0 …),
// except that a text about our reputation always wins: such a refusal must never suppress a recipient.

/// A refusal, classified; made from a reply or from what a report quotes of one.
package struct Bounce: Sendable, Hashable {
    /// Why the message was refused.
    package enum Reason: String, Sendable, Hashable, CaseIterable, Codable {
        case userUnknown = "user_unknown"
        case hostUnknown = "host_unknown"
        case mailboxDisabled = "mailbox_disabled"
        case mailboxFull = "mailbox_full"
        case systemFull = "system_full"
        case messageTooLarge = "message_too_large"
        case rateLimited = "rate_limited"
        case greylisted = "greylisted"
        case spam = "spam"
        case policy = "policy"
        case blocklisted = "blocklisted"
        case authentication = "authentication"
        case content = "content"
        case network = "network"
        case expired = "expired"
        case loop = "loop"
        case protocolError = "protocol_error"
        case tls = "tls"
        case other = "other"
    }

    /// What follows for the recipient's address.
    package enum Consequence: String, Sendable, Hashable, CaseIterable, Codable {
        /// Suppress the address now.
        case suppressNow
        /// Count it: three in a row suppress for 7 days, a success resets.
        case soft
        /// It is about the sender's reputation or policy; never suppress the recipient.
        case aboutUs
        /// No conclusion about the address.
        case other
    }

    package let reason: Reason
    /// Trying again cannot help.
    package let isPermanent: Bool

    package init(reason: Reason, isPermanent: Bool) {
        self.reason = reason
        self.isPermanent = isPermanent
    }

    /// Classifies a server's refusal.
    package init(_ reply: Reply) {
        let isPermanent = if case .bounced = Attempt(reply) { true } else { false }
        self.init(code: reply.code, status: reply.status, text: reply.text, isPermanent: isPermanent)
    }

    /// Classifies what a report says: its status, and the diagnostic text with or without an SMTP code.
    package init(code: Int?, status: EnhancedStatus?, text: String, isPermanent: Bool) {
        self.isPermanent = isPermanent
        let text = BounceText(text)
        // A blocklist's name beside "mailbox unavailable" is the true reason.
        if let reason = text.aboutUs {
            self.reason = reason
        } else if let status, let reason = Self.reason(status) {
            self.reason = reason
        } else {
            self.reason = text.reason ?? Self.reason(status: status, code: code) ?? .other
        }
    }

    package var consequence: Consequence {
        switch (reason, isPermanent) {
        case (.userUnknown, true), (.hostUnknown, true), (.mailboxDisabled, true): .suppressNow
        case (.mailboxFull, _): .soft
        case (.spam, _), (.policy, _), (.blocklisted, _), (.authentication, _), (.rateLimited, _): .aboutUs
        default: .other
        }
    }

    // Statuses that say one thing wherever they come from (RFC 3463, and the IANA registry for the newer ones).
    private static func reason(_ status: EnhancedStatus) -> Reason? {
        switch (status.subject, status.detail) {
        case (1, 1), (1, 3), (1, 6): .userUnknown
        case (1, 2), (1, 10): .hostUnknown
        case (2, 1): .mailboxDisabled
        case (2, 2): .mailboxFull
        case (2, 3), (3, 4): .messageTooLarge
        case (3, 1): .systemFull
        case (4, 2): .network
        case (4, 6): .loop
        case (4, 7): .expired
        case (5, 3): .rateLimited
        case (6, 7): .protocolError
        case (7, 4), (7, 10), (7, 11): .tls
        case (7, 13): .mailboxDisabled
        case (7, 17): .userUnknown
        case (7, 18): .hostUnknown
        case (7, 20), (7, 21), (7, 22), (7, 23), (7, 24), (7, 25), (7, 26), (7, 27), (7, 29), (7, 30):
            .authentication
        case (7, 28), (7, 38): .rateLimited
        default: nil
        }
    }

    // The rest of the statuses, then bare codes: used when the text said nothing either.
    private static func reason(status: EnhancedStatus?, code: Int?) -> Reason? {
        if let status {
            switch (status.subject, status.detail) {
            case (1, 7), (1, 8): return .policy
            case (4, _): return .network
            case (5, _): return .protocolError
            case (6, _): return .content
            case (7, _): return .policy
            default: break
            }
        }
        switch code {
        case 452, 552: return status == nil ? .mailboxFull : nil
        case 551: return .userUnknown
        case 556: return .hostUnknown
        case 500, 501, 502, 503, 504, 555: return .protocolError
        case 530, 534, 535, 538: return .authentication
        default: return nil
        }
    }
}
