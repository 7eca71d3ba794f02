// What an organization should look at.

import Foundation
import Hummingbird
import Platform
import Store

enum AlertRoutes {
    private struct View: Encodable, Sendable {
        let alert: Alert

        enum CodingKeys: String, CodingKey {
            case id, type, status, message
            case subject = "subject_id"
            case raisedAt = "raised_at"
            case resolvedAt = "resolved_at"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(alert.id, forKey: .id)
            try container.encode(alert.kind.rawValue, forKey: .type)
            let status: Alert.Status = alert.resolvedAt == nil ? .open : .resolved
            try container.encode(status.rawValue, forKey: .status)
            try container.encode(alert.subject.isEmpty ? nil : alert.subject, forKey: .subject)
            try container.encode(alert.message, forKey: .message)
            try container.encode(alert.raisedAt.iso8601, forKey: .raisedAt)
            try container.encode(alert.resolvedAt?.iso8601, forKey: .resolvedAt)
        }
    }

    static func list(_ call: Call) async throws -> Answer {
        let status = try call.query("status").map { text in
            guard let status = Alert.Status(rawValue: text) else {
                throw call.invalid("status", "must be open or resolved.")
            }
            return status
        }
        let kind = try call.query("type").map { text in
            guard let kind = Alert.Kind(rawValue: text) else {
                let names = Alert.Kind.allCases.map(\.rawValue).joined(separator: ", ")
                throw call.invalid("type", "must be one of \(names).")
            }
            return kind
        }
        let page = try await call.store.alerts(
            org: call.caller.org,
            status: status,
            kind: kind,
            after: try call.cursor(of: "alerts"),
            limit: try call.query("limit", in: 1...100, default: 50)
        )
        return try call.answer(page, of: "alerts") { View(alert: $0) }
    }
}
