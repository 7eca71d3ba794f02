// A received mail becomes messages: one in each inbox it was for, in the thread it belongs to.
//
// Threads, the first that hits (mail.md): the token in the address it was sent to; the Message-IDs cited in In-Reply-To,
// then in References from the newest; none: a new thread. Every id the mail has or cites is noted, so that a parent that
// comes late joins its answer.

package import Database
import Mail
package import Platform

/// What was read out of a received mail.
package struct InboundContent: Sendable {
    package var rfcMessageID: String
    package var inReplyTo: [String]
    package var references: [String]
    /// Bare address of the header's From; "" when there is none.
    package var sender: String
    package var participants: [Message.Participant]
    package var subject: String
    package var text: String
    package var html: String?
    package var metadata: Message.Metadata
    /// Staged already.
    package var files = InboundFiles.none

    /// A mail of which nothing is known but its Message-ID.
    package init(rfcMessageID: String) {
        self.rfcMessageID = rfcMessageID
        (inReplyTo, references, sender, participants, subject, text) = ([], [], "", [], "", "")
        metadata = Message.Metadata()
    }

    var searchText: SearchText {
        SearchText(
            subject: subject,
            participants: participants.map(\.identity),
            attachmentNames: files.names,
            body: text
        )
    }

    /// Ids that may name the thread, the likeliest first.
    var cited: [String] { inReplyTo + references.reversed() }
}

extension Store {
    /// Writes a received mail's messages, one for each inbox it was for, inside the transaction that ends its job.
    ///
    /// `recipients` are those that it is still for, all when left out.
    package func place(
        _ content: InboundContent,
        of mail: ReceivedMail,
        for recipients: [InboundRecipient]? = nil,
        org: OrgID,
        in transaction: Transaction
    ) async throws {
        let ids = [content.rfcMessageID] + content.cited
        try await transaction.query(MessageReferences.lock(ids, org: org))
        // An inbox may be named by several addresses, with tags; it gets one message.
        var seen: Set<InboxID> = []
        var isPlaced = false
        for recipient in recipients ?? mail.recipients where seen.insert(recipient.inbox).inserted {
            if try await place(content, of: mail, for: recipient, org: org, ids: ids, transaction) {
                isPlaced = true
            }
        }
        // Of a mail that has no place any more, no file is kept either.
        if isPlaced { try await keep(content.files, in: transaction) }
        try await transaction.query(
            "UPDATE received_mail SET processed_at = now() WHERE org_id = \(org) AND id = \(mail.id)"
        )
    }

    private func place(
        _ content: InboundContent,
        of mail: ReceivedMail,
        for recipient: InboundRecipient,
        org: OrgID,
        ids: [String],
        _ transaction: Transaction
    ) async throws -> Bool {
        let token = ThreadToken(try? EmailAddress(recipient.address), secrets: secrets)
        let found = try await transaction.batch([
            Self.inbox(recipient.inbox, org),
            Self.thread(of: token, inbox: recipient.inbox, org: org),
            MessageReferences.threads(
                of: content.cited + [content.rfcMessageID],
                inbox: recipient.inbox,
                org: org
            ),
        ])
        // Deleted since the mail was taken: it has no place any more.
        guard let inbox = try found[0].first.map(Inbox.init) else { return false }
        let known: ThreadID? =
            try found[1].first.map { try $0("id") } ?? found[2].first.map { try $0("thread_id") }
        let thread = known ?? ThreadID()
        let citations = Citations(inReplyTo: content.inReplyTo.first, references: content.references)
        let id = MessageID()
        let attached = Self.attach(content.files, to: id, thread: thread, org: org)
        try await transaction.batch(
            [
                Self.threadStatement(known: known, thread, content, at: mail.receivedAt, inbox, org),
                """
                INSERT INTO messages (org_id, id, thread_id, inbox_id, domain_id, direction, rfc_message_id, sender,
                    subject, participants, attachments, metadata, created_at)
                VALUES (\(org), \(id), \(thread), \(inbox.id), \(inbox.domain), 'inbound', \(content.rfcMessageID),
                    \(content.sender), \(content.subject), \(json: content.participants), \(attached.ids),
                    \(json: content.metadata), \(mail.receivedAt))
                """,
                """
                INSERT INTO message_bodies (org_id, message_id, content, content_html, composition)
                VALUES (\(org), \(id), \(content.text), \(content.html), \(json: citations))
                """,
                MessageReferences.insert(ids, inbox: inbox.id, thread: thread, org: org),
                SearchText.insert([(text: content.searchText, of: id, inbox)], org: org),
                """
                INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type)
                VALUES (\(org), \(EventID()), \(id), \(inbox.id), \(inbox.domain), \(EventType.received))
                """,
            ] + attached.statements
        )
        return true
    }

    private static func threadStatement(
        known: ThreadID?,
        _ thread: ThreadID,
        _ content: InboundContent,
        at time: Timestamp,
        _ inbox: Inbox,
        _ org: OrgID
    ) -> Statement {
        let snippet = Snippet.of(content.text)
        if known != nil {
            return """
                UPDATE threads SET message_count = message_count + 1, last_direction = 'inbound', snippet = \(snippet),
                    first_message_at = least(first_message_at, \(time)), last_message_at = greatest(last_message_at, \(time)),
                    moved_at = CASE WHEN last_message_at < \(time) THEN now() ELSE moved_at END,
                    moved_xid = CASE WHEN last_message_at < \(time) THEN pg_current_xact_id() ELSE moved_xid END
                WHERE org_id = \(org) AND id = \(thread)
                """
        }
        return """
            INSERT INTO threads (org_id, id, inbox_id, domain_id, subject, base_subject, first_message_at,
                last_message_at, message_count, snippet, last_direction)
            VALUES (\(org), \(thread), \(inbox.id), \(inbox.domain), \(content.subject),
                \(Subject.base(content.subject).base), \(time), \(time), 1, \(snippet), 'inbound')
            """
    }
}
