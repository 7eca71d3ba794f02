// Events to wait for: a long poll, for callers that no webhook can reach.

import Foundation
import Hummingbird
import Platform
import Store

enum EventRoutes {
    static let waitSecondsMax = 60
    private static let pageMax = 100

    /// An event as callers see it.
    private struct View: Encodable, Sendable {
        let event: MailEvent

        enum CodingKeys: String, CodingKey {
            case id, type, data
            case createdAt = "created_at"
        }

        private struct Details: Encodable {
            let event: MailEvent

            enum CodingKeys: String, CodingKey {
                case recipient, detail, direction, sender, subject
                case message = "message_id"
                case thread = "thread_id"
                case inbox = "inbox_id"
                case domain = "domain_id"
            }

            func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encode(MessageRoutes.idPrefix + event.message.description, forKey: .message)
                try container.encode(event.inbox, forKey: .inbox)
                try container.encode(event.domain, forKey: .domain)
                try container.encode(event.recipient, forKey: .recipient)
                try container.encode(event.detail, forKey: .detail)
                try container.encode(
                    event.about.map { ThreadRoutes.idPrefix + $0.thread.description },
                    forKey: .thread
                )
                try container.encode(event.about?.direction, forKey: .direction)
                try container.encode(event.about?.sender, forKey: .sender)
                try container.encode(event.about?.subject, forKey: .subject)
            }
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(event.id, forKey: .id)
            try container.encode(event.type, forKey: .type)
            try container.encode(event.createdAt.iso8601, forKey: .createdAt)
            try container.encode(Details(event: event), forKey: .data)
        }
    }

    /// Answers as soon as there is an event behind the cursor, or when the time is over.
    static func wait(_ call: Call) async throws -> Answer {
        let caller = try call.caller
        var filter = EventFilter()
        filter.inbox = try call.query(id: "inbox_id")
        filter.type = try call.eventType("type")
        let seconds = try call.query("timeout", in: 0...waitSecondsMax, default: 30)
        let deadline = ContinuousClock.now + .seconds(seconds)
        var place = try await start(call)
        let bell = call.backend.bell
        let batch = try await bell.admit(caller.key) { [filter] in
            while true {
                let batch = try await call.store.events(
                    org: caller.org,
                    filter,
                    after: place,
                    limit: pageMax
                )
                place = batch.next
                if !batch.events.isEmpty || ContinuousClock.now >= deadline { return batch }
                // What was looked at did not fit the filter; there is more of it.
                if batch.hasMore { continue }
                guard await bell.wait(for: caller.org, since: batch.horizon, until: deadline) else {
                    return batch
                }
            }
        }
        return try Answer(
            .ok,
            PageEnvelope(
                data: batch.events.map(View.init),
                nextCursor: batch.next.text(secrets: call.store.secrets),
                hasMore: batch.hasMore
            )
        )
    }

    /// The cursor's place; without one, now.
    private static func start(_ call: Call) async throws -> EventPlace {
        guard let text = call.query("cursor") else {
            return try await call.store.eventsNow(org: call.caller.org)
        }
        guard let place = EventPlace(text, secrets: call.store.secrets) else {
            throw call.invalid("cursor", "is not one that this list gave out.")
        }
        return place
    }
}

extension Call {
    /// A type of event, with its `email.` or without.
    func eventType(_ names: String...) throws -> String? {
        for name in names {
            guard let text = query(name) else { continue }
            let type = text.hasPrefix("email.") ? text : "email.\(text)"
            guard EventType.all.contains(type) else {
                throw invalid(name, "must be one of \(EventType.all.joined(separator: ", ")).")
            }
            return type
        }
        return nil
    }
}
