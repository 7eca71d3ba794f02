// API keys over HTTP: made, listed, revoked, limited, and remembered no longer than they may be.

import DNS
import Database
import Foundation
import HTTPTypes
import Logging
import NIOCore
import Platform
import Redis
import TestSupport
import Testing

@testable import API
@testable import Store

@Suite("API keys")
struct KeyRouteTests {
    @Test("a key that is made works, is listed without its secret, and stops when it is revoked")
    func life() async throws {
        try await withPlatform { platform in
            let made = try await platform.post(
                "/v1/agent/api-keys",
                ["name": "mailer", "scopes": ["inboxes:read"], "expires_at": "2099-01-01T00:00:00Z"]
            )
            #expect(made.status == 201, "\(made.text)")
            let data = made.body["data"]
            let secret = try #require(data["key"].string)
            let id = try #require(data["id"].string)
            #expect(data["keyPrefix"].string == String(secret.prefix(12)))
            #expect(data["expiresAt"] == "2099-01-01T00:00:00.000Z")
            #expect(try await platform.get("/v1/inboxes", key: secret).status == 200)
            #expect(try await platform.get("/v1/threads", key: secret).status == 403)

            let list = try await platform.get("/v1/agent/api-keys")
            #expect(list.body["data"].elements.map { $0["name"] } == ["mailer", "test"])
            #expect(!list.text.contains(secret))
            #expect(list.body["data"][0]["lastUsedAt"].string != nil)
            #expect(list.body["has_more"] == false)

            let revoked = try await platform.call(
                .delete,
                "/v1/agent/api-keys/\(id)",
                key: platform.key,
                raw: nil
            )
            #expect(revoked.status == 200)
            #expect(revoked.body["data"]["status"] == "revoked")
            let refused = try await platform.get("/v1/inboxes", key: secret)
            #expect(refused.status == 401)
            #expect(refused.error == "Invalid or expired API key")
        }
    }

    @Test(
        "what makes no key says why",
        arguments: [
            (#"{"scopes": ["read"]}"#, 400, "name"),
            (#"{"name": "", "scopes": ["read"]}"#, 400, "name"),
            (#"{"name": "x"}"#, 400, "scopes"),
            (#"{"name": "x", "scopes": []}"#, 400, "scope"),
            (#"{"name": "x", "scopes": ["everything"]}"#, 400, "everything"),
            (#"{"name": "x", "scopes": ["read", "read"]}"#, 400, "scopes"),
            (#"{"name": "x", "scopes": ["read"], "expires_at": "soon"}"#, 400, "expires_at"),
            (#"{"name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}"#, 400, "expires_at"),
            (#"{"name": "x", "scopes": ["read"], "inbox_ids": []}"#, 400, "inbox_ids"),
            (#"{"name": "x", "scopes": ["read"], "inbox_ids": ["x"]}"#, 400, "inbox_ids[0]"),
            (
                #"{"name": "x", "scopes": ["read"], "inbox_ids": ["01980a6e-0000-7000-8000-000000000000"]}"#,
                404, "Inbox"
            ),
        ]
    )
    func bad(_ body: String, _ status: Int, _ word: String) async throws {
        try await withPlatform { platform in
            let reply = try await platform.call(
                .post,
                "/v1/agent/api-keys",
                key: platform.key,
                raw: Array(body.utf8)
            )
            #expect(reply.status == status, "\(reply.text)")
            #expect(reply.error.contains(word), "\(reply.error)")
            #expect(try await platform.store.keys(org: platform.org, limit: 10).elements.count == 1)
        }
    }

    @Test("any key may ask for its organization, as the published command line reads it")
    func organization() async throws {
        try await withPlatform { platform in
            let key = try await platform.makeKey(["data:delete"])
            let reply = try await platform.get("/v1/agent/org", key: key)
            #expect(reply.status == 200)
            #expect(reply.body["name"] == "Acme")
            #expect(reply.body["id"].string == platform.org.description)
            #expect(reply.body["data"]["name"] == "Acme")
        }
    }

    @Test("a key of one inbox works within it and nowhere else")
    func limited() async throws {
        try await withPlatform { platform in
            let mine = try await platform.makeInbox("mine")
            let other = try await platform.makeInbox("other")
            let thread = try await platform.receive("<mine@x>", in: mine)
            let elsewhere = try await platform.receive("<other@x>", in: other)
            let made = try await platform.post(
                "/v1/agent/api-keys",
                ["name": "agent", "scopes": ["admin"], "inbox_ids": [.string(mine.id.description)]]
            )
            let key = try #require(made.body["data"]["key"].string)

            let inboxes = try await platform.get("/v1/inboxes", key: key)
            #expect(inboxes.body["data"].elements.compactMap { $0["localPart"].string } == ["mine"])
            let domain = mine.domain
            for list in ["threads", "messages"] {
                let reply = try await platform.get("/v1/\(list)?domain_id=\(domain)", key: key)
                #expect(reply.body["data"].elements.map { $0["thread_id"].string } == [thread])
            }
            let outside = try await platform.get("/v1/threads/\(elsewhere)/messages", key: key)
            #expect(outside.status == 404)

            func send(_ members: [String: JSON]) async throws -> Int {
                var body: JSON = ["to": "a@b.test", "subject": "s", "text": "t"]
                for (name, value) in members { body[name] = value }
                return try await platform.post("/v1/messages/send", body, key: key).status
            }
            let sender = JSON.string(mine.id.description)
            #expect(try await send(["inboxId": sender]) == 200)
            #expect(try await send(["inboxId": sender, "thread_id": .string(thread)]) == 200)
            let before = try await platform.stored()
            #expect(try await send(["inboxId": sender, "thread_id": .string(elsewhere)]) == 404)
            #expect(try await send(["inboxId": .string(other.id.description)]) == 404)
            #expect(try await send(["from": .string(other.address)]) == 403)
            let inbox = try await platform.post("/v1/inboxes", ["local_part": "third"], key: key)
            #expect(inbox.status == 403, "\(inbox.text)")
            #expect(inbox.error.contains("limited"))

            // Nor by way of a key that it makes.
            let wider = try await platform.post(
                "/v1/agent/api-keys",
                ["name": "w", "scopes": ["read"], "inbox_ids": [.string(other.id.description)]],
                key: key
            )
            #expect(wider.status == 403, "\(wider.text)")
            let child = try await platform.post(
                "/v1/agent/api-keys",
                ["name": "child", "scopes": ["read"]],
                key: key
            )
            #expect(child.body["data"]["inbox_ids"] == [sender])
            let keys = try await platform.get("/v1/agent/api-keys", key: key)
            #expect(keys.body["data"].elements.map { $0["name"] } == ["child", "agent"])
            #expect(try await platform.stored() == before)
        }
    }

    @Test(
        "different wrong keys from one address end in 429; a key that was right goes on, and a new one later"
    )
    func wrongKeys() async throws {
        try await withPlatform { platform in
            let late = try await platform.makeKey(["read"])
            #expect(try await platform.get("/v1/inboxes").status == 200)
            func wrong(_ number: Int) async throws -> Reply {
                let digits = String(number, radix: 16)
                let key = "comm_" + String(repeating: "0", count: 64 - digits.count) + digits
                return try await platform.get("/v1/inboxes", key: key)
            }
            // The same wrong key again costs nothing.
            for _ in 0..<150 { #expect(try await wrong(0).status == 401) }
            var statuses: [Int] = []
            for number in 1...400 where statuses.last != 429 {
                statuses.append(try await wrong(number).status)
            }
            #expect(statuses.last == 429)
            #expect(statuses.count >= WrongKeys.burst)
            let refused = try await platform.get("/v1/inboxes", key: late)
            if refused.status == 429 { #expect(refused.header("Retry-After").flatMap(Int.init) == 1) }
            #expect(try await platform.get("/v1/inboxes").status == 200)
            #expect(try await platform.get("/v1/inboxes", key: nil).status == 401)
            #expect(try await platform.get("/v1/inboxes", key: "nonsense").status == 401)
        }
    }

    @Test("an IPv6 client's addresses count as one, and others do not")
    func addresses() throws {
        func name(_ text: String) throws -> String {
            let address = try #require(IPAddress(text))
            return WrongKeys.name(of: address)
        }
        #expect(try name("2001:db8:1:2::1") == name("2001:db8:1:2:ffff::9"))
        #expect(try name("2001:db8:1:2::1") != name("2001:db8:1:3::1"))
        #expect(try name("192.0.2.1") != name("192.0.2.2"))
    }
}

@Suite("Keys that are remembered")
struct KnownKeysTests {
    private func caller(_ key: KeyID = KeyID(), expiresAt: Timestamp? = nil) -> Caller {
        Caller(
            org: OrgID(),
            key: key,
            keyName: "x",
            scopes: [],
            inboxes: [],
            domains: [],
            expiresAt: expiresAt
        )
    }

    private func isGood(_ keys: KnownKeys, _ hash: [UInt8], at now: ContinuousClock.Instant = .now) -> Bool {
        if case .good = keys.look(hash, at: now).verdict { true } else { false }
    }

    @Test("only while changes are heard of, for five seconds at most, and not past the key's end")
    func bounds() {
        let keys = KnownKeys()
        let hash: [UInt8] = [1]
        let now = ContinuousClock.now
        keys.remember(caller(), hash, lookedAt: keys.look(hash).generation, at: now)
        #expect(!isGood(keys, hash, at: now))
        keys.listening(true)
        keys.remember(caller(), hash, lookedAt: keys.look(hash).generation, at: now)
        #expect(isGood(keys, hash, at: now + .milliseconds(4_999)))
        #expect(!isGood(keys, hash, at: now + .seconds(5)))
        keys.remember(
            caller(expiresAt: .now + .seconds(-1)),
            hash,
            lookedAt: keys.look(hash).generation,
            at: now
        )
        #expect(!isGood(keys, hash, at: now))
    }

    @Test("a change is forgotten at once, and what was looked up before it is not remembered after it")
    func changes() {
        let keys = KnownKeys()
        keys.listening(true)
        let (one, two) = (KeyID(), KeyID())
        for (key, hash) in [(one, [1] as [UInt8]), (two, [2])] {
            keys.remember(caller(key), hash, lookedAt: keys.look(hash).generation)
        }
        let before = keys.look([1]).generation
        keys.forget(one)
        #expect(!isGood(keys, [1]))
        #expect(isGood(keys, [2]))
        keys.remember(caller(one), [1], lookedAt: before)
        #expect(!isGood(keys, [1]))
        keys.listening(false)
        #expect(!isGood(keys, [2]))
    }

    @Test("are a bounded number")
    func bounded() {
        let keys = KnownKeys(keysMax: 100)
        keys.listening(true)
        let hashes = (0..<1_000).map { [UInt8]("\($0)".utf8) }
        for hash in hashes {
            keys.remember(caller(), hash, lookedAt: keys.look(hash).generation)
            keys.rememberWrong(hash + [0])
        }
        #expect(hashes.filter { isGood(keys, $0) }.count <= 100)
        #expect(isGood(keys, hashes[999]))
    }

    @Test(
        "two copies of the API: a key revoked at one is 401 at the other before the time is over for which it is remembered"
    )
    func copies() async throws {
        let redis = try await RedisServer.sharedURL()
        try await withPlatform(settings: ["REDIS_URL": redis]) { one in
            let url = try await one.database.query(.owner, "SELECT current_database() AS name")
            let name: String = try only(url)("name")
            let server = try PostgresServer.url()
            var components = try #require(URLComponents(string: server))
            components.path = "/\(name)"
            let address = try #require(components.string)
            try await withAPI(settings: ["DATABASE_URL": address, "REDIS_URL": redis]) { client, backend in
                let two = APIPlatform(
                    client: client,
                    store: backend.store,
                    database: one.database,
                    org: one.org,
                    key: one.key
                )
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await KeyChanges(keys: backend.keys, redis: backend.redis).run()
                    }
                    let made = try await one.store.createKey(org: one.org, name: "x", scopes: ["read"])
                    let hash = APIKey.hash(made.secret)
                    while true {
                        #expect(try await two.get("/v1/inboxes", key: made.secret).status == 200)
                        if case .good = backend.keys.look(hash).verdict { break }
                        try await Task.sleep(for: .milliseconds(10))  // until the subscription stands
                    }
                    let reply = try await one.call(
                        .delete,
                        "/v1/agent/api-keys/\(made.id)",
                        key: one.key,
                        raw: nil
                    )
                    #expect(reply.status == 200)
                    let revoked = ContinuousClock.now
                    while try await two.get("/v1/inboxes", key: made.secret).status != 401 {
                        try #require(revoked.duration(to: .now) < .seconds(KnownKeys.secondsMax - 1))
                        try await Task.sleep(for: .milliseconds(5))
                    }
                    group.cancelAll()
                }
            }
        }
    }
}
