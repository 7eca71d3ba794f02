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

    var cursor: Cursor { Cursor(time: lastMessageAt, id: id.uuid) }

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
    }

    static let columns: Statement = """
        id, inbox_id, domain_id, subject, first_message_at, last_message_at, message_count, snippet, last_direction,
        has_attachments
        """
}

/// Which way a message went.
package enum Direction: String, Sendable, Codable, Column {
    case inbound, outbound
}

extension Store {
    /// A page of threads of an inbox, of a domain, or of both.
    package func threads(
        org: OrgID,
        inbox: InboxID?,
        domain: DomainID?,
        order: Order,
        after cursor: Cursor?,
        limit: Int
    ) async throws -> Page<MailThread> {
        var query: Statement = "SELECT \(fragment: MailThread.columns) FROM threads WHERE org_id = \(org)"
        if let inbox { query += " AND inbox_id = \(inbox)" }
        if let domain { query += " AND domain_id = \(domain)" }
        query += Self.keyset("last_message_at", order, cursor, limit: limit)
        let rows = try await database.query(.tenant(org), query)
        return Page(try rows.map(MailThread.init), limit: limit, cursor: \.cursor)
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
