// Waiting for events: in order, each once, and never past what has not been committed.
//
// Tests beside these have transactions open on the same server, which hold events back for a moment: what is told is told
// soon, but only Tests/interop/test_waiting.py can say how soon.

import Database
import Foundation
import Platform
import Store
import Testing

@testable import API

@Suite("Waiting for events")
struct EventWaitTests {
    private func wait(
        _ platform: APIPlatform,
        _ cursor: String? = nil,
        timeout: Int = 0,
        _ more: String = ""
    ) async throws -> (types: [String], cursor: String, reply: Reply) {
        let reply = try await platform.get(
            "/v1/events/wait?timeout=\(timeout)\(more)" + (cursor.map { "&cursor=\($0)" } ?? "")
        )
        try #require(reply.status == 200, "\(reply.text)")
        return (
            reply.body["data"].elements.compactMap { $0["type"].string },
            try #require(reply.body["next_cursor"].string), reply
        )
    }

    /// Until no transaction of another test, which began before them, holds back the events that are there.
    private func waitUntilTold(_ platform: APIPlatform) async throws {
        let end = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < end {
            let held = try await platform.database.query(
                .owner,
                "SELECT FROM delivery_events WHERE xid >= pg_snapshot_xmin(pg_current_snapshot()) LIMIT 1"
            )
            if held.isEmpty { return }
            // PostgreSQL has no signal for it.
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("a transaction was open all the time")
    }

    @Test("without a cursor it begins now; with nothing behind it the same cursor comes back")
    func nothing() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            try await platform.receive("<before@x>", in: inbox)
            try await waitUntilTold(platform)
            let first = try await wait(platform)
            #expect(first.types.isEmpty)
            let again = try await wait(platform, first.cursor, timeout: 1)
            #expect(again.types.isEmpty)
            #expect(again.cursor == first.cursor)
            #expect(again.reply.body["has_more"] == false)
        }
    }

    @Test("one who waits hears of a mail")
    func wakes() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let start = try await wait(platform).cursor
            async let heard = wait(platform, start, timeout: 30)
            let thread = try await platform.receive("<1@x>", in: inbox, from: "anna@x.test", subject: "Hello")
            let answer = try await heard
            #expect(answer.types == ["email.received"])
            let event = answer.reply.body["data"][0]
            #expect(event["data"]["thread_id"].string == thread)
            #expect(event["data"]["sender"] == "anna@x.test")
            #expect(event["data"]["subject"] == "Hello")
            #expect(event["data"]["inbox_id"].string == inbox.id.description)
        }
    }

    @Test("every event is told once, in order, page by page, by type and by inbox")
    func pages() async throws {
        try await withPlatform { platform in
            let (one, two) = (try await platform.makeInbox("one"), try await platform.makeInbox("two"))
            let start = try await wait(platform).cursor
            let message = MessageID()
            for _ in 0..<230 { try await platform.happen("email.delivered", to: "a@x.test", message, one) }
            try await platform.happen("email.bounced", to: "b@x.test", message, two)
            var (cursor, ids) = (start, [String]())
            while ids.count < 231 {
                let page = try await wait(platform, cursor, timeout: 20)
                if page.types.isEmpty { break }
                #expect(page.types.count <= 100)
                ids += page.reply.body["data"].elements.compactMap { $0["id"].string }
                cursor = page.cursor
            }
            #expect(ids.count == 231)
            #expect(Set(ids).count == 231)
            #expect(ids == ids.sorted(), "one after the other, so the ids are in order")
            #expect(try await wait(platform, start, "&type=bounced").types == ["email.bounced"])
            #expect(try await wait(platform, start, "&inbox_id=\(two.id)").types == ["email.bounced"])
            #expect(try await wait(platform, start, "&inbox_id=\(two.id)&type=email.sent").types.isEmpty)
        }
    }

    @Test("an event of a transaction that is still open holds back those behind it, and then none is missing")
    func uncommitted() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let start = try await wait(platform).cursor
            let (org, late) = (platform.org, EventID())
            let passed = try await platform.database.transaction(.worker) { transaction in
                try await transaction.query(
                    """
                    INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type)
                    VALUES (\(org), \(late), \(MessageID()), \(inbox.id), \(inbox.domain), 'email.bounced')
                    """
                )
                // Committed later than it began, and before it.
                try await platform.receive("<1@x>", in: inbox)
                return try await wait(platform, start, timeout: 1)
            }
            #expect(passed.types.isEmpty)
            let after = try await wait(platform, passed.cursor, timeout: 10)
            #expect(after.types == ["email.bounced", "email.received"])
            #expect(after.reply.body["data"][0]["id"].string == late.description)
        }
    }

    @Test("while many write at once, one who follows hears each event exactly once")
    func concurrent() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let start = try await wait(platform).cursor
            let count = 400
            let heard = try await withThrowingTaskGroup(of: [String].self) { group in
                for writer in 0..<4 {
                    group.addTask {
                        for _ in 0..<count / 4 {
                            try await platform.happen(
                                "email.delivered",
                                to: "\(writer)@x.test",
                                MessageID(),
                                inbox
                            )
                        }
                        return []
                    }
                }
                group.addTask {
                    var (cursor, ids) = (start, [String]())
                    while ids.count < count {
                        let page = try await self.wait(platform, cursor, timeout: 10)
                        if page.types.isEmpty { break }
                        ids += page.reply.body["data"].elements.compactMap { $0["id"].string }
                        cursor = page.cursor
                    }
                    return ids
                }
                return try await group.reduce(into: [String]()) { $0 += $1 }
            }
            #expect(heard.count == count)
            #expect(Set(heard).count == count)
        }
    }

    @Test("another organization's events wake nobody and are not told")
    func tenants() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let stranger = try await platform.stranger()
            async let waiting = platform.get("/v1/events/wait?timeout=2", key: stranger.key)
            try await platform.receive("<1@x>", in: inbox)
            let theirs = try await waiting
            #expect(theirs.body["data"] == .array([]))
            // A cursor is a place in time, good for its own organization's events alone.
            let ours = try await wait(platform).cursor
            let asked = try await platform.get("/v1/events/wait?timeout=0&cursor=\(ours)", key: stranger.key)
            #expect(asked.body["data"] == .array([]))
        }
    }

    @Test("the eleventh request of a key that waits is refused, and the ten go on")
    func bounded() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let start = try await wait(platform).cursor
            try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<11 {
                    group.addTask {
                        try await platform.get("/v1/events/wait?timeout=30&cursor=\(start)").status
                    }
                }
                // Ten wait for as long as nothing happens, so the first to answer is the one too many.
                let first = try await group.next()
                #expect(first == 429)
                try await platform.receive("<1@x>", in: inbox)
                for _ in 0..<10 {
                    let status = try await group.next()
                    #expect(status == 200)
                }
            }
            #expect(try await wait(platform, start).types == ["email.received"])
        }
    }

    @Test(
        "what is not valid is 400",
        arguments: ["timeout=61", "timeout=-1", "timeout=x", "cursor=x", "type=opened", "inbox_id=x"]
    )
    func refused(_ query: String) async throws {
        try await withPlatform { platform in
            let reply = try await platform.get("/v1/events/wait?\(query)")
            #expect(reply.status == 400)
        }
    }
}
