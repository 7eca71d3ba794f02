// Delivery: metrics, events, and the addresses that are not written to.

import Foundation
import Hummingbird
import Mail
import Platform
import Store

/// Metrics and the log of events.
enum DeliveryRoutes {
    private struct MetricsView: Encodable, Sendable {
        let metrics: DeliveryMetrics
        let period: MetricsPeriod

        enum CodingKeys: String, CodingKey {
            case sent, delivered, bounced, complained, failed, period
            case deliveryRate = "delivery_rate"
            case bounceRate = "bounce_rate"
            case complaintRate = "complaint_rate"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(metrics.sent, forKey: .sent)
            try container.encode(metrics.delivered, forKey: .delivered)
            try container.encode(metrics.bounced, forKey: .bounced)
            try container.encode(metrics.complained, forKey: .complained)
            try container.encode(metrics.failed, forKey: .failed)
            try container.encode(metrics.deliveryRate, forKey: .deliveryRate)
            try container.encode(metrics.bounceRate, forKey: .bounceRate)
            try container.encode(metrics.complaintRate, forKey: .complaintRate)
            try container.encode(period.rawValue, forKey: .period)
        }
    }

    static func metrics(_ call: Call) async throws -> Answer {
        var period = MetricsPeriod.week
        if let text = call.query("period") {
            guard let known = MetricsPeriod(rawValue: text) else {
                throw call.invalid("period", "must be 24h, 7d or 30d.")
            }
            period = known
        }
        let metrics = try await call.store.deliveryMetrics(
            org: call.caller.org,
            inbox: try call.query(id: "inbox_id", or: "inboxId"),
            domain: try call.query(id: "domain_id", or: "domainId"),
            period: period
        )
        return try Answer(.ok, Envelope(data: MetricsView(metrics: metrics, period: period)))
    }

    private struct EventView: Encodable, Sendable {
        let event: MailEvent

        enum CodingKeys: String, CodingKey {
            case recipient, timestamp, detail
            case id = "event_id"
            case message = "message_id"
            case type = "event_type"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(event.id, forKey: .id)
            try container.encode(MessageRoutes.idPrefix + event.message.description, forKey: .message)
            // As the published clients document it: sent, delivered, bounced, ….
            try container.encode(String(event.type.dropFirst("email.".count)), forKey: .type)
            try container.encode(event.recipient, forKey: .recipient)
            try container.encode(event.createdAt.iso8601, forKey: .timestamp)
            try container.encode(event.detail, forKey: .detail)
        }
    }

    static func events(_ call: Call) async throws -> Answer {
        var filter = EventFilter()
        filter.message = try call.query(id: "message_id", or: "messageId", prefix: MessageRoutes.idPrefix)
        filter.inbox = try call.query(id: "inbox_id", or: "inboxId")
        filter.domain = try call.query(id: "domain_id", or: "domainId")
        filter.type = try call.eventType("event_type", "eventType")
        let list = "delivery-events"
        let page = try await call.store.deliveryEvents(
            org: call.caller.org,
            filter,
            after: try call.cursor(of: list),
            limit: try call.query("limit", in: 1...1000, default: 50)
        )
        return try call.answer(page, of: list) { EventView(event: $0) }
    }
}

/// The list of suppressed addresses.
enum SuppressionRoutes {
    private struct View: Encodable, Sendable {
        let email: String
        let reason: String
        let suppressedAt: String

        init(_ entry: SuppressionEntry) {
            email = entry.email
            reason = entry.reason
            suppressedAt = entry.createdAt.iso8601
        }

        enum CodingKeys: String, CodingKey {
            case email, reason
            case suppressedAt = "suppressed_at"
        }
    }

    private struct AddRequest: Decodable {
        let email: String
    }

    static func list(_ call: Call) async throws -> Answer {
        let address = try call.query(withoutSpaces: "email").map { text in
            guard let address = try? EmailAddress(text) else {
                throw call.invalid("email", "is not an email address.")
            }
            return address
        }
        let list = "suppressions"
        let page = try await call.store.suppressions(
            org: call.caller.org,
            address: address,
            inbox: try call.query(id: "inbox_id", or: "inboxId"),
            domain: try call.query(id: "domain_id", or: "domainId"),
            after: try call.cursor(of: list),
            limit: try call.query("limit", in: 1...1000, default: 50)
        )
        return try call.answer(page, of: list, View.init)
    }

    static func add(_ call: Call) async throws -> Answer {
        let request = try call.decode(AddRequest.self)
        guard let address = try? EmailAddress(request.email) else {
            throw call.invalid("email", "is not an email address.")
        }
        let (entry, isNew) = try await call.store.addSuppression(of: address, org: call.caller.org)
        return try Answer(isNew ? .created : .ok, Envelope(data: View(entry)))
    }

    static func remove(_ call: Call) async throws -> Answer {
        guard let text = call.context.parameters.get("email")?.removingPercentEncoding,
            let address = try? EmailAddress(text),
            try await call.store.removeSuppression(of: address, org: call.caller.org)
        else { throw APIError.notFound("Suppression") }
        return try Answer(.ok, Envelope(data: ["ok": true]))
    }
}
