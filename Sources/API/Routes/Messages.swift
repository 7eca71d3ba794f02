// Messages: lists, and the send.

import Foundation
import Hummingbird
import Mail
import Platform
import Queue
import Store

enum MessageRoutes {
    static let idPrefix = "msg_"

    /// A message as callers see it.
    struct View: Encodable, Sendable {
        let message: Message
        /// What became of it at each recipient, where a single message is shown.
        var recipients: [RecipientView]?

        enum CodingKeys: String, CodingKey {
            case channel, direction, participants, content, attachments, metadata, recipients
            case id = "message_id"
            case thread = "thread_id"
            case contentHTML = "content_html"
            case createdAt = "created_at"
        }

        private struct Metadata: Encodable {
            let message: Message

            enum CodingKeys: String, CodingKey {
                case subject, authentication
                case messageID = "message_id"
                case createdAt = "created_at"
                case domain = "domain_id"
                case inbox = "inbox_id"
                case joinedByCitation = "joined_by_citation"
            }

            func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encode(message.subject, forKey: .subject)
                try container.encode(message.createdAt.iso8601, forKey: .createdAt)
                try container.encode(message.domain, forKey: .domain)
                try container.encode(message.inbox, forKey: .inbox)
                try container.encode(message.rfcMessageID, forKey: .messageID)
                try container.encodeIfPresent(message.metadata.authentication, forKey: .authentication)
                try container.encodeIfPresent(message.metadata.joinedByCitation, forKey: .joinedByCitation)
            }
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(MessageRoutes.idPrefix + message.id.description, forKey: .id)
            try container.encode(ThreadRoutes.idPrefix + message.thread.description, forKey: .thread)
            try container.encode("email", forKey: .channel)
            try container.encode(message.direction, forKey: .direction)
            try container.encode(message.participants, forKey: .participants)
            try container.encode(message.content, forKey: .content)
            try container.encode(message.contentHTML, forKey: .contentHTML)
            try container.encode(message.attachments, forKey: .attachments)
            try container.encode(message.createdAt.iso8601, forKey: .createdAt)
            try container.encode(Metadata(message: message), forKey: .metadata)
            try container.encodeIfPresent(recipients, forKey: .recipients)
        }
    }

    /// A recipient and what is known of it, as callers see it.
    struct RecipientView: Encodable, Sendable {
        let story: RecipientStory

        enum CodingKeys: String, CodingKey {
            case role, email, state, tries, tls, transcript
            case remoteMX = "remote_mx"
            case lastReply = "last_reply"
            case updatedAt = "updated_at"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(story.role, forKey: .role)
            try container.encode(story.address, forKey: .email)
            try container.encode(story.state, forKey: .state)
            try container.encode(story.tries, forKey: .tries)
            try container.encode(story.remoteMX, forKey: .remoteMX)
            try container.encode(story.tls, forKey: .tls)
            try container.encode(story.lastReply, forKey: .lastReply)
            try container.encode(story.transcript, forKey: .transcript)
            try container.encode(story.updatedAt.iso8601, forKey: .updatedAt)
        }
    }

    /// One message, with what became of it at each recipient.
    static func show(_ call: Call) async throws -> Answer {
        let id: MessageID = try call.id("message_id", prefix: idPrefix, of: "Message")
        guard let (message, recipients) = try await call.store.message(id, org: call.caller.org) else {
            throw APIError.notFound("Message")
        }
        let view = View(message: message, recipients: recipients.map(RecipientView.init))
        return try Answer(.ok, Envelope(data: view))
    }

    static func list(_ call: Call) async throws -> Answer {
        var filter = MessageFilter()
        filter.inbox = try call.query(id: "inbox_id")
        filter.domain = try call.query(id: "domain_id")
        filter.sender = try call.query(withoutSpaces: "sender")?.lowercased()
        guard filter.inbox != nil || filter.domain != nil || filter.sender != nil else {
            throw APIError(.badRequest, "Give inbox_id, domain_id or sender.")
        }
        filter.before = try call.date("before")
        filter.after = try call.date("after")
        let order = try call.order(default: .descending)
        let list = "messages/\(order.rawValue)"
        let page = try await call.store.messages(
            org: call.caller.org,
            filter,
            order: order,
            after: try call.cursor(of: list),
            limit: try call.query("limit", in: 1...1000, default: 50)
        )
        return try call.answer(page, of: list) { View(message: $0) }
    }

    /// The answer to a send; `validation` only where it has something to say.
    private struct Receipt: Encodable {
        let data: Accepted
        let validation: RecipientValidation?
    }

    private struct Accepted: Encodable {
        let id: String
        let messageID: String
        let thread: String
        let rfcMessageID: String
        let status = "queued"

        enum CodingKeys: String, CodingKey {
            case id, status
            case messageID = "message_id"
            case thread = "thread_id"
            case rfcMessageID = "smtp_message_id"
        }
    }

    static func send(_ call: Call) async throws -> Answer {
        var validation = RecipientValidation()
        var submission = try call.decode(SendRequest.self).submission(&validation)
        submission.unsubscribeURL = call.backend.publicURL.map { "\($0)/unsubscribe?token=" }
        submission.defaultFrom = call.backend.defaultFrom
        // Before the first word to the database, which may begin a transaction: a slow DNS must hold no connection.
        try await call.backend.judge.judge(&submission, &validation)
        let accepted: AcceptedSubmission
        do {
            accepted = try await call.store.accept(submission, org: call.caller.org)
        } catch StoreFault.suppressed(let addresses) {
            validation.suppressed = addresses
            throw APIError.noRecipientLeft(validation)
        }
        validation.suppressed = accepted.suppressed
        // Once it is committed it is sent whatever happens to this process.
        call.push(accepted.tickets)
        let id = idPrefix + accepted.message.description
        return try Answer(
            .ok,
            Receipt(
                data: Accepted(
                    id: id,
                    messageID: id,
                    thread: ThreadRoutes.idPrefix + accepted.thread.description,
                    rfcMessageID: accepted.rfcMessageID
                ),
                validation: validation.isSilent ? nil : validation
            )
        )
    }
}
