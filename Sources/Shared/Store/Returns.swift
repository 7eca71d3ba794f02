// What comes back about mail that was sent (mail.md, "What comes back"): a recipient's state, an event, what follows for
// the address. Reports come twice, late, out of order and forged, so each rule asks what is known already, under a lock.
//
//   failed     open or delivered → bounced, email.bounced, and the suppression that the reason asks for
//   delayed    no change of state: whoever took the mail is at it. email.delivery_delayed, once a recipient
//   delivered  sent with an unknown outcome → delivered; so no further try makes a second copy
//   complaint  anything → complained, email.complained, a spam report, suppressed
//   opt-out    suppressed as unsubscribed, email.unsubscribed

package import Database
import Foundation
package import Mail
package import Platform

/// What a report says of one recipient.
package struct ReturnNotice: Sendable {
    package enum Fate: Sendable {
        case failed(Bounce)
        case delayed
        case delivered
        case complained(SpamReport)
        case optedOut
    }

    /// As reported; "" where the report names nobody.
    package let address: String
    package let fate: Fate
    /// For people: what the server said.
    package let detail: String

    /// Takes what a report says of one recipient.
    package init(address: String, fate: Fate, detail: String) {
        (self.address, self.fate, self.detail) = (address, fate, detail)
    }
}

/// What a complaint says of itself.
package struct SpamReport: Sendable {
    package let type: String
    package let reporter: String
    package let sourceAddress: String

    /// Takes a complaint's fields; "" where one is missing.
    package init(type: String, reporter: String, sourceAddress: String) {
        (self.type, self.reporter, self.sourceAddress) = (type, reporter, sourceAddress)
    }
}

/// A report about a message of which it is proved that it was ours and that the reporter has had it.
package struct ProvenReturn: Sendable {
    package let message: MessageID
    /// The recipient of the token; nil where only the message is proved.
    package let ordinal: Int?
    package let notices: [ReturnNotice]

    /// Takes a proof and what is said with it.
    package init(message: MessageID, ordinal: Int?, notices: [ReturnNotice]) {
        (self.message, self.ordinal, self.notices) = (message, ordinal, notices)
    }
}

extension Store {
    /// Writes what a report says, in the transaction that ends its job; said again it changes nothing.
    package func record(_ report: ProvenReturn, org: OrgID, in transaction: Transaction) async throws {
        let rows = try await transaction.query(Self.returnedRecipients(report, org))
        guard let first = rows.first else { return }
        var story = ReturnStory(
            org: org,
            source: SuppressionSource(
                message: report.message,
                inbox: try first("inbox_id"),
                domain: try first("domain_id")
            ),
            recipients: try rows.map(ReturnStory.Candidate.init),
            isWholeMessage: report.ordinal == nil
        )
        for notice in report.notices { story.take(notice) }
        try await transaction.batch(story.statements)
    }

    /// Those whom the report can be about: of a token its recipient, and those who shared its transaction.
    private static func returnedRecipients(_ report: ProvenReturn, _ org: OrgID) -> Statement {
        """
        SELECT m.inbox_id, m.domain_id, r.ordinal, r.address, r.state, EXISTS (
                SELECT FROM delivery_events e WHERE e.org_id = \(org) AND e.message_id = \(report.message)
                    AND e.event_type = \(EventType.delayed) AND e.recipient = r.address) AS told
        FROM messages m
        JOIN message_bodies b ON b.org_id = m.org_id AND b.message_id = m.id
        JOIN recipients r ON r.org_id = m.org_id AND r.message_id = m.id
        WHERE m.org_id = \(org) AND m.id = \(report.message) AND m.direction = 'outbound'
            AND (\(report.ordinal)::integer IS NULL OR r.ordinal = \(report.ordinal) OR (
                r.ordinal > \(report.ordinal) AND b.composition ->> 'unsubscribeURL' IS NULL
                AND r.domain = (SELECT t.domain FROM recipients t WHERE t.org_id = \(org)
                    AND t.message_id = \(report.message) AND t.ordinal = \(report.ordinal))))
        ORDER BY r.ordinal FOR UPDATE OF r
        """
    }
}

private typealias RecipientState = Recipient.State

/// The recipients that a report can be about, and what becomes of them as it is read.
private struct ReturnStory {
    struct Candidate {
        let ordinal: Int
        let address: String
        let state: RecipientState
        let isDelayTold: Bool

        /// By which suppressions know it.
        var key: String? { try? EmailAddress(address, allowingLiteral: true).key }

        init(_ row: Row) throws {
            ordinal = try row("ordinal")
            address = try row("address")
            state = try row("state")
            isDelayTold = try row("told")
        }
    }

    private struct Event {
        let type: String
        let recipient: String?
        let detail: String
    }

    let org: OrgID
    let source: SuppressionSource
    let recipients: [Candidate]
    /// Nothing in the report proves which recipient it is about, but that there is only one.
    let isWholeMessage: Bool
    private var states: [Int: (state: RecipientState, detail: String)] = [:]
    private var delayed: Set<Int> = []
    private var events: [Event] = []
    private var consequences: [Statement] = []
    /// Delivered as far as anybody knew.
    private var returned: [String] = []

    init(org: OrgID, source: SuppressionSource, recipients: [Candidate], isWholeMessage: Bool) {
        self.org = org
        self.source = source
        self.recipients = recipients
        self.isWholeMessage = isWholeMessage
    }

    /// Whom a notice is about: the recipient it names, or the only one there is.
    ///
    /// After a forwarding the report names somebody whom we never wrote to; that is what tokens are for.
    private func subject(of notice: ReturnNotice) -> Candidate? {
        if recipients.count == 1 { return recipients.first }
        guard !isWholeMessage else { return nil }
        let key =
            (try? EmailAddress(notice.address, allowingLiteral: true).key) ?? notice.address.lowercased()
        return recipients.first { $0.key == key }
    }

    private func state(of recipient: Candidate) -> RecipientState {
        states[recipient.ordinal]?.state ?? recipient.state
    }

    /// Adds what one notice changes.
    mutating func take(_ notice: ReturnNotice) {
        guard let recipient = subject(of: notice) else {
            // That somebody complained is worth knowing, also where nobody can tell who.
            if case .complained(let report) = notice.fate { take(report, of: nil, notice.detail) }
            return
        }
        let state = state(of: recipient)
        switch notice.fate {
        case .failed(let bounce):
            guard state.isOpen || state == .delivered else { return }
            if state == .delivered { returned.append(recipient.address) }
            states[recipient.ordinal] = (.bounced, notice.detail)
            events.append(Event(type: EventType.bounced, recipient: recipient.address, detail: notice.detail))
            suppress(recipient, for: bounce, notice.detail)
        case .delayed:
            guard state.isOpen || state == .delivered, !recipient.isDelayTold,
                delayed.insert(recipient.ordinal).inserted
            else { return }
            events.append(Event(type: EventType.delayed, recipient: recipient.address, detail: notice.detail))
        case .delivered:
            guard state == .sent else { return }
            states[recipient.ordinal] = (.delivered, notice.detail)
            events.append(
                Event(type: EventType.delivered, recipient: recipient.address, detail: notice.detail)
            )
        case .complained(let report):
            guard state != .complained else { return }
            states[recipient.ordinal] = (.complained, notice.detail)
            take(report, of: recipient, notice.detail)
        case .optedOut:
            consequences += Unsubscription.statements(
                recipient.address,
                ordinal: recipient.ordinal,
                source: source,
                org: org
            )
        }
    }

    private mutating func suppress(_ recipient: Candidate, for bounce: Bounce, _ detail: String) {
        guard let key = recipient.key else { return }
        switch bounce.consequence {
        case .suppressNow:
            consequences.append(
                Suppression.insert([key], reason: .hardBounce, details: [detail], source: source, org: org)
            )
        case .soft:
            consequences += Suppression.countSoftBounces([key], details: [detail], source: source, org: org)
        case .aboutUs, .other: break
        }
    }

    private mutating func take(_ report: SpamReport, of recipient: Candidate?, _ detail: String) {
        // The event goes with the row, which is there once.
        consequences.append(
            """
            WITH report AS (
                INSERT INTO spam_reports (org_id, id, message_id, inbox_id, domain_id, recipient, feedback_type, reporter,
                    source_address)
                VALUES (\(org), \(SpamReportID()), \(source.message), \(source.inbox), \(source.domain),
                    \(recipient?.address ?? ""), \(report.type), \(report.reporter), \(report.sourceAddress))
                ON CONFLICT (org_id, message_id, recipient) DO NOTHING RETURNING org_id)
            INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type, recipient, detail)
            SELECT org_id, \(EventID()), \(source.message), \(source.inbox), \(source.domain),
                \(EventType.complained), \(recipient?.address), \(detail) FROM report
            """
        )
        guard let key = recipient?.key else { return }
        consequences.append(
            Suppression.insert([key], reason: .complaint, details: [detail], source: source, org: org)
        )
    }

    /// Everything that was found, to be written at once.
    var statements: [Statement] {
        var statements: [Statement] = []
        let changed = states.sorted { $0.key < $1.key }
        if !changed.isEmpty {
            statements.append(
                """
                UPDATE recipients SET state = s.state, last_reply = s.detail, updated_at = now()
                FROM unnest(\(changed.map(\.key))::smallint[], \(changed.map(\.value.state.rawValue))::text[],
                    \(changed.map(\.value.detail))::text[]) AS s (ordinal, state, detail)
                WHERE org_id = \(org) AND message_id = \(source.message) AND recipients.ordinal = s.ordinal
                """
            )
        }
        if !events.isEmpty {
            statements.append(
                """
                INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type, recipient, detail)
                SELECT \(org), e.id, \(source.message), \(source.inbox), \(source.domain), e.type, e.recipient, e.detail
                FROM unnest(\(events.map { _ in EventID() })::uuid[], \(events.map(\.type))::text[],
                    \(events.map(\.recipient))::text[], \(events.map(\.detail))::text[])
                    AS e (id, type, recipient, detail)
                """
            )
        }
        return statements + consequences + returned.map(uncount)
    }

    /// Metrics count a recipient once: who was counted as delivered is now counted as bounced alone.
    ///
    /// In the hour of the delivery; where that is not counted yet, it will be one and this makes it none. Last, because
    /// others count there too.
    private func uncount(_ address: String) -> Statement {
        """
        INSERT INTO delivery_counts AS d (org_id, subject_id, hour, event_type, count)
        SELECT e.org_id, s.subject, date_trunc('hour', e.created_at, 'UTC'), e.event_type, -1
        FROM (SELECT * FROM delivery_events WHERE org_id = \(org) AND message_id = \(source.message)
                AND event_type = \(EventType.delivered) AND recipient = \(address) ORDER BY id LIMIT 1) AS e
            CROSS JOIN LATERAL (VALUES (e.org_id), (e.domain_id), (e.inbox_id)) AS s (subject)
        ORDER BY s.subject
        ON CONFLICT (org_id, subject_id, hour, event_type) DO UPDATE SET count = d.count - 1
        """
    }
}
