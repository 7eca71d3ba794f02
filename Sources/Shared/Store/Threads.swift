// Threads: conversations, newest first.

import Database
package import Platform

/// A conversation of one inbox.
package struct MailThread: Sendable {
    package let id: ThreadID
    package let inbox: InboxID
    package let domain: DomainID
    package let subject: String
    package let firstMessageAt: Timestamp
    package let lastMessageAt: Timestamp
    package let messageCount: Int
    package let snippet: String
    package let lastDirection: Direction
    package let hasAttachments: Bool
    package let triage: ThreadTriage

    func cursor(_ walk: Cursor.Walk?) -> Cursor { Cursor(time: lastMessageAt, id: id.uuid, walk: walk) }

    init(_ row: Row) throws {
        id = try row("id")
        inbox = try row("inbox_id")
        domain = try row("domain_id")
        subject = try row("subject")
        firstMessageAt = try row("first_message_at")
        lastMessageAt = try row("last_message_at")
        messageCount = try row("message_count")
        snippet = try row("snippet")
        lastDirection = try row("last_direction")
        hasAttachments = try row("has_attachments")
        triage = try ThreadTriage(row)
    }

    static let columns: Statement = """
        t.id, t.inbox_id, t.domain_id, t.subject, t.first_message_at, t.last_message_at, t.message_count, t.snippet,
        t.last_direction, t.has_attachments, \(fragment: ThreadTriage.columns)
        """
}

/// Which way a message went.
package enum Direction: String, Sendable, Codable, Column {
    case inbound, outbound
}

extension Store {
    /// A page of threads of an inbox, of a domain, or of both.
    ///
    /// A thread moves to the front when it gets mail. Newest first, a walk may miss it there and cannot meet it twice.
    /// Oldest first it would come to it again, so that walk leaves what moved since it began to the next one.
    package func threads(
        org: OrgID,
        inbox: InboxID?,
        domain: DomainID?,
        order: Order,
        after cursor: Cursor?,
        limit: Int
    ) async throws -> Page<MailThread> {
        var page: Statement = "SELECT * FROM threads WHERE org_id = \(org)"
        page += Self.place(inbox: inbox, domain: domain, org)
        if let walk = cursor?.walk {
            // The last condition ends the walk by the index; the clocks of our machines differ by less. Transactions are
            // shorter than a minute, so what moved earlier than that need not be asked for its own.
            page += """
                 AND (moved_at < \(walk.time + .seconds(-60)) OR moved_xid IS NULL
                    OR pg_visible_in_snapshot(moved_xid, \(walk.snapshot)::text::pg_snapshot))
                AND last_message_at <= \(walk.time + .seconds(60))
                """
        }
        page += Self.keyset("last_message_at", order, cursor, limit: limit)
        let direction = order == .ascending ? "ASC" : "DESC"
        let rows = try await database.query(
            .tenant(org),
            """
            SELECT \(fragment: MailThread.columns), now() AS now, pg_current_snapshot()::text AS snapshot
            FROM (\(fragment: page)) AS t \(fragment: ThreadTriage.join)
            ORDER BY t.last_message_at \(raw: direction), t.id \(raw: direction)
            """
        )
        var walk = cursor?.walk
        if order == .ascending, cursor == nil, let row = rows.first {
            walk = Cursor.Walk(time: try row("now"), snapshot: try row("snapshot"))
        }
        return Page(try rows.map(MailThread.init), limit: limit) { [walk] in $0.cursor(walk) }
    }

    /// A thread; nil when the organization has none of this id.
    package func thread(_ id: ThreadID, org: OrgID) async throws -> MailThread? {
        try await database.query(
            .tenant(org),
            """
            SELECT \(fragment: MailThread.columns) FROM threads t \(fragment: ThreadTriage.join)
            WHERE t.org_id = \(org) AND t.id = \(id)
            """
        ).first.map(MailThread.init)
    }

    /// Everybody who took part in a thread's newest thousand messages, each address once, in the order of their coming.
    package func participants(of thread: ThreadID, org: OrgID) async throws -> [String] {
        try await database.query(
            .tenant(org),
            """
            SELECT identity FROM (
                SELECT p.participant ->> 'identity' AS identity, min(m.created_at) AS since, min(p.place) AS place
                FROM (SELECT participants, created_at FROM messages WHERE org_id = \(org) AND thread_id = \(thread)
                    ORDER BY created_at DESC, id DESC LIMIT 1000) AS m,
                    jsonb_array_elements(m.participants) WITH ORDINALITY AS p (participant, place)
                GROUP BY 1) AS everybody
            WHERE identity <> '' ORDER BY since, place, identity LIMIT 1000
            """
        ).map { try $0("identity") }
    }

    /// The condition of an inbox, a domain, or both.
    ///
    /// An inbox has one domain, so with both the list is the inbox's or empty; said this way, an empty one is not
    /// searched for from end to end.
    static func place(inbox: InboxID?, domain: DomainID?, _ org: OrgID) -> Statement {
        switch (inbox, domain) {
        case (let inbox?, let domain?):
            """
             AND inbox_id = \(inbox) AND EXISTS (SELECT FROM inboxes
                WHERE org_id = \(org) AND id = \(inbox) AND domain_id = \(domain))
            """
        case (let inbox?, nil): " AND inbox_id = \(inbox)"
        case (nil, let domain?): " AND domain_id = \(domain)"
        case (nil, nil): ""
        }
    }

    /// Whether the organization has this thread.
    package func hasThread(_ id: ThreadID, org: OrgID) async throws -> Bool {
        try await !database.query(.tenant(org), "SELECT id FROM threads WHERE org_id = \(org) AND id = \(id)")
            .isEmpty
    }

    /// The end of a keyset query: what lies behind the cursor, in order, one row more than asked for.
    static func keyset(_ column: String, _ order: Order, _ cursor: Cursor?, limit: Int) -> Statement {
        var statement: Statement = ""
        let direction = order == .ascending ? "ASC" : "DESC"
        if let cursor {
            let comparison = order == .ascending ? ">" : "<"
            statement += " AND (\(raw: column), id) \(raw: comparison) (\(cursor.time), \(cursor.id))"
        }
        statement += " ORDER BY \(raw: column) \(raw: direction), id \(raw: direction) LIMIT \(limit + 1)"
        return statement
    }
}
