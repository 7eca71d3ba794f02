// The API on a database of its own, called as clients call it.

import Database
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Logging
import NIOCore
import Platform
import Queue
import Redis
import Store
import TestSupport
import Testing

@testable import API

let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

/// The platform's own domain in these tests.
let platformDomain = "agents.test"
private let secretKey = String(repeating: "5a", count: 32)

/// What the API answered.
struct Reply: Sendable {
    let status: Int
    let headers: HTTPFields
    let body: JSON
    let text: String

    var error: String { body["error"].string ?? "" }
    /// The `path` of every detail.
    var paths: [String] { body["details"].elements.compactMap { $0["path"].string } }

    func header(_ name: String) -> String? { HTTPField.Name(name).flatMap { headers[$0] } }
}

/// The API with an organization, an admin key and a way to look behind it.
struct APIPlatform: Sendable {
    let client: any TestClientProtocol
    let store: Store
    let database: Database
    let org: OrgID
    /// The organization's key, scope `admin`.
    let key: String

    /// Calls the API; `key: nil` sends none.
    ///
    /// Every answer must have the common form and be one of docs/openapi.yaml, so it is checked here; `documented` is
    /// a body whose members the document must know too.
    func call(
        _ method: HTTPRequest.Method,
        _ path: String,
        key: String?,
        raw: [UInt8]?,
        documented: JSON? = nil,
        headers: HTTPFields = [:]
    ) async throws -> Reply {
        var headers = headers
        if let key { headers[.authorization] = "Bearer \(key)" }
        let response = try await client.execute(
            uri: path,
            method: method,
            headers: headers,
            body: raw.map { ByteBuffer(bytes: $0) }
        )
        let text = String(decoding: response.body.readableBytesView, as: UTF8.self)
        let body = (try? JSONDecoder().decode(JSON.self, from: Data(text.utf8))) ?? .null
        let reply = Reply(
            status: response.status.code,
            headers: response.headers,
            body: body,
            text: text
        )
        if !["/docs"].contains(path.prefix { $0 != "?" }) {
            #expect(body != .null, "\(method) \(path) answered no JSON: \(text.prefix(200))")
            #expect(reply.header("Content-Type")?.hasPrefix("application/json") == true)
        }
        #expect(reply.header("X-Request-ID")?.isEmpty == false, "\(method) \(path) has no X-Request-ID")
        let faults = try Conformance.document.get().faults(method, path, body: documented, reply: reply)
        #expect(faults.isEmpty, "docs/openapi.yaml: \(faults.joined(separator: "; "))")
        if reply.status >= 400, path.hasPrefix("/v1") {
            #expect(!reply.error.isEmpty, "\(method) \(path): an error without its sentence: \(text)")
        }
        return reply
    }

    func get(_ path: String) async throws -> Reply { try await call(.get, path, key: key, raw: nil) }

    func get(_ path: String, key: String?) async throws -> Reply {
        try await call(.get, path, key: key, raw: nil)
    }

    func post(_ path: String, _ body: JSON) async throws -> Reply {
        try await call(.post, path, key: key, raw: body.bytes, documented: body)
    }

    func post(_ path: String, _ body: JSON, key: String?) async throws -> Reply {
        try await call(.post, path, key: key, raw: body.bytes, documented: body)
    }

    func send(_ body: JSON) async throws -> Reply { try await post("/v1/messages/send", body) }

    /// Another organization with its admin key.
    func stranger(_ name: String = "Stranger") async throws -> (org: OrgID, key: String) {
        let org = try await store.createOrganization(named: name)
        return (org, try await makeKey(["admin"], org: org))
    }

    func makeKey(_ scopes: [String], org: OrgID? = nil, expiresAt: Timestamp? = nil) async throws -> String {
        try await store.createKey(org: org ?? self.org, name: "test", scopes: scopes, expiresAt: expiresAt)
            .secret
    }

    /// An inbox of the organization, by the store, so that a test of something else does not stand on the route.
    func makeInbox(_ localPart: String, org: OrgID? = nil, name: String? = nil) async throws -> Inbox {
        try await store.createInbox(
            org: org ?? self.org,
            localPart: localPart,
            displayName: name,
            on: store.platformDomain(named: platformDomain)
        )
    }

    /// Rows of everything that a request could leave behind.
    func stored() async throws -> [String: Int] {
        let tables = [
            "messages", "message_bodies", "recipients", "jobs", "threads", "message_references", "inboxes",
            "shared_addresses", "delivery_events", "received_mail", "blobs", "domains", "domain_keys",
            "blob_chunks", "attachments",
        ]
        let rows = try await database.batch(
            .worker,
            tables.map { "SELECT count(*) AS n FROM \(raw: $0)" }
        )
        return try Dictionary(
            uniqueKeysWithValues: zip(tables, rows).map { table, rows in
                (table, try only(rows)("n") as Int)
            }
        )
    }
}

/// The only row.
func only(_ rows: Rows) throws -> Row {
    #expect(rows.count == 1)
    return try #require(rows.first)
}

private func migrate(_ url: String) async throws {
    let database = Database(Database.Configuration(url: url), logger: quiet)
    try await Migrator(database, logger: quiet).run()
    // Its keys take a moment to make, so the template has them.
    var settings = Settings(["COMMUNE_SECRET_KEY": secretKey])
    let secrets = try #require(SecretBox(reading: &settings))
    _ = try await Store(database, secrets: secrets).platformDomain(named: platformDomain)
    await database.close()
}

/// Places for platforms: each has connections of its own, and the tests' PostgreSQL has only so many.
private actor Places {
    static let shared = Places()

    private var free = 24
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func take() async {
        if free > 0 {
            free -= 1
        } else {
            await withCheckedContinuation { waiting.append($0) }
        }
    }

    func leave() {
        if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
    }
}

/// Runs `body` with the API on a database of its own; `settings` are variables of its environment.
func withPlatform(
    _ setup: TestingSetup = .router,
    settings: [String: String] = [:],
    _ body: @Sendable @escaping (APIPlatform) async throws -> Void
) async throws {
    let template = "api_\(Migrator.fingerprint)"
    await Places.shared.take()
    let result: Result<Void, any Error>
    do {
        try await runPlatform(setup, template, settings: settings, body)
        result = .success(())
    } catch {
        result = .failure(error)
    }
    await Places.shared.leave()
    try result.get()
}

private func runPlatform(
    _ setup: TestingSetup,
    _ template: String,
    settings: [String: String],
    _ body: @Sendable @escaping (APIPlatform) async throws -> Void
) async throws {
    try await TestDatabase.with(template: template, migrating: migrate) { made in
        try await withAPI(setup, settings: ["DATABASE_URL": made.url].merging(settings) { $1 }) {
            client,
            backend in
            // The test looks behind the API over a connection of its own, whatever the API's settings are.
            var direct = Database.Configuration(url: made.url)
            direct.connectionsMax = 3
            let database = Database(direct, logger: quiet)
            let store = Store(database, secrets: backend.store.secrets)
            let org = try await store.createOrganization(named: "Acme")
            let key = try await store.createKey(org: org, name: "test", scopes: ["admin"])
            try await body(
                APIPlatform(client: client, store: store, database: database, org: org, key: key.secret)
            )
            await database.close()
        }
    }
}

/// Runs `body` with the API alone.
func withAPI(
    _ setup: TestingSetup = .router,
    settings: [String: String],
    _ body: @Sendable @escaping (any TestClientProtocol, Backend) async throws -> Void
) async throws {
    let defaults = [
        "REDIS_URL": try await RedisServer.sharedURL(), "COMMUNE_SECRET_KEY": secretKey,
        "COMMUNE_DEFAULT_DOMAIN": platformDomain, "COMMUNE_RATE_LIMIT_PER_MINUTE": "0",
        "COMMUNE_SEND_LIMIT_PER_MINUTE": "0",
        // Only tests of recipients' domains have a DNS, which `settings` name.
        "COMMUNE_SMTP_ROUTES": "*=127.0.0.1:9", "COMMUNE_DNS_SERVER": "127.0.0.1:9",
        "COMMUNE_HOST": "127.0.0.1", "COMMUNE_DB_CONNECTIONS": "3",
    ]
    var environment = Settings(defaults.merging(settings) { $1 })
    let read = APIConfiguration(reading: &environment)
    #expect(environment.faults.isEmpty)
    let configuration = try #require(read)
    let database = Database(configuration.database, logger: quiet)
    let redis = Redis(configuration.redis, logger: quiet)
    let pusher = Pusher(Schedule(redis, namespace: "test-\(UUID().uuidString)"), logger: quiet)
    let backend = try Backend(configuration, database: database, redis: redis, pusher: pusher, logger: quiet)
    let result: Result<Void, any Error>
    do {
        let application = makeApplication(backend, configuration, logger: quiet)
        try await application.test(setup) { client in try await body(client, backend) }
        result = .success(())
    } catch {
        result = .failure(error)
    }
    await database.close()
    await redis.close()
    try result.get()
}
