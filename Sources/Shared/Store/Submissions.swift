// A send, from the caller's request to committed rows and jobs: `accept`.

import Crypto
import Database
import Foundation
package import Mail
package import Platform
package import Queue

/// What a caller wants sent, valid in itself; whether its inbox and thread exist is found out here.
package struct Submission: Sendable {
    /// The sender's address, which goes before `inbox`, which goes before `domain`.
    package var from: Mailbox?
    package var inbox: InboxID?
    /// Where it is sent from `agent@` of, when no inbox is named.
    package var domain: DomainID?
    /// The installation's sender of what names none.
    package var defaultFrom: Mailbox?
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
    /// Domains among the recipients' of which it is not known yet whether they take mail; they are judged before the send.
    package var unjudgedDomains: Set<String> = []

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
    package func accept(_ given: Submission, org: OrgID) async throws -> AcceptedSubmission {
        let submission = try await withSender(given, org: org)
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
            org: org,
            answering: try answered(found, in: submission),
            suppressed: try Suppression.reasons(found[1]),
            secrets: secrets
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
            // An answer to a message that cannot be read any more is still an answer.
            let citations = try? row.json("composition", as: Citations.self)
            return (try row("rfc_message_id"), citations?.references ?? [])
        }
    }
}

/// The part of a composition that both directions have.
struct Citations: Codable {
    var inReplyTo: String?
    var references: [String]?
}

extension Submission {
    /// Everybody it is for, in the order of to, cc and bcc; an address named twice gets one copy in its first role.
    var recipients: [(role: String, mailbox: Mailbox)] {
        var seen: Set<String> = []
        let all = to.map { ("to", $0) } + cc.map { ("cc", $0) } + bcc.map { ("bcc", $0) }
        return all.filter { seen.insert($0.1.address.key).inserted }
    }
}
