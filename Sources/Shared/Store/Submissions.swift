// A send, from the caller's request to committed rows and jobs: `accept`.

import Crypto
import Database
import Foundation
package import Mail
package import Platform
package import Queue

/// What a caller wants sent, valid in itself; whether its inbox and thread exist is found out here.
package struct Submission: Sendable {
    package var inbox: InboxID?
    package var from: Mailbox?
    package var to: [Mailbox]
    package var cc: [Mailbox] = []
    package var bcc: [Mailbox] = []
    package var replyTo: Mailbox?
    package var subject: String
    package var text: String?
    package var html: String?
    package var headers: [DraftHeader] = []
    package var thread: ThreadID?
    /// Each once.
    package var attachments: [AttachmentID] = []
    /// Whether it carries one-click unsubscribe headers; nil leaves that to the inbox.
    package var listUnsubscribe: Bool?
    /// Where such a header leads, a token appended; nil when this installation has no public address.
    package var unsubscribeURL: String?

    /// A submission to these recipients.
    package init(to: [Mailbox], subject: String) {
        self.to = to
        self.subject = subject
    }
}

/// A submission that is committed and will be sent.
package struct AcceptedSubmission: Sendable {
    package let message: MessageID
    package let thread: ThreadID
    package let rfcMessageID: String
    /// Recipients to whom nothing is sent, as they were given.
    package let suppressed: [String]
    /// To be pushed now that the transaction is over.
    package let tickets: [Ticket]
}

/// What composing needs again at every try, so that the bytes are the same each time.
package struct Composition: Codable, Sendable {
    package var from: Mailbox
    package var to: [Mailbox]
    package var cc: [Mailbox]
    package var replyTo: Mailbox?
    package var headers: [DraftHeader]
    package var inReplyTo: String?
    package var references: [String]
    /// The text to compose; kept as the body's content and not a second time with the rest.
    package var text: String?
    /// With a recipient's token behind it, where List-Unsubscribe leads; nil without such a header of ours.
    package var unsubscribeURL: String?
}

extension Store {
    /// Writes a message, its recipients and its jobs in one transaction, which an organization's sends of the same moment
    /// share.
    package func accept(_ submission: Submission, org: OrgID) async throws -> AcceptedSubmission {
        // An answer may find its thread gone, and what is undone then must be its own. Attachments are worth the trip.
        if submission.thread == nil, submission.attachments.isEmpty, let sends, sends.serve(database) {
            return try await sends.accept(submission, org: org)
        }
        return try await acceptAlone(submission, org: org)
    }

    /// Two round trips: what the submission refers to, then all rows at once.
    func acceptAlone(_ submission: Submission, org: OrgID) async throws -> AcceptedSubmission {
        let sender = try senderStatement(submission, org)
        let found = try await database.beforehand.batch(
            .tenant(org),
            [sender, Suppression.active(submission.recipients.map(\.mailbox.address.key), org: org)]
                + (submission.thread.map { Self.answeredThread($0, org) } ?? [])
        )
        let inbox = try self.sender(found[0], of: submission)
        let attachments = try await attachments(of: submission, org: org)
        var message = try NewMessage(
            submission,
            from: inbox,
            answering: try answered(found, in: submission),
            suppressed: try Suppression.reasons(found[1])
        )
        message.attachmentNames = attachments.map(\.fileName)
        try Self.checkSize(of: message.draft, with: attachments)
        let jobs = try message.jobs(org)
        let statements =
            try NewMessage.statements([message], org)
            + Self.attach(attachments, to: message.id, thread: message.thread, org: org) + [Jobs.insert(jobs)]
        if submission.thread == nil {
            try await database.batch(.tenant(org), statements)
        } else {
            try await database.transaction(.tenant(org)) { transaction in
                // The thread may have been deleted since it was read; then nothing of the answer may stay.
                let results = try await transaction.batch(statements)
                guard results[0].affected == 1 else { throw StoreFault.unknown("Thread not found") }
            }
        }
        return message.accepted(jobs)
    }

    func senderStatement(_ submission: Submission, _ org: OrgID) throws -> Statement {
        if let from = submission.from { return Self.inbox(address: from.address, org) }
        if let inbox = submission.inbox { return Self.inbox(inbox, org) }
        throw StoreFault.refused("No sender: give inboxId, or from with the address of one of your inboxes.")
    }

    func sender(_ rows: Rows, of submission: Submission) throws -> Inbox {
        guard let inbox = try rows.first.map(Inbox.init) else {
            throw submission.from == nil
                ? StoreFault.unknown("Inbox not found")
                : StoreFault.forbidden("The from address is not one of your inboxes.")
        }
        guard inbox.status != "inactive" else {
            throw StoreFault.refused("The inbox is inactive and cannot send.")
        }
        guard inbox.mayUseDomain else { throw StoreFault.refused("Domain not verified") }
        return inbox
    }

    /// The thread, and the message that an answer in it answers: the last inbound one, else the last.
    private static func answeredThread(_ thread: ThreadID, _ org: OrgID) -> [Statement] {
        [
            "SELECT id FROM threads WHERE org_id = \(org) AND id = \(thread)",
            """
            SELECT m.rfc_message_id, b.composition FROM messages m
            JOIN message_bodies b ON b.org_id = m.org_id AND b.message_id = m.id
            WHERE m.org_id = \(org) AND m.thread_id = \(thread)
            ORDER BY (m.direction = 'inbound') DESC, m.created_at DESC, m.id DESC LIMIT 1
            """,
        ]
    }

    private func answered(
        _ found: [Rows],
        in submission: Submission
    ) throws -> (id: String, references: [String])? {
        guard submission.thread != nil else { return nil }
        guard !found[2].isEmpty else { throw StoreFault.unknown("Thread not found") }
        return try found[3].first.map { row in
            (try row("rfc_message_id"), try row.json("composition", as: Citations.self).references ?? [])
        }
    }
}

/// The part of a composition that both directions have.
struct Citations: Codable {
    var inReplyTo: String?
    var references: [String]?
}

/// The rows of a message that is about to be written.
struct NewMessage: Sendable {
    let id = MessageID()
    let thread: ThreadID
    let isAnswer: Bool
    let inbox: Inbox
    let rfcMessageID: String
    let submission: Submission
    let composition: Composition
    let content: String
    /// To be found by.
    var attachmentNames: [String] = []
    /// By key, those of its recipients to whom nothing is sent, and maybe others.
    private let suppressions: [String: Suppression.Reason]

    /// Throws when nobody is left to have it.
    init(
        _ submission: Submission,
        from inbox: Inbox,
        answering: (id: String, references: [String])?,
        suppressed suppressions: [String: Suppression.Reason]
    ) throws {
        self.suppressions = suppressions
        self.submission = submission
        self.inbox = inbox
        isAnswer = submission.thread != nil
        thread = submission.thread ?? ThreadID()
        rfcMessageID = "<\(id)@\(inbox.domainName)>"
        content = submission.text ?? HTMLText.text(from: submission.html ?? "")
        composition = Composition(
            from: try submission.from ?? inbox.mailbox,
            to: submission.to,
            cc: submission.cc,
            replyTo: submission.replyTo,
            headers: submission.headers,
            inReplyTo: answering?.id,
            references: answering.map { References.answering(messageID: $0.id, references: $0.references) }
                ?? [],
            unsubscribeURL: try Self.unsubscribeURL(submission, inbox)
        )
        guard suppressed.count < recipients.count else {
            throw StoreFault.suppressed(recipients.map(\.mailbox.address.description))
        }
    }

    /// A header of the caller's own stands in place of ours.
    private static func unsubscribeURL(_ submission: Submission, _ inbox: Inbox) throws -> String? {
        guard submission.listUnsubscribe ?? inbox.listUnsubscribe,
            !submission.headers.contains(where: { $0.name.lowercased() == "list-unsubscribe" })
        else { return nil }
        guard let url = submission.unsubscribeURL else {
            throw StoreFault.refused(
                "One-click unsubscribe headers need COMMUNE_PUBLIC_URL, which this server does not have."
            )
        }
        return url
    }

    /// What composing will write but for its attachments, to measure it.
    var draft: Draft {
        Draft(
            from: composition.from,
            to: composition.to,
            cc: composition.cc,
            replyTo: composition.replyTo,
            subject: submission.subject,
            text: content,
            html: submission.html,
            headers: composition.headers,
            messageID: rfcMessageID,
            date: Timestamp.now.date,
            inReplyTo: composition.inReplyTo,
            references: composition.references,
            boundarySeed: id.description
        )
    }

    private var recipients: [(role: String, mailbox: Mailbox)] { submission.recipients }

    private func suppression(_ mailbox: Mailbox) -> Suppression.Reason? { suppressions[mailbox.address.key] }

    private var suppressed: [Mailbox] {
        suppressions.isEmpty ? [] : recipients.map(\.mailbox).filter { suppression($0) != nil }
    }

    /// One for each domain; one for each recipient where each has a link of its own in its header.
    func jobs(_ org: OrgID) throws -> [NewJob] {
        let open = recipients.enumerated().filter { suppression($0.element.mailbox) == nil }
        let payloads =
            composition.unsubscribeURL == nil
            ? Set(open.map(\.element.mailbox.address.domain)).sorted().map {
                SendPayload(message: id, domain: $0)
            }
            : open.map {
                SendPayload(message: id, domain: $0.element.mailbox.address.domain, recipient: $0.offset)
            }
        return try payloads.map { payload in
            try NewJob(
                org: org,
                queue: QueueName.send,
                payload: payload,
                attemptsMax: SendPayload.attemptsMax
            )
        }
    }

    func accepted(_ jobs: [NewJob]) -> AcceptedSubmission {
        AcceptedSubmission(
            message: id,
            thread: thread,
            rfcMessageID: rfcMessageID,
            suppressed: suppressed.map(\.address.description),
            tickets: jobs.map(\.ticket)
        )
    }

    private var participants: [Message.Participant] {
        [Message.Participant(role: "sender", identity: composition.from.address.key)]
            + recipients.map { Message.Participant(role: $0.role, identity: $0.mailbox.address.description) }
    }

    private var searchText: SearchText {
        SearchText(
            subject: submission.subject,
            participants: participants.map(\.identity),
            attachmentNames: attachmentNames,
            body: content
        )
    }

    /// The rows of messages of one organization, each table's in one statement; the threads' come first.
    static func statements(_ messages: [NewMessage], _ org: OrgID) throws -> [Statement] {
        let ids = messages.map(\.id)
        let threads = messages.map(\.thread)
        let recipients = messages.flatMap { message in
            message.recipients.enumerated().map {
                (
                    message: message.id, ordinal: $0, role: $1.role, mailbox: $1.mailbox,
                    state: message.suppression($1.mailbox) == nil ? Recipient.State.queued : .suppressed
                )
            }
        }
        return messages.filter(\.isAnswer).map { $0.answeredThread(org) }
            + newThreads(messages.filter { !$0.isAnswer }, org)
            + [
                """
                INSERT INTO messages (org_id, id, thread_id, inbox_id, domain_id, direction, rfc_message_id, sender,
                    subject, participants)
                SELECT \(org), id, thread_id, inbox_id, domain_id, 'outbound', rfc_message_id, sender, subject, participants
                FROM unnest(\(ids)::uuid[], \(threads)::uuid[], \(messages.map(\.inbox.id))::uuid[],
                    \(messages.map(\.inbox.domain))::uuid[], \(messages.map(\.rfcMessageID))::text[],
                    \(messages.map(\.composition.from.address.key))::text[], \(messages.map(\.submission.subject))::text[],
                    \(try messages.map { try $0.participants.json })::jsonb[])
                    AS m (id, thread_id, inbox_id, domain_id, rfc_message_id, sender, subject, participants)
                """,
                """
                INSERT INTO message_bodies (org_id, message_id, content, content_html, composition)
                SELECT \(org), message_id, content, content_html, composition
                FROM unnest(\(ids)::uuid[], \(messages.map(\.content))::text[], \(messages.map(\.submission.html))::text[],
                    \(try messages.map { try $0.composition.json })::jsonb[])
                    AS b (message_id, content, content_html, composition)
                """,
                MessageReferences.insert(
                    messages.map { (id: $0.rfcMessageID, inbox: $0.inbox.id, thread: $0.thread) },
                    org: org
                ),
                SearchText.insert(messages.map { (text: $0.searchText, of: $0.id, $0.inbox) }, org: org),
                """
                INSERT INTO recipients (org_id, message_id, ordinal, role, address, domain, state)
                SELECT \(org), message_id, ordinal, role, address, domain, state
                FROM unnest(\(recipients.map(\.message))::uuid[], \(recipients.map(\.ordinal))::int[],
                    \(recipients.map(\.role))::text[], \(recipients.map(\.mailbox.address.description))::text[],
                    \(recipients.map(\.mailbox.address.domain))::text[], \(recipients.map(\.state.rawValue))::text[])
                    AS r (message_id, ordinal, role, address, domain, state)
                """,
            ] + suppressionEvents(messages, org)
    }

    private static func suppressionEvents(_ messages: [NewMessage], _ org: OrgID) -> [Statement] {
        let suppressed = messages.flatMap { message in message.suppressed.map { (message, $0) } }
        guard !suppressed.isEmpty else { return [] }
        return [
            """
            INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type, recipient, detail)
            SELECT \(org), e.id, e.message, e.inbox, e.domain, \(EventType.suppressed), e.recipient,
                'The address is suppressed: ' || e.reason
            FROM unnest(\(suppressed.map { _ in EventID() })::uuid[], \(suppressed.map(\.0.id))::uuid[],
                \(suppressed.map(\.0.inbox.id))::uuid[], \(suppressed.map(\.0.inbox.domain))::uuid[],
                \(suppressed.map(\.1.address.description))::text[],
                \(suppressed.map { $0.suppression($1)?.rawValue ?? "" })::text[])
                AS e (id, message, inbox, domain, recipient, reason)
            """
        ]
    }

    private static func newThreads(_ messages: [NewMessage], _ org: OrgID) -> [Statement] {
        guard !messages.isEmpty else { return [] }
        return [
            """
            INSERT INTO threads (org_id, id, inbox_id, domain_id, subject, base_subject, message_count, snippet,
                last_direction)
            SELECT \(org), id, inbox_id, domain_id, subject, base_subject, 1, snippet, 'outbound'
            FROM unnest(\(messages.map(\.thread))::uuid[], \(messages.map(\.inbox.id))::uuid[],
                \(messages.map(\.inbox.domain))::uuid[], \(messages.map(\.submission.subject))::text[],
                \(messages.map { Subject.base($0.submission.subject).base })::text[],
                \(messages.map { Snippet.of($0.content) })::text[])
                AS t (id, inbox_id, domain_id, subject, base_subject, snippet)
            """
        ]
    }

    private func answeredThread(_ org: OrgID) -> Statement {
        """
        UPDATE threads SET last_message_at = greatest(last_message_at, now()), snippet = \(Snippet.of(content)),
            message_count = message_count + 1, last_direction = 'outbound', moved_at = now(),
            moved_xid = pg_current_xact_id()
        WHERE org_id = \(org) AND id = \(thread)
        """
    }
}

extension Submission {
    /// Everybody it is for, in the order of to, cc and bcc; an address named twice gets one copy in its first role.
    var recipients: [(role: String, mailbox: Mailbox)] {
        var seen: Set<String> = []
        let all = to.map { ("to", $0) } + cc.map { ("cc", $0) } + bcc.map { ("bcc", $0) }
        return all.filter { seen.insert($0.1.address.key).inserted }
    }
}

extension Encodable {
    /// As JSON text, for an array of `jsonb`.
    fileprivate var json: String {
        get throws { String(decoding: try JSONEncoder().encode(self), as: UTF8.self) }
    }
}

extension Inbox {
    /// How mail from this inbox is signed by name.
    var mailbox: Mailbox {
        get throws { try Mailbox(displayName: displayName, address: EmailAddress(address)) }
    }
}

extension SendPayload {
    /// Tries of a send: enough for its schedule to reach the end of five days (mail.md, "Retries").
    package static let attemptsMax = 40
}
