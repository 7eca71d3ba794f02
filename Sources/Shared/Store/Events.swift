// Events: what became of mail, as a log to look through and as a stream to wait on.

import Database
import Foundation
package import Platform

/// Something that happened to a message.
package struct MailEvent: Sendable {
    package let id: EventID
    /// One of EventType.
    package let type: String
    package let message: MessageID
    package let inbox: InboxID
    package let domain: DomainID
    /// Whom it happened at; nil where it is about the whole message.
    package let recipient: String?
    /// The SMTP answer or another reason, "" where there is none.
    package let detail: String
    package let createdAt: Timestamp
    /// The message it is about, as far as it still exists.
    package let about: Subject?

    /// What a caller needs to know of the message without asking for it.
    package struct Subject: Sendable {
        package let thread: ThreadID
        package let direction: Direction
        package let sender: String
        package let subject: String
    }

    init(_ row: Row) throws {
        id = try row("id")
        type = try row("event_type")
        message = try row("message_id")
        inbox = try row("inbox_id")
        domain = try row("domain_id")
        recipient = try row("recipient")
        detail = try row("detail")
        createdAt = try row("created_at")
        guard let thread: ThreadID = try row("thread_id") else {
            about = nil
            return
        }
        about = Subject(
            thread: thread,
            direction: try row("direction"),
            sender: try row("sender"),
            subject: try row("subject")
        )
    }

    static let columns: Statement = """
        e.id, e.event_type, e.message_id, e.inbox_id, e.domain_id, e.recipient, e.detail, e.created_at, m.thread_id,
        m.direction, m.sender, m.subject
        """
    static let join: Statement = "LEFT JOIN messages m ON m.org_id = e.org_id AND m.id = e.message_id"
}

/// Which events a list shows.
package struct EventFilter: Sendable {
    package var message: MessageID?
    package var inbox: InboxID?
    package var domain: DomainID?
    /// nil: every type that the list is about.
    package var type: String?

    /// Every event.
    package init() {}
}

/// A place in an organization's stream of events: behind the transaction and the event that were shown last.
package struct EventPlace: Sendable, Equatable {
    /// A PostgreSQL transaction id, 64 bits wide.
    let transaction: Int64
    let id: UUID

    init(transaction: Int64, id: UUID = UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))) {
        (self.transaction, self.id) = (transaction, id)
    }

    /// As a caller sees it; the form is that of every cursor, with the transaction for its number.
    package func text(secrets: SecretBox) -> String {
        Cursor(time: Timestamp(microseconds: transaction), id: id).text(list: Self.list, secrets: secrets)
    }

    /// Reads a place; nil when it is not ours.
    package init?(_ text: String, secrets: SecretBox) {
        guard let cursor = Cursor(text, list: Self.list, secrets: secrets) else { return nil }
        self.init(transaction: cursor.time.microseconds, id: cursor.id)
    }

    private static let list = "events"
}

/// What of the stream has come.
package struct EventBatch: Sendable {
    package let events: [MailEvent]
    /// Where to go on: behind everything that was looked at.
    package let next: EventPlace
    package let hasMore: Bool
    /// Everything of transactions before this one was looked at, unless there is more.
    package let horizon: Int64
}

extension Store {
    /// Events of the stream that one call looks at; those that its filter drops count too.
    static let eventsScannedMax = 5_000
    /// Transactions without an event in sight after which a place is moved on.
    static let transactionsPassedMax: Int64 = 10_000

    /// A page of what became of mail that was sent, the newest first.
    package func deliveryEvents(
        org: OrgID,
        _ filter: EventFilter,
        after cursor: Cursor?,
        limit: Int
    ) async throws -> Page<MailEvent> {
        let types = filter.type.map { [$0] } ?? EventType.delivery
        // Each type from its own index, then merged.
        var merged: Statement = ""
        for (number, type) in types.enumerated() {
            if number > 0 { merged += " UNION ALL " }
            merged += "(SELECT * FROM delivery_events WHERE org_id = \(org) AND event_type = \(type)"
            if let message = filter.message { merged += " AND message_id = \(message)" }
            merged += Self.place(inbox: filter.inbox, domain: filter.domain, org)
            if let cursor { merged += " AND id < \(cursor.id)" }
            merged += " ORDER BY id DESC LIMIT \(limit + 1))"
        }
        let rows = try await database.query(
            .tenant(org),
            """
            SELECT \(fragment: MailEvent.columns)
            FROM (SELECT * FROM (\(fragment: merged)) AS t ORDER BY id DESC LIMIT \(limit + 1)) AS e
            \(fragment: MailEvent.join) ORDER BY e.id DESC
            """
        )
        return Page(try rows.map(MailEvent.init), limit: limit) { Cursor(time: $0.createdAt, id: $0.id.uuid) }
    }

    /// The place behind everything that has happened so far.
    package func eventsNow(org: OrgID) async throws -> EventPlace {
        let rows = try await database.query(
            .tenant(org),
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon"
        )
        return EventPlace(transaction: try rows.first.map { try $0("horizon") } ?? 0)
    }

    /// The next events of an organization's stream, in the order of their transactions.
    ///
    /// Only those of transactions that began before every one still running: so nothing can appear later at a place that
    /// has been passed.
    package func events(
        org: OrgID,
        _ filter: EventFilter,
        after place: EventPlace,
        limit: Int
    ) async throws -> EventBatch {
        var wanted: Statement = "SELECT * FROM scanned WHERE true"
        if let inbox = filter.inbox { wanted += " AND inbox_id = \(inbox)" }
        if let type = filter.type { wanted += " AND event_type = \(type)" }
        wanted += " ORDER BY xid, id LIMIT \(limit + 1)"
        let rows = try await database.query(
            .tenant(org),
            """
            WITH scanned AS MATERIALIZED (
                SELECT * FROM delivery_events
                WHERE org_id = \(org) AND (xid, id) > (\(place.transaction)::text::xid8, \(place.id))
                    AND xid < pg_snapshot_xmin(pg_current_snapshot())
                ORDER BY xid, id LIMIT \(Self.eventsScannedMax)),
            wanted AS (\(fragment: wanted))
            SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
                (SELECT count(*) FROM scanned) AS scanned, last.xid::text::bigint AS last_xid, last.id AS last_id,
                e.xid::text::bigint AS xid, \(fragment: MailEvent.columns)
            FROM (SELECT) AS one
            LEFT JOIN (SELECT xid, id FROM scanned ORDER BY xid DESC, id DESC LIMIT 1) AS last ON true
            LEFT JOIN wanted e ON true \(fragment: MailEvent.join)
            ORDER BY e.xid, e.id
            """
        )
        return try EventBatch(rows, after: place, limit: limit)
    }

    /// Which organizations have events that may be shown, of transactions from the given one on.
    package func organizationsWithEvents(since: [OrgID: Int64]) async throws -> Set<OrgID> {
        let orgs = Array(since.keys)
        let rows = try await database.query(
            .lookup,
            """
            SELECT o AS org FROM organizations_with_events(\(orgs.map(\.uuid))::uuid[],
                \(orgs.map { String(since[$0] ?? 0) })::text[]) AS o
            """
        )
        return Set(try rows.map { try $0("org") })
    }
}

extension EventBatch {
    fileprivate init(_ rows: Rows, after place: EventPlace, limit: Int) throws {
        guard let first = rows.first else { throw DatabaseError.decoding("no row of a query that has one") }
        horizon = try first("horizon")
        guard place.transaction <= horizon else {
            throw StoreFault.refused(
                "cursor is of another life of this database, which was restored since: begin again without one."
            )
        }
        let isEmpty = try first("xid") as Int64? == nil
        let shown = isEmpty ? [] : Array(rows).prefix(limit)
        events = try shown.map(MailEvent.init)
        if rows.count > limit, let last = shown.last {
            next = EventPlace(transaction: try last("xid"), id: try last("id"))
            hasMore = true
        } else if let transaction: Int64 = try first("last_xid") {
            next = EventPlace(transaction: transaction, id: try first("last_id"))
            hasMore = try first("scanned") as Int64 == Store.eventsScannedMax
        } else {
            // Nothing is there, so the place stays; but a limited key, which sees nothing where others have events, shall
            // not pass over ever more of them.
            let isFarBehind = horizon - place.transaction > Store.transactionsPassedMax
            next = isFarBehind ? EventPlace(transaction: horizon) : place
            hasMore = false
        }
    }
}
