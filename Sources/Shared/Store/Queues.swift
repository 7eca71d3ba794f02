// The platform's queues and what their jobs carry. The work itself is in Worker/Jobs, one file an act.

package import Platform
package import Queue

/// Names of the queues.
package enum QueueName {
    package static let send = "send"
    package static let processInbound = "process-inbound"
    package static let verifyDomain = "verify-domain"
    package static let validateRecipients = "validate-recipients"

    /// Jobs that do nothing, for `commune queues probe`; served only by workers that are told to by name.
    package static let probe = "probe"

    /// Every queue that the platform's own work goes through.
    package static let all = [send, validateRecipients, processInbound, verifyDomain]
}

/// `send`: one message to the recipients of one domain, so that each domain has its own fate and schedule.
package struct SendPayload: Codable, Sendable, Hashable {
    package let message: MessageID
    package let domain: String
    /// The ordinal of the one recipient, where each gets bytes of its own; nil for all of the domain.
    package let recipient: Int?

    /// A message to its recipients of a domain, or to one of them.
    package init(message: MessageID, domain: String, recipient: Int? = nil) {
        self.message = message
        self.domain = domain
        self.recipient = recipient
    }
}

extension SendPayload {
    /// Tries of a send: enough for its schedule to reach the end of five days (mail.md, "Retries").
    package static let attemptsMax = 40

    /// The jobs that send a message to these recipients: one for each domain, or for each recipient.
    static func jobs(
        of message: MessageID,
        to recipients: [(ordinal: Int, domain: String)],
        eachApart: Bool,
        org: OrgID
    ) throws -> [NewJob] {
        let payloads =
            eachApart
            ? recipients.map { SendPayload(message: message, domain: $0.domain, recipient: $0.ordinal) }
            : Set(recipients.map(\.domain)).sorted().map { SendPayload(message: message, domain: $0) }
        return try payloads.map {
            try NewJob(org: org, queue: QueueName.send, payload: $0, attemptsMax: attemptsMax)
        }
    }
}

/// `validate-recipients`: whether one domain of a message's recipients takes mail at all, before it is sent there.
package struct ValidateRecipientsPayload: Codable, Sendable {
    /// Tries until the send itself finds out.
    package static let attemptsMax = 5

    package let message: MessageID
    package let domain: String

    func job(_ org: OrgID) throws -> NewJob {
        try NewJob(
            org: org,
            queue: QueueName.validateRecipients,
            payload: self,
            attemptsMax: Self.attemptsMax
        )
    }

    /// The same recipients, as a send has them.
    package var recipients: SendPayload { SendPayload(message: message, domain: domain) }
}

/// `process-inbound`: one received mail, to be read and put into its inboxes.
package struct ProcessInboundPayload: Codable, Sendable {
    package let mail: ReceivedMailID
}

/// `probe`: no work at all.
package struct ProbePayload: Codable, Sendable {
    /// Whether the job's row shall tell when the attempt began.
    package let keepsStart: Bool

    /// Describes an empty job.
    package init(keepsStart: Bool) { self.keepsStart = keepsStart }
}

/// `verify-domain`: one look at the records of one domain.
package struct VerifyDomainPayload: Codable, Sendable {
    package let domain: DomainID
}

extension QueueControl.Defaults {
    /// The limits of a queue that no operator has changed: none.
    ///
    /// That one organization leaves room for the next is the
    /// schedule's own rule (`Queue/Scripts/lease.lua`), as it depends on how many slots there are.
    package static func of(_ queue: String) -> QueueControl.Defaults { QueueControl.Defaults() }
}
