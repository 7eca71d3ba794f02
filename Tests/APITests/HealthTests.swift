// Whether a copy lives and can serve, and what callers hear while a store is away.

import Database
import Foundation
import Platform
import Store
import TestSupport
import Testing

@testable import API

@Suite("Health")
struct HealthTests {
    @Test("with both stores it is ready, without a key")
    func ready() async throws {
        try await withPlatform { platform in
            let live = try await platform.get("/healthz", key: nil)
            #expect(live.status == 200)
            let reply = try await platform.get("/readyz", key: nil)
            #expect(reply.status == 200)
            #expect(reply.body == ["status": "ok", "database": "ok", "redis": "ok"])
        }
    }

    @Test("without Redis it is ready and says so, and messages are accepted")
    func withoutRedis() async throws {
        let dead = "redis://127.0.0.1:\(try ServerProcess.freePort())"
        try await withPlatform(settings: ["REDIS_URL": dead]) { platform in
            let reply = try await platform.get("/readyz", key: nil)
            #expect(reply.status == 200)
            #expect(reply.body == ["status": "ok", "database": "ok", "redis": "away"])
            let inbox = try await platform.makeInbox("sender")
            let sent = try await platform.send([
                "to": "a@b.test", "subject": "s", "text": "t", "inboxId": .string(inbox.id.description),
            ])
            #expect(sent.status == 200)
            #expect(try await platform.stored()["jobs"] == 1)
        }
    }

    @Test("without PostgreSQL it lives but is not ready, and callers hear 503 with Retry-After")
    func withoutPostgres() async throws {
        let server = try PostgresServer()
        try await server.stop()
        try await withAPI(settings: ["DATABASE_URL": server.url(), "COMMUNE_DB_ACQUIRE_TIMEOUT": "1"]) {
            client,
            backend in
            let platform = APIPlatform(
                client: client,
                store: backend.store,
                database: backend.store.database,
                org: OrgID(),
                key: "comm_" + String(repeating: "0", count: 64)
            )
            #expect(try await platform.get("/healthz", key: nil).status == 200)
            let reply = try await platform.get("/readyz", key: nil)
            #expect(reply.status == 503)
            #expect(reply.body["database"] == "away")
            #expect(reply.body["redis"] == "ok")
            for path in ["/v1/inboxes", "/v1/messages?limit=0"] {
                let refused = try await platform.get(path)
                #expect(refused.status == 503, "\(refused.text)")
                #expect(refused.header("Retry-After").flatMap(Int.init) != nil)
            }
            #expect(try await platform.get("/v1/inboxes", key: nil).status == 401)
            #expect(try await platform.get("/v1/inboxes", key: "nonsense").status == 401)
            try await server.start()
            let back = try await platform.get("/readyz", key: nil)
            #expect(back.status == 200, "\(back.text)")
        }
    }
}
