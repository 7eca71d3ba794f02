// Idempotency-Key: a request that is repeated is done once.

import Database
import Foundation
import HTTPTypes
import Platform
import Store
import TestSupport
import Testing

@testable import API

@Suite("Idempotency-Key")
struct IdempotencyTests {
    private func body(_ inbox: InboxID, subject: String = "Hello") -> JSON {
        ["to": "a@b.test", "subject": .string(subject), "text": "t", "inboxId": .string(inbox.description)]
    }

    private func send(
        _ platform: APIPlatform,
        _ body: JSON,
        _ idempotencyKey: String = "k",
        key: String? = nil
    ) async throws -> Reply {
        try await platform.call(
            .post,
            "/v1/messages/send",
            key: key ?? platform.key,
            raw: body.bytes,
            headers: [.idempotencyKey: idempotencyKey]
        )
    }

    @Test(
        "100 sends at once with one key are one message; another body is 409; a later one is the same answer"
    )
    func concurrent() async throws {
        // A hundred requests over three connections, on a machine that has other things to do.
        try await withPlatform(settings: ["COMMUNE_DB_ACQUIRE_TIMEOUT": "60"]) { platform in
            let inbox = try await platform.makeInbox("sender")
            let body = body(inbox.id)
            let replies = try await withThrowingTaskGroup(of: Reply.self) { group in
                for _ in 0..<100 { group.addTask { try await send(platform, body) } }
                return try await group.reduce(into: [Reply]()) { $0.append($1) }
            }
            #expect(Set(replies.map(\.status)).isSubset(of: [200, 409]))
            let done = replies.filter { $0.status == 200 }
            #expect(Set(done.map(\.text)).count == 1)
            #expect(done.filter { $0.header("Idempotency-Replayed") == nil }.count == 1)
            for reply in replies where reply.status == 409 { #expect(reply.header("Retry-After") == "1") }
            let stored = try await platform.stored()
            #expect(stored["messages"] == 1)
            #expect(stored["jobs"] == 1)

            let later = try await send(platform, body)
            #expect(later.text == done.first?.text)
            #expect(later.header("Idempotency-Replayed") == "true")
            let other = try await send(platform, self.body(inbox.id, subject: "Other"))
            #expect(other.status == 409)
            #expect(other.header("Retry-After") == nil)
            #expect(try await platform.stored() == stored)
        }
    }

    @Test("a request without it is done each time, and keeps nothing")
    func without() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            for _ in 0..<2 { #expect(try await platform.send(body(inbox.id)).status == 200) }
            #expect(try await platform.stored()["messages"] == 2)
            let kept = try await platform.database.query(.worker, "SELECT FROM idempotency_keys")
            #expect(kept.isEmpty)
        }
    }

    @Test(
        "a key must be 1 to 255 visible ASCII characters",
        arguments: ["", " ", "a b", "ä", "tab\there", String(repeating: "k", count: 256)]
    )
    func malformed(_ key: String) async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let before = try await platform.stored()
            let reply = try await send(platform, body(inbox.id), key)
            #expect(reply.status == 400, "\(reply.text)")
            #expect(reply.error.contains("Idempotency-Key"))
            #expect(try await platform.stored() == before)
            let longest = try await send(platform, body(inbox.id), String(repeating: "k", count: 255))
            #expect(longest.status == 200)
        }
    }

    @Test("an error is not kept: the request may be mended and repeated")
    func errors() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            #expect(try await send(platform, body(inbox.id).without("to")).status == 400)
            #expect(try await send(platform, body(InboxID())).status == 404)
            let done = try await send(platform, body(inbox.id))
            #expect(done.status == 200)
            #expect(done.header("Idempotency-Replayed") == nil)

            // A refusal of the database inside the transaction, and then another name.
            func create(_ name: String) async throws -> Reply {
                try await platform.call(
                    .post,
                    "/v1/inboxes",
                    key: platform.key,
                    raw: (["local_part": .string(name)] as JSON).bytes,
                    headers: [.idempotencyKey: "k"]
                )
            }
            let taken = try await create("sender")
            #expect(taken.status == 409)
            #expect(taken.error.contains("taken"))
            #expect(try await create("free").status == 201)
        }
    }

    @Test("it is one of its organization and its route")
    func scope() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let stranger = try await platform.stranger()
            let theirs = try await platform.makeInbox("theirs", org: stranger.org)
            let ours = try await send(platform, body(inbox.id))
            let other = try await send(platform, body(theirs.id), key: stranger.key)
            #expect(other.status == 200)
            #expect(other.header("Idempotency-Replayed") == nil)
            #expect(other.body["data"]["id"] != ours.body["data"]["id"])
            let route = try await platform.call(
                .post,
                "/v1/inboxes",
                key: platform.key,
                raw: (["local_part": "other"] as JSON).bytes,
                headers: [.idempotencyKey: "k"]
            )
            #expect(route.status == 201)
            // Another key of the organization may repeat, unless it is limited.
            let second = try await platform.makeKey(["write"])
            #expect(try await send(platform, body(inbox.id), key: second).text == ours.text)
            var limited = NewKey(name: "limited", scopes: ["write"])
            limited.inboxes = [inbox.id]
            let key = try await platform.store.createKey(org: platform.org, limited).key.secret
            let refused = try await send(platform, body(inbox.id), key: key)
            #expect(refused.status == 409)
            #expect(refused.error.contains("another API key"))
            let own = try await send(platform, body(inbox.id), "own", key: key)
            #expect(own.status == 200)
            #expect(try await send(platform, body(inbox.id), "own", key: key).text == own.text)
        }
    }

    @Test("a repetition gets its answer also when what it needed is gone meanwhile")
    func gone() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let first = try await send(platform, body(inbox.id))
            try await platform.database.query(.worker, "UPDATE inboxes SET deleted_at = now()")
            #expect(try await send(platform, body(inbox.id)).text == first.text)
            #expect(try await send(platform, body(inbox.id), "new").status == 404)
        }
    }

    @Test("after 24 hours it is forgotten, whether or not a chore has been by")
    func expired() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            #expect(try await send(platform, body(inbox.id)).status == 200)
            func age(_ hours: Int) async throws {
                try await platform.database.query(
                    .worker,
                    "UPDATE idempotency_keys SET created_at = now() - \(hours) * interval '1 hour'"
                )
            }
            try await age(23)
            try await platform.database.query(.worker, Store.purgeIdempotentAnswers(limit: 10))
            #expect(try await send(platform, body(inbox.id)).header("Idempotency-Replayed") == "true")
            try await age(24)
            let again = try await send(platform, body(inbox.id, subject: "New"))
            #expect(again.status == 200)
            #expect(again.header("Idempotency-Replayed") == nil)
            #expect(try await platform.stored()["messages"] == 2)
            try await age(24)
            let purged = try await platform.database.query(
                .worker,
                Store.purgeIdempotentAnswers(limit: 10)
            )
            #expect(purged.affected == 1)
        }
    }

    @Test("when the answer cannot be kept the work is undone")
    func notKept() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let before = try await platform.stored()
            try await platform.database.query(
                .owner,
                "ALTER TABLE idempotency_keys ADD CONSTRAINT never CHECK (false)"
            )
            #expect(try await send(platform, body(inbox.id)).status == 500)
            #expect(try await platform.stored() == before)
        }
    }

    /// Runs `body` while a send with a key stands in the middle of its transaction.
    private func withSendUnderWay(
        _ platform: APIPlatform,
        _ body: JSON,
        _ meanwhile: @Sendable @escaping (_ backend: Int) async throws -> Void
    ) async throws -> Reply {
        let database = platform.database
        return try await withThrowingTaskGroup(of: Reply?.self) { group in
            try await database.transaction(.worker) { transaction in
                // A row of this table is the last thing a send writes before its jobs.
                try await transaction.query("LOCK TABLE recipients IN ACCESS EXCLUSIVE MODE")
                group.addTask { try await send(platform, body) }
                let waiting: Statement = """
                    SELECT a.pid FROM pg_locks w JOIN pg_stat_activity a ON a.pid = w.pid
                    WHERE NOT w.granted AND w.relation = 'recipients'::regclass AND a.datname = current_database()
                    """
                let end = ContinuousClock.now + .seconds(20)
                var rows = try await database.query(.worker, waiting)
                while rows.isEmpty, .now < end {
                    // PostgreSQL has no signal for a waiting lock.
                    try await Task.sleep(for: .milliseconds(5))
                    rows = try await database.query(.worker, waiting)
                }
                try await meanwhile(try only(rows)("pid"))
            }
            for try await reply in group { if let reply { return reply } }
            throw CancellationError()
        }
    }

    @Test("a repetition while the first is under way is 409 with Retry-After: 1, at once")
    func inFlight() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let body = body(inbox.id)
            let first = try await withSendUnderWay(platform, body) { _ in
                let second = try await send(platform, body)
                #expect(second.status == 409, "\(second.text)")
                #expect(second.header("Retry-After") == "1")
            }
            #expect(first.status == 200)
            #expect(try await send(platform, body).text == first.text)
            #expect(try await platform.stored()["messages"] == 1)
        }
    }

    @Test("cut off in the middle nothing is left of it, and the repetition is done")
    func cutOff() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let body = body(inbox.id)
            let before = try await platform.stored()
            let first = try await withSendUnderWay(platform, body) { backend in
                try await platform.database.query(.owner, "SELECT pg_terminate_backend(\(backend)::integer)")
            }
            #expect(first.status == 503, "\(first.text)")
            #expect(try await platform.stored() == before)
            let second = try await send(platform, body)
            #expect(second.status == 200)
            #expect(second.header("Idempotency-Replayed") == nil)
            #expect(try await platform.stored()["messages"] == 1)
        }
    }

    @Test("a kept answer is sealed: a key that is shown once is not in the database")
    func sealed() async throws {
        try await withPlatform { platform in
            func create() async throws -> Reply {
                try await platform.call(
                    .post,
                    "/v1/agent/api-keys",
                    key: platform.key,
                    raw: (["name": "once", "scopes": ["read"]] as JSON).bytes,
                    headers: [.idempotencyKey: "k"]
                )
            }
            let first = try await create()
            let secret = try #require(first.body["data"]["key"].string)
            #expect(try await create().body["data"]["key"].string == secret)
            let rows = try await platform.database.query(.worker, "SELECT answer FROM idempotency_keys")
            let answer: [UInt8] = try only(rows)("answer")
            #expect(answer.count > secret.utf8.count)
            #expect(!String(decoding: answer, as: UTF8.self).contains(secret.suffix(32)))
        }
    }
}
