// A message that is about to be written: its rows and jobs, made of a submission and what was found out about it.

import Database
import Foundation
import Mail
import Platform
import Queue

/// The rows of a message that is about to be written.
struct NewMessage: Sendable {
    let id = MessageID()
    let thread: ThreadID
    let isAnswer: Bool
    let inbox: Inbox
    let rfcMessageID: String
    /// As it is sent: an answer's begins with one `Re:`.
    let subject: String
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
        org: OrgID,
        answering: (id: String, references: [String])?,
        suppressed suppressions: [String: Suppression.Reason],
        secrets: SecretBox
    ) throws {
        self.suppressions = suppressions
        self.submission = submission
        self.inbox = inbox
        isAnswer = submission.thread != nil
        let thread = submission.thread ?? ThreadID()
        self.thread = thread
        subject = answering == nil ? submission.subject : Subject.answering(submission.subject)
        rfcMessageID = "<\(id)@\(inbox.domainName)>"
        content = submission.text ?? HTMLText.text(from: submission.html ?? "")
        composition = Composition(
            from: try submission.from ?? inbox.mailbox,
            to: submission.to,
            cc: submission.cc,
            replyTo: try submission.replyTo ?? inbox.replyTo(thread, org, secrets),
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
            subject: subject,
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
    ///
    /// Where it is not known whether a domain takes mail, one that finds out.
    func jobs(_ org: OrgID) throws -> [NewJob] {
        let open = recipients.enumerated().filter { suppression($0.element.mailbox) == nil }
            .map { (ordinal: $0.offset, domain: $0.element.mailbox.address.domain) }
        let judged = open.filter { !submission.unjudgedDomains.contains($0.domain) }
        let unjudged = Set(open.map(\.domain)).intersection(submission.unjudgedDomains)
        return try SendPayload.jobs(
            of: id,
            to: judged,
            eachApart: composition.unsubscribeURL != nil,
            org: org
        ) + unjudged.sorted().map { try ValidateRecipientsPayload(message: id, domain: $0).job(org) }
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
            subject: subject,
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
                    \(messages.map(\.composition.from.address.key))::text[], \(messages.map(\.subject))::text[],
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

    /// Where answers find their thread when the address is nobody's; nil elsewhere.
    func replyTo(_ thread: ThreadID, _ org: OrgID, _ secrets: SecretBox) throws -> Mailbox? {
        guard isHidden else { return nil }
        let token = ThreadToken(org: org, thread: thread).text(secrets: secrets)
        return Mailbox(try EmailAddress("\(localPart)+\(token)@\(domainName)"))
    }
}
