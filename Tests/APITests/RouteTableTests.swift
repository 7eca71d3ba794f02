// What holds for every route, walked from the route table: a new route is covered the moment it is there.

import Blobs
import Database
import Foundation
import HTTPTypes
import Platform
import Store
import Testing

@testable import API

/// Rows of one organization to ask for, under the names that path parameters have.
private struct Examples {
    let values: [String: String]
    /// Words of the rows that nobody else may see.
    let secrets: [String]
    /// Of the same organization, beside what the examples are about.
    let other: Inbox

    init(_ platform: APIPlatform) async throws {
        let domain = try await platform.makeDomain("confidential.example")
        let webhook = WebhookChange(endpoint: "https://confidential.example/hook")
        let inbox = try await platform.makeInbox(
            "confidential-inbox",
            on: domain,
            name: "Confidential Name",
            webhook: webhook
        )
        let thread = try await platform.receive(
            "<confidential-id@x>",
            in: inbox,
            from: "confidential-sender@x.test",
            subject: "Confidential subject",
            text: "Confidential text"
        )
        let key = try await platform.store.createKey(
            org: platform.org,
            NewKey(name: "Confidential key", scopes: ["read"])
        )
        let list = try await platform.get("/v1/messages?inbox_id=\(inbox.id)")
        let message = try #require(list.body["data"][0]["message_id"].string)
        let bytes = Array("Confidential bytes".utf8)
        let file = NewAttachment(
            fileName: "confidential.pdf",
            mimeType: "application/pdf",
            blob: NewBlob(org: platform.org, source: BlobSource(bytes), sha256: [])
        )
        try await platform.store.add(file, org: platform.org)
        values = [
            "attachment_id": file.id.hexadecimal,
            "inbox_id": inbox.id.description, "domain_id": inbox.domain.description, "thread_id": thread,
            "message_id": message, "key_id": key.record.id.description, "email": "withheld@x.test",
        ]
        try await platform.database.query(
            .tenant(platform.org),
            """
            INSERT INTO suppressions (org_id, address_key, reason)
            VALUES (\(platform.org), 'withheld@x.test', 'manual')
            """
        )
        let secret = try #require(try platform.store.webhookSecret(of: inbox, org: platform.org))
        secrets = [
            "onfidential", inbox.id.description, domain.id.description, thread, message, secret,
            file.id.hexadecimal, key.record.id.description,
        ]
        other = try await platform.makeInbox("another-inbox")
        let report = DMARCSample(domain: "confidential.example", reporter: "Confidential Reporter")
        _ = try await platform.store.addDMARCReport(try report.read(), org: platform.org)
    }

    /// A body that a route which takes an Idempotency-Key does something for.
    func validBody(of route: Route) throws -> JSON {
        let bodies: [String: JSON] = [
            "/v1/domains": ["name": "repeated.example"],
            "/v1/domains/{domain_id}/inboxes": ["local_part": "of-domain"],
            "/v1/inboxes": ["local_part": "repeated"],
            "/v1/messages/send": [
                "to": "a@b.test", "subject": "s", "text": "t", "inboxId": .string(other.id.description),
            ],
            "/v1/attachments/upload": [
                "content": "aGVsbG8=", "filename": "hello.txt", "mime_type": "text/plain",
            ],
            "/v1/delivery/suppressions": ["email": "repeated@x.test"],
            "/v1/dmarc/reports": ["content": .string(DMARCSample(domain: "confidential.example").base64)],
            "/v1/agent/api-keys": ["name": "repeated", "scopes": ["read"]],
        ]
        return try #require(
            bodies[route.path],
            "The route \(route.method) \(route.path) takes an Idempotency-Key: give these tests a body for it."
        )
    }

    /// The route's path with these rows in it.
    func path(of route: Route) throws -> String {
        try route.path.split(separator: "/").map { part in
            guard part.hasPrefix("{") else { return "/\(part)" }
            let name = String(part.dropFirst().dropLast())
            return "/" + (try #require(values[name], "\(Self.unknown(name, route))"))
        }.joined()
    }

    private static func unknown(_ name: String, _ route: Route) -> String {
        """
        The route \(route.method) \(route.path) has the path parameter \(name), of which these tests know no example: \
        make one in Examples, so that the route is tested with a key of another organization.
        """
    }

    /// The rows in a query string and in a body, under every name that a route may read.
    var query: String {
        values.map { "\($0.key)=\($0.value)" }.sorted().joined(separator: "&")
            + "&sender=\(sender)&q=confidential&timeout=0"
    }
    private var sender: String { "confidential-sender@x.test" }
    var body: JSON {
        var body: JSON = [
            "to": "a@b.test", "subject": "s", "text": "t", "local_part": "mine", "name": "n", "tags": ["t"],
        ]
        for (name, value) in values { body[name] = .string(value) }
        // Not the row's: whoever asks may have it on a list of their own.
        body["email"] = "a@b.test"
        return body
    }
}

@Suite("Every route")
struct RouteTableTests {
    private var keyed: [Route] { routeTable.filter { $0.access != .open } }

    private func body(of route: Route, _ examples: Examples) throws -> [UInt8]? {
        [.get, .delete].contains(route.method) ? nil : try examples.body.bytes
    }

    @Test("without a key it is 401")
    func noKey() async throws {
        try await withPlatform { platform in
            let examples = try await Examples(platform)
            let before = try await platform.stored()
            for route in keyed {
                let reply = try await platform.call(
                    route.method,
                    examples.path(of: route),
                    key: nil,
                    raw: body(of: route, examples)
                )
                #expect(reply.status == 401, "\(route.method) \(route.path)")
                for secret in examples.secrets { #expect(!reply.text.contains(secret)) }
            }
            #expect(try await platform.stored() == before)
        }
    }

    @Test("a key that has every scope but its own is 403")
    func allScopesButOne() async throws {
        try await withPlatform { platform in
            let examples = try await Examples(platform)
            let before = try await platform.stored()
            for route in keyed {
                guard case .scope(let scope) = route.access else { continue }
                #expect(
                    APIKey.scopes.contains(scope),
                    "\(route.path) asks for \(scope), which no key can have"
                )
                // What grants the scope without being it.
                var granting: Set<String> = ["admin", scope]
                if scope.hasSuffix(":read") { granting.insert("read") }
                if scope.hasSuffix(":write") { granting.insert("write") }
                let key = try await platform.makeKey(APIKey.scopes.subtracting(granting).sorted())
                let reply = try await platform.call(
                    route.method,
                    examples.path(of: route),
                    key: key,
                    raw: body(of: route, examples)
                )
                #expect(reply.status == 403, "\(route.method) \(route.path)")
                #expect(reply.error.contains(scope))
            }
            #expect(try await platform.stored() == before)
        }
    }

    @Test("a key that has its scope alone is let in, and so is one with the wide scope")
    func ownScope() async throws {
        try await withPlatform { platform in
            let examples = try await Examples(platform)
            for route in keyed {
                guard case .scope(let scope) = route.access else { continue }
                var granting = [scope]
                if scope.hasSuffix(":read") { granting.append("read") }
                if scope.hasSuffix(":write") { granting.append("write") }
                for scope in granting {
                    let reply = try await platform.call(
                        route.method,
                        examples.path(of: route),
                        key: platform.makeKey([scope]),
                        raw: body(of: route, examples)
                    )
                    #expect(
                        ![401, 403].contains(reply.status),
                        "\(route.method) \(route.path) with \(scope)"
                    )
                    #expect(reply.status < 500, "\(route.method) \(route.path): \(reply.text)")
                }
            }
        }
    }

    @Test("another organization's key never sees its rows: 404 for a path, nothing in a list")
    func otherOrganization() async throws {
        try await withPlatform { platform in
            let examples = try await Examples(platform)
            let stranger = try await platform.stranger()
            for route in routeTable {
                let path = try examples.path(of: route)
                for asked in [path, "\(path)?\(examples.query)"] {
                    let before = try await platform.snapshot()
                    let reply = try await platform.call(
                        route.method,
                        asked,
                        key: stranger.key,
                        raw: body(of: route, examples)
                    )
                    if route.path.contains("{") {
                        #expect(reply.status == 404, "\(route.method) \(asked): \(reply.text)")
                    }
                    #expect(reply.status < 500, "\(route.method) \(asked): \(reply.text)")
                    for secret in examples.secrets {
                        #expect(!reply.text.contains(secret), "\(route.method) \(asked): \(reply.text)")
                    }
                    #expect(try await platform.snapshot() == before, "\(route.method) \(asked) changed rows")
                }
            }
        }
    }

    @Test("another organization's rows are not reached through a body either")
    func otherOrganizationInBody() async throws {
        try await withPlatform { platform in
            let examples = try await Examples(platform)
            let stranger = try await platform.stranger()
            let theirs = try await platform.makeInbox("theirs", org: stranger.org)
            let before = try await platform.snapshot()
            for route in keyed where ![.get, .delete].contains(route.method) {
                // With a sender of their own, so that only what is ours can be the reason.
                for body in [examples.body, examples.body.with("inbox_id", .string(theirs.id.description))] {
                    let reply = try await platform.call(
                        route.method,
                        examples.path(of: route),
                        key: stranger.key,
                        raw: body.bytes
                    )
                    for secret in examples.secrets { #expect(!reply.text.contains(secret)) }
                }
            }
            #expect(try await platform.snapshot() == before)
        }
    }

    @Test("a key limited to another inbox or domain sees nothing of it: 404 for a path, nothing in a list")
    func limitedKey() async throws {
        try await withPlatform { platform in
            let examples = try await Examples(platform)
            var ofInbox = NewKey(name: "limited", scopes: ["admin", "data:delete"])
            ofInbox.inboxes = [examples.other.id]
            var ofDomain = NewKey(name: "limited", scopes: ["admin", "data:delete"])
            ofDomain.domains = [examples.other.domain]
            for limited in [ofInbox, ofDomain] {
                let key = try await platform.store.createKey(org: platform.org, limited).key.secret
                let before = try await platform.snapshot()
                for route in keyed {
                    let path = try examples.path(of: route)
                    for asked in [path, "\(path)?\(examples.query)"] {
                        let reply = try await platform.call(
                            route.method,
                            asked,
                            key: key,
                            raw: body(of: route, examples)
                        )
                        if route.path.contains("{") {
                            #expect(reply.status == 404, "\(route.method) \(asked): \(reply.text)")
                        }
                        #expect(reply.status < 500, "\(route.method) \(asked): \(reply.text)")
                        for secret in examples.secrets {
                            #expect(!reply.text.contains(secret), "\(route.method) \(asked): \(reply.text)")
                        }
                    }
                }
                #expect(try await platform.snapshot() == before)
            }
        }
    }

    @Test(
        "one that takes an Idempotency-Key answers a repetition with the first answer, and another body with 409"
    )
    func repeatable() async throws {
        try await withPlatform { platform in
            let examples = try await Examples(platform)
            for route in routeTable where route.isRepeatable {
                #expect(route.access != .open, "\(route.path)")
                let path = try examples.path(of: route)
                let body = try examples.validBody(of: route)
                func call(_ body: JSON) async throws -> Reply {
                    try await platform.call(
                        route.method,
                        path,
                        key: platform.key,
                        raw: body.bytes,
                        headers: [.idempotencyKey: "walked"]
                    )
                }
                let first = try await call(body)
                #expect((200..<300).contains(first.status), "\(path): \(first.text)")
                #expect(first.header("Idempotency-Replayed") == nil)
                let before = try await platform.snapshot()
                let second = try await call(body)
                #expect(second.status == first.status)
                #expect(second.text == first.text)
                #expect(second.header("Idempotency-Replayed") == "true")
                let other = try await call(body.with("x-other", 1))
                #expect(other.status == 409, "\(other.text)")
                #expect(try await platform.snapshot() == before)
            }
        }
    }

    @Test("a POST that makes something takes an Idempotency-Key")
    func creates() {
        for route in routeTable where route.isRepeatable { #expect(route.method == .post) }
        #expect(routeTable.filter(\.sends).map(\.path) == ["/v1/messages/send"])
        for route in routeTable where route.sends { #expect(route.isRepeatable) }
    }

    @Test("it is listed once, under /v1 unless it is open, and asks for a scope that keys can have")
    func table() {
        let names = routeTable.map { "\($0.method) \($0.path)" }
        #expect(Set(names).count == names.count)
        for route in keyed { #expect(route.path.hasPrefix("/v1/"), "\(route.path)") }
        #expect(
            routeTable.filter { $0.access == .open }.map(\.path) == [
                "/healthz", "/readyz", "/openapi.json", "/docs", "/unsubscribe", "/unsubscribe",
                "/v1/attachments/{attachment_id}/download",
            ]
        )
        for route in routeTable { #expect(route.bodyMax <= 40 << 20) }
    }
}

extension APIPlatform {
    /// The organization's own rows as text, to see whether a stranger changed any.
    fileprivate func snapshot() async throws -> [String] {
        let tables = [
            "inboxes", "threads", "messages", "message_bodies", "recipients", "jobs", "domains",
            "domain_keys", "attachments", "blobs", "api_keys", "thread_metadata", "suppressions",
            "message_search", "delivery_events",
        ]
        return try await database.batch(
            .tenant(org),
            tables.map {
                // When a key was last used is not a change that anybody asked for.
                """
                SELECT coalesce(string_agg((to_jsonb(t) - 'last_used_at')::text, '|' ORDER BY t::text), '') AS rows
                FROM \(raw: $0) t
                """
            }
        ).map { try only($0)("rows") }
    }
}
