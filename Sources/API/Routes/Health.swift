// Whether this copy lives, and whether it can serve.

import Database
import HTTPTypes
import Hummingbird
import Redis
import Store

enum Health {
    private struct Live: Encodable {
        let status = "ok"
    }

    private struct Ready: Encodable {
        let status: String
        let database: String
        let redis: String
    }

    /// The process answers.
    static func live(_ call: Call) async throws -> Answer { try Answer(.ok, Live()) }

    /// 503 without PostgreSQL; without Redis it serves, and says so.
    static func ready(_ call: Call) async throws -> Answer {
        let redis = (try? await call.backend.redis.command("PING")) == nil ? "away" : "ok"
        do {
            try await call.store.database.ping()
        } catch {
            return try Answer(
                .serviceUnavailable,
                Ready(status: "unavailable", database: "away", redis: redis)
            )
        }
        return try Answer(.ok, Ready(status: "ok", database: "ok", redis: redis))
    }
}
