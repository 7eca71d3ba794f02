// Threads: pages of conversations, and the messages of one.

import Foundation
import Hummingbird
import Platform
import Store

enum ThreadRoutes {
    /// A thread as callers see it.
    struct View: Encodable, Sendable {
        let thread: MailThread
        /// As an answer of the search, which names the time of the last message as published clients read it there.
        var isFound = false
        /// Everybody who took part, where a single thread is shown.
        var participants: [String]?

        enum CodingKeys: String, CodingKey {
            case subject, snippet, status, tags, participants
            case assignee = "assigned_to"
            case lastActivity = "last_activity"
            case id = "thread_id"
            case lastMessageAt = "last_message_at"
            case firstMessageAt = "first_message_at"
            case messageCount = "message_count"
            case lastDirection = "last_direction"
            case inbox = "inbox_id"
            case domain = "domain_id"
            case hasAttachments = "has_attachments"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(ThreadRoutes.idPrefix + thread.id.description, forKey: .id)
            try container.encode(thread.subject, forKey: .subject)
            try container.encode(thread.lastMessageAt.iso8601, forKey: .lastMessageAt)
            try container.encode(thread.firstMessageAt.iso8601, forKey: .firstMessageAt)
            try container.encode(thread.messageCount, forKey: .messageCount)
            try container.encode(thread.snippet, forKey: .snippet)
            try container.encode(thread.lastDirection, forKey: .lastDirection)
            try container.encode(thread.inbox, forKey: .inbox)
            try container.encode(thread.domain, forKey: .domain)
            try container.encode(thread.hasAttachments, forKey: .hasAttachments)
            try container.encode(thread.triage.status, forKey: .status)
            try container.encode(thread.triage.assignee, forKey: .assignee)
            try container.encode(thread.triage.tags, forKey: .tags)
            try container.encodeIfPresent(participants, forKey: .participants)
            if isFound { try container.encode(thread.lastMessageAt.iso8601, forKey: .lastActivity) }
        }
    }

    static let idPrefix = "thread_"

    static func list(_ call: Call) async throws -> Answer {
        let inbox: InboxID? = try call.query(id: "inbox_id")
        let domain: DomainID? = try call.query(id: "domain_id")
        guard inbox != nil || domain != nil else {
            throw APIError(.badRequest, "Give inbox_id or domain_id.")
        }
        let order = try call.order(default: .descending)
        let list = "threads/\(order.rawValue)"
        let page = try await call.store.threads(
            org: call.caller.org,
            inbox: inbox,
            domain: domain,
            order: order,
            after: try call.cursor(of: list),
            limit: try call.query("limit", in: 1...100, default: 20)
        )
        return try call.answer(page, of: list) { View(thread: $0) }
    }

    /// One thread, with everybody who took part in it.
    static func show(_ call: Call) async throws -> Answer {
        let id: ThreadID = try call.id("thread_id", prefix: idPrefix, of: "Thread")
        let org = try call.caller.org
        guard let thread = try await call.store.thread(id, org: org) else {
            throw APIError.notFound("Thread")
        }
        let participants = try await call.store.participants(of: id, org: org)
        return try Answer(.ok, Envelope(data: View(thread: thread, participants: participants)))
    }

    private struct MetadataView: Encodable, Sendable {
        let thread: String
        let status: ThreadTriage.Status
        let assignee: String?
        let tags: [String]
        let participants: [String]

        enum CodingKeys: String, CodingKey {
            case status, tags, participants
            case thread = "thread_id"
            case assignee = "assigned_to"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(thread, forKey: .thread)
            try container.encode(status, forKey: .status)
            try container.encode(assignee, forKey: .assignee)
            try container.encode(tags, forKey: .tags)
            try container.encode(participants, forKey: .participants)
        }
    }

    /// What people and agents have made of a thread, without its mail.
    static func metadata(_ call: Call) async throws -> Answer {
        let id: ThreadID = try call.id("thread_id", prefix: idPrefix, of: "Thread")
        let org = try call.caller.org
        guard let thread = try await call.store.thread(id, org: org) else {
            throw APIError.notFound("Thread")
        }
        let view = MetadataView(
            thread: idPrefix + id.description,
            status: thread.triage.status,
            assignee: thread.triage.assignee,
            tags: thread.triage.tags,
            participants: try await call.store.participants(of: id, org: org)
        )
        return try Answer(.ok, Envelope(data: view))
    }

    static func messages(_ call: Call) async throws -> Answer {
        let id: ThreadID = try call.id("thread_id", prefix: idPrefix, of: "Thread")
        let org = try call.caller.org
        let order = try call.order(default: .ascending)
        let list = "messages/\(order.rawValue)"
        let limit = try call.query("limit", in: 1...1000, default: 50)
        var filter = MessageFilter()
        filter.thread = id
        let page = try await call.store.messages(
            org: org,
            filter,
            order: order,
            after: try call.cursor(of: list),
            limit: limit
        )
        // An empty page may be the end of a long thread, or of one that is not ours.
        if page.elements.isEmpty, try await !call.store.hasThread(id, org: org) {
            throw APIError.notFound("Thread")
        }
        return try call.answer(page, of: list) { MessageRoutes.View(message: $0) }
    }
}
