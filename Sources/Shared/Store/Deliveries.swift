// What became of a message: its recipients' states, and the events that tell of them.

package import Database
import Mail
package import Platform

/// One address of one message, and what is known of its delivery.
package struct Recipient: Sendable {
    package enum State: String, Sendable, Codable, Column {
        case queued, sent, delivered, deferred, bounced, failed, complained, suppressed

        /// Whether a send job still has something to do.
        package var isOpen: Bool { self == .queued || self == .sent || self == .deferred }
    }

    package let ordinal: Int
    package let role: String
    package let address: String
    package let domain: String
    package let state: State
    package let attempts: Int
    /// The organization does not write to it any more, since after the message was accepted.
    package let isSuppressed: Bool
    /// Its last messages bounced softly, which a success makes forgotten.
    package let hasSoftBounces: Bool

    /// By which suppressions know it; nil when it is no address.
    package var key: String? { try? EmailAddress(address, allowingLiteral: true).key }
}

/// Whom a message is for, as far as one job goes: known even where the message itself cannot be read any more.
package struct AddressedMessage: Sendable {
    package let id: MessageID
    package let org: OrgID
    package let inbox: InboxID
    package let domain: DomainID
    /// Those of this job, whatever their state.
    package let recipients: [Recipient]
}

/// Everything a send job needs: the message as it is composed, and whom it still has to reach.
package struct OutboundMessage: Sendable {
    package let addressed: AddressedMessage
    package let rfcMessageID: String
    package let subject: String
    package let composition: Composition
    package let html: String?
    package let createdAt: Timestamp
    package let attachments: [AttachmentID]

    package var id: MessageID { addressed.id }
    package var org: OrgID { addressed.org }
    package var inbox: InboxID { addressed.inbox }
    package var domain: DomainID { addressed.domain }
    /// Those of this job, whatever their state.
    package var recipients: [Recipient] { addressed.recipients }

    /// Where suppressions that follow from it come from.
    package var source: SuppressionSource {
        SuppressionSource(message: id, inbox: inbox, domain: domain)
    }
}

/// What a try did to one recipient.
package struct DeliveryResult: Sendable {
    package let ordinal: Int
    package let address: String
    package let state: Recipient.State
    /// The SMTP answer, or why none came; kept with the recipient and shown in the event.
    package let detail: String
    package let remoteMX: String?
    package let tls: String?
    /// What was said; nil when nothing was tried.
    package let transcript: String?

    /// Takes the outcome of one recipient.
    package init(
        _ recipient: Recipient,
        state: Recipient.State,
        detail: String,
        remoteMX: String? = nil,
        tls: String? = nil,
        transcript: String? = nil
    ) {
        ordinal = recipient.ordinal
        address = recipient.address
        self.state = state
        self.detail = detail
        self.remoteMX = remoteMX
        self.tls = tls
        self.transcript = transcript
    }
}

/// The names of events.
package enum EventType {
    package static let received = "email.received"
    package static let sent = "email.sent"
    package static let delivered = "email.delivered"
    package static let delayed = "email.delivery_delayed"
    package static let bounced = "email.bounced"
    package static let complained = "email.complained"
    package static let failed = "email.failed"
    package static let suppressed = "email.suppressed"
    package static let unsubscribed = "email.unsubscribed"

    /// What can become of mail that was sent.
    package static let delivery = [
        sent, delivered, delayed, bounced, complained, failed, suppressed, unsubscribed,
    ]
    /// Every type there is.
    package static let all = [received] + delivery
}

extension Store {
    /// The message of a send job; nil when it was deleted meanwhile.
    package func outboundMessage(_ payload: SendPayload, org: OrgID) async throws -> OutboundMessage? {
        try await outboundMessages([(payload, org)])[0].get()
    }

    /// Whom a job's message is for; nil when it was deleted meanwhile.
    package func addressedMessage(_ payload: SendPayload, org: OrgID) async throws -> AddressedMessage? {
        let results = try await database.batch(
            .worker,
            [
                """
                SELECT inbox_id, domain_id FROM messages WHERE org_id = \(org) AND id = \(payload.message)
                """,
                Self.recipients(of: [(payload, org)]),
            ]
        )
        guard let row = results[0].first else { return nil }
        return try AddressedMessage(row, recipients: Array(results[1]), id: payload.message, org: org)
    }

    /// The messages of many send jobs in one round trip, in their order; one that cannot be read fails alone.
    package func outboundMessages(
        _ wanted: [(payload: SendPayload, org: OrgID)]
    ) async throws(DatabaseError) -> [Result<OutboundMessage?, any Error>] {
        let orgs = wanted.map(\.org)
        let ids = wanted.map(\.payload.message)
        let results = try await database.batch(
            .worker,
            [
                """
                SELECT w.place, m.inbox_id, m.domain_id, m.rfc_message_id, m.subject, m.created_at, m.attachments,
                    b.composition, b.content, b.content_html
                FROM unnest(\(orgs)::uuid[], \(ids)::uuid[]) WITH ORDINALITY AS w (org_id, id, place)
                JOIN messages m ON m.org_id = w.org_id AND m.id = w.id
                JOIN message_bodies b ON b.org_id = m.org_id AND b.message_id = m.id
                """,
                Self.recipients(of: wanted),
            ]
        )
        var messages: [Int: Row] = [:]
        var recipients: [Int: [Row]] = [:]
        do {
            for row in results[0] { messages[try row("place")] = row }
            for row in results[1] { recipients[try row("place"), default: []].append(row) }
        } catch {
            throw DatabaseError.decoding("\(error)")
        }
        return wanted.enumerated().map { index, wanted in
            guard let row = messages[index + 1] else { return .success(nil) }
            return Result {
                try OutboundMessage(
                    row,
                    recipients: recipients[index + 1, default: []],
                    id: wanted.payload.message,
                    org: wanted.org
                )
            }
        }
    }

    /// By `place`, which of `wanted` they belong to.
    private static func recipients(of wanted: [(payload: SendPayload, org: OrgID)]) -> Statement {
        """
        SELECT w.place, r.ordinal, r.role, r.address, r.domain, r.state, r.attempts,
            s.address_key IS NOT NULL AS suppressed, soft.address_key IS NOT NULL AS soft
        FROM unnest(\(wanted.map(\.org))::uuid[], \(wanted.map(\.payload.message))::uuid[], \(wanted.map(\.payload.domain))::text[],
            \(wanted.map(\.payload.recipient))::smallint[]) WITH ORDINALITY AS w (org_id, id, domain, ordinal, place)
        JOIN recipients r ON r.org_id = w.org_id AND r.message_id = w.id AND r.domain = w.domain
            AND (w.ordinal IS NULL OR r.ordinal = w.ordinal)
        LEFT JOIN suppressions s ON s.org_id = r.org_id AND s.address_key = lower(r.address)
            AND (s.expires_at IS NULL OR s.expires_at > now())
        LEFT JOIN soft_bounces soft ON soft.org_id = r.org_id AND soft.address_key = lower(r.address)
        ORDER BY w.place, r.ordinal
        """
    }
}

extension AddressedMessage {
    fileprivate init(_ row: Row, recipients: [Row], id: MessageID, org: OrgID) throws {
        self.id = id
        self.org = org
        inbox = try row("inbox_id")
        domain = try row("domain_id")
        self.recipients = try recipients.map(Recipient.init)
    }
}

extension OutboundMessage {
    fileprivate init(_ row: Row, recipients: [Row], id: MessageID, org: OrgID) throws {
        addressed = try AddressedMessage(row, recipients: recipients, id: id, org: org)
        rfcMessageID = try row("rfc_message_id")
        subject = try row("subject")
        var composition = try row.json("composition", as: Composition.self)
        // What was given as text, or made of the HTML when it was accepted.
        if composition.text == nil { composition.text = try row("content") }
        self.composition = composition
        html = try row("content_html")
        createdAt = try row("created_at")
        attachments = (try row("attachments") as [String]).compactMap { AttachmentID(hexadecimal: $0) }
    }
}

extension Recipient {
    fileprivate init(_ row: Row) throws {
        ordinal = try row("ordinal")
        role = try row("role")
        address = try row("address")
        domain = try row("domain")
        state = try row("state")
        attempts = try row("attempts")
        isSuppressed = try row("suppressed")
        hasSoftBounces = try row("soft")
    }
}

extension OutboundMessage {
    /// See `AddressedMessage.recording`.
    package func recording(_ results: [DeliveryResult]) -> [Statement] { addressed.recording(results) }

    /// See `AddressedMessage.recordingFailure`.
    package func recordingFailure(_ results: [DeliveryResult]) -> [Statement] {
        addressed.recordingFailure(results)
    }
}

extension AddressedMessage {
    /// Gives up everybody whose fate is not decided yet, for this reason.
    package func givingUp(_ reason: String) -> [Statement] {
        recordingFailure(
            recipients.filter(\.state.isOpen).map { DeliveryResult($0, state: .failed, detail: reason) }
        )
    }

    /// Statements that record what a try did, for the transaction that ends its job.
    ///
    /// A recipient whose fate is decided keeps it. `email.sent` is told once a message, at its first try; a delay once
    /// a recipient.
    package func recording(_ results: [DeliveryResult]) -> [Statement] {
        guard !results.isEmpty else { return [] }
        return [recordStates(results, tries: 1), recordFirstTry()] + [recordEvents(results)].compactMap { $0 }
    }

    /// Statements that give recipients up without a try: they cannot be sent to, or their job is a dead letter.
    package func recordingFailure(_ results: [DeliveryResult]) -> [Statement] {
        guard !results.isEmpty else { return [] }
        return [recordStates(results, tries: 0)] + [recordEvents(results)].compactMap { $0 }
    }

    private func recordStates(_ results: [DeliveryResult], tries: Int) -> Statement {
        """
        UPDATE recipients SET state = r.state, attempts = attempts + \(tries), last_reply = r.detail, remote_mx = r.mx,
            tls = r.tls, transcript = coalesce(r.transcript, recipients.transcript), updated_at = now()
        FROM unnest(\(results.map(\.ordinal))::smallint[], \(results.map(\.state.rawValue))::text[],
            \(results.map(\.detail))::text[], \(results.map(\.remoteMX))::text[], \(results.map(\.tls))::text[],
            \(results.map(\.transcript))::text[])
            AS r (ordinal, state, detail, mx, tls, transcript)
        WHERE org_id = \(org) AND message_id = \(id) AND recipients.ordinal = r.ordinal
            AND recipients.state IN ('queued', 'sent', 'deferred')
        """
    }

    private func recordFirstTry() -> Statement {
        """
        INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type)
        VALUES (\(org), \(EventID()), \(id), \(inbox), \(domain), \(EventType.sent))
        ON CONFLICT (org_id, message_id) WHERE event_type = 'email.sent' DO NOTHING
        """
    }

    private func recordEvents(_ results: [DeliveryResult]) -> Statement? {
        let told = results.compactMap { result -> (type: String, result: DeliveryResult)? in
            switch result.state {
            case .delivered: (EventType.delivered, result)
            case .bounced: (EventType.bounced, result)
            case .failed: (EventType.failed, result)
            case .suppressed: (EventType.suppressed, result)
            case .deferred where recipients.first { $0.ordinal == result.ordinal }?.state != .deferred:
                (EventType.delayed, result)
            default: nil
            }
        }
        guard !told.isEmpty else { return nil }
        return """
            INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type, recipient, detail)
            SELECT \(org), e.id, \(id), \(inbox), \(domain), e.type, e.recipient, e.detail
            FROM unnest(\(told.map { _ in EventID() })::uuid[], \(told.map(\.type))::text[],
                \(told.map(\.result.address))::text[], \(told.map(\.result.detail))::text[])
                AS e (id, type, recipient, detail)
            """
    }
}
