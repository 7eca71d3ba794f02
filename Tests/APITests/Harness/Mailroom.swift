// Mail in both directions without a mail server: what was received, and rows of known times.

import Database
import Foundation
import Mail
import Platform
import Testing

@testable import Store

extension APIPlatform {
    /// Puts a mail from outside into an inbox, as the job `process-inbound` does.
    @discardableResult
    func receive(
        _ rfcMessageID: String,
        inReplyTo: String? = nil,
        in inbox: Inbox,
        from sender: String = "outside@elsewhere.test",
        subject: String = "Hello",
        text: String = "From outside"
    ) async throws -> String {
        var content = InboundContent(rfcMessageID: rfcMessageID)
        content.inReplyTo = [inReplyTo].compactMap { $0 }
        content.references = content.inReplyTo
        content.sender = sender
        content.participants = [.init(role: "sender", identity: sender)]
        content.subject = subject
        content.text = text
        let filled = content
        let org = self.org
        let mail = ReceivedMail(
            id: ReceivedMailID(),
            sender: sender,
            recipients: [InboundRecipient(address: inbox.address, org: org, inbox: inbox.id)],
            clientAddress: "192.0.2.1",
            clientName: "elsewhere.test",
            tls: nil,
            receivedAt: .now,
            bytes: []
        )
        try await database.transaction(.worker) { transaction in
            try await store.place(filled, of: mail, org: org, in: transaction)
        }
        let rows = try await database.query(
            .worker,
            "SELECT thread_id FROM messages WHERE rfc_message_id = \(rfcMessageID)"
        )
        return "thread_\(try only(rows)("thread_id") as ThreadID)"
    }

    /// A mail from outside for this recipient, which cites nothing.
    func receiveMail(_ rfcMessageID: String, for recipient: InboundRecipient) async throws {
        var content = InboundContent(rfcMessageID: rfcMessageID)
        content.sender = "outside@elsewhere.test"
        content.subject = "Something else"
        let filled = content
        let mail = ReceivedMail(
            id: ReceivedMailID(),
            sender: content.sender,
            recipients: [recipient],
            clientAddress: "192.0.2.1",
            clientName: "elsewhere.test",
            tls: nil,
            receivedAt: .now,
            bytes: []
        )
        try await database.transaction(.worker) { transaction in
            try await store.place(filled, of: mail, org: recipient.org, in: transaction)
        }
    }

    /// A message of a known time and sender.
    struct Planted: Sendable {
        let id = MessageID()
        let inbox: InboxID
        let domain: DomainID
        let sender: String
        let createdAt: Timestamp
    }

    /// Writes messages into one thread; times may repeat.
    func plant(_ messages: [Planted], thread: ThreadID = ThreadID()) async throws {
        let first = try #require(messages.first)
        let org = org
        try await database.batch(
            .tenant(org),
            [
                """
                INSERT INTO threads (org_id, id, inbox_id, domain_id, subject, base_subject, last_direction)
                VALUES (\(org), \(thread), \(first.inbox), \(first.domain), 's', 's', 'inbound')
                """
            ]
                + messages.flatMap { message -> [Statement] in
                    [
                        """
                        INSERT INTO messages (org_id, id, thread_id, inbox_id, domain_id, direction, rfc_message_id,
                            sender, subject, participants, created_at)
                        VALUES (\(org), \(message.id), \(thread), \(message.inbox), \(message.domain), 'inbound',
                            \("<\(message.id)@x>"), \(message.sender), 's', '[]', \(message.createdAt))
                        """,
                        """
                        INSERT INTO message_bodies (org_id, message_id, content)
                        VALUES (\(org), \(message.id), 'c')
                        """,
                    ]
                }
        )
    }

    /// Every row of a list, page by page; fails when pages do not end.
    func walk(_ path: String, limit: Int) async throws -> [JSON] {
        var rows: [JSON] = []
        var cursor: String?
        for _ in 0..<1_000 {
            let separator = path.contains("?") ? "&" : "?"
            let reply = try await get(
                "\(path)\(separator)limit=\(limit)" + (cursor.map { "&cursor=\($0)" } ?? "")
            )
            try #require(reply.status == 200, "\(reply.text)")
            let page = reply.body["data"].elements
            #expect(page.count <= limit)
            rows += page
            cursor = reply.body["next_cursor"].string
            #expect(reply.body["has_more"] == .bool(cursor != nil))
            guard cursor != nil else { return rows }
            #expect(page.count == limit)
        }
        Issue.record("The pages of \(path) do not end.")
        return rows
    }
}
