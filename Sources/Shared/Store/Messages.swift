// Messages as they are read: lists, and threads.

import Database
package import Platform

/// A message of either direction.
package struct Message: Sendable {
    /// Somebody named in a header: `sender`, `to`, `cc`, `bcc`.
    package struct Participant: Sendable, Codable, Hashable {
        package let role: String
        /// The bare address.
        package let identity: String

        /// A participant in a role.
        package init(role: String, identity: String) {
            self.role = role
            self.identity = identity
        }
    }

    package let id: MessageID
    package let thread: ThreadID
    package let inbox: InboxID
    package let domain: DomainID
    package let direction: Direction
    /// With its angle brackets.
    package let rfcMessageID: String
    package let subject: String
    package let participants: [Participant]
    package let content: String
    package let contentHTML: String?
    package let attachments: [String]
    package let metadata: Metadata
    package let createdAt: Timestamp

    /// What more is known of a message; grows without a migration.
    package struct Metadata: Sendable, Codable {
        /// Verdicts on a received message.
        package var authentication: Authentication?
        /// The sender cited this thread without having been part of it.
        package var joinedByCitation: Bool?

        /// SPF, DKIM and DMARC verdicts in the words of RFC 8601.
        package struct Authentication: Sendable, Codable {
            package var dkim: String

            /// Takes the verdict on all signatures together.
            package init(dkim: String) { self.dkim = dkim }
        }

        /// Nothing known yet.
        package init() {}

        enum CodingKeys: String, CodingKey {
            case authentication
            case joinedByCitation = "joined_by_citation"
        }
    }

    var cursor: Cursor { Cursor(time: createdAt, id: id.uuid) }

    init(_ row: Row) throws {
        id = try row("id")
        thread = try row("thread_id")
        inbox = try row("inbox_id")
        domain = try row("domain_id")
        direction = try row("direction")
        rfcMessageID = try row("rfc_message_id")
        subject = try row("subject")
        participants = try row.json("participants", as: [Participant].self)
        content = try row("content")
        contentHTML = try row("content_html")
        attachments = try row("attachments")
        metadata = try row.json("metadata", as: Metadata.self)
        createdAt = try row("created_at")
    }

    static let columns: Statement = """
        m.id, m.thread_id, m.inbox_id, m.domain_id, m.direction, m.rfc_message_id, m.subject, m.participants,
        m.attachments, m.metadata, m.created_at
        """
}

/// Which messages a list shows.
package struct MessageFilter: Sendable {
    package var inbox: InboxID?
    package var domain: DomainID?
    package var thread: ThreadID?
    /// Bare address, lower-cased.
    package var sender: String?
    package var before: Timestamp?
    package var after: Timestamp?

    /// Everything of the organization.
    package init() {}
}

extension Store {
    /// A page of messages with their bodies.
    package func messages(
        org: OrgID,
        _ filter: MessageFilter,
        order: Order,
        after cursor: Cursor?,
        limit: Int
    ) async throws -> Page<Message> {
        // The page is cut from the index first; bodies are read for its rows alone.
        let page = Self.page(filter, order: order, after: cursor, limit: limit, org)
        let direction = order == .ascending ? "ASC" : "DESC"
        let query: Statement = """
            SELECT page.*, b.content, b.content_html FROM (\(fragment: page)) AS page
            JOIN message_bodies b ON b.org_id = \(org) AND b.message_id = page.id
            ORDER BY page.created_at \(raw: direction), page.id \(raw: direction)
            """
        return Page(
            try await database.query(.tenant(org), query).map(Message.init),
            limit: limit,
            cursor: \.cursor
        )
    }

    /// The rows of a page without their bodies, one more than asked for.
    static func page(
        _ filter: MessageFilter,
        order: Order,
        after cursor: Cursor?,
        limit: Int,
        _ org: OrgID
    ) -> Statement {
        var page: Statement = "SELECT \(fragment: Message.columns) FROM messages m WHERE m.org_id = \(org)"
        page += Self.place(inbox: filter.inbox, domain: filter.domain, org)
        if let thread = filter.thread { page += " AND m.thread_id = \(thread)" }
        if let sender = filter.sender { page += " AND m.sender = \(sender)" }
        if let before = filter.before { page += " AND m.created_at < \(before)" }
        // Times are shown in milliseconds: whoever asks for what came after one that was shown has that message.
        if let after = filter.after { page += " AND m.created_at > \(after.endOfMillisecond)" }
        page += Self.keyset("created_at", order, cursor, limit: limit)
        return page
    }

    /// A message, and what became of it at each recipient; nil when the organization has none of this id.
    package func message(
        _ id: MessageID,
        org: OrgID
    ) async throws -> (message: Message, recipients: [RecipientStory])? {
        let results = try await database.batch(
            .tenant(org),
            [
                """
                SELECT \(fragment: Message.columns), b.content, b.content_html FROM messages m
                JOIN message_bodies b ON b.org_id = m.org_id AND b.message_id = m.id
                WHERE m.org_id = \(org) AND m.id = \(id)
                """,
                """
                SELECT role, address, state, attempts, remote_mx, tls, last_reply, transcript, updated_at FROM recipients
                WHERE org_id = \(org) AND message_id = \(id) ORDER BY ordinal
                """,
            ]
        )
        guard let message = try results[0].first.map(Message.init) else { return nil }
        return (message, try results[1].map(RecipientStory.init))
    }
}

extension Timestamp {
    /// The last instant that is shown as this one, unless it says more than what is shown.
    fileprivate var endOfMillisecond: Timestamp {
        microseconds % 1000 == 0 ? self + .microseconds(999) : self
    }
}
