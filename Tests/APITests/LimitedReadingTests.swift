// What a key that is limited to one inbox reads of an organization that has another: its own, whole, and nothing else.

import Database
import Foundation
import HTTPTypes
import Platform
import Store
import Testing

@testable import API

@Suite("Reading with a limited key")
struct LimitedReadingTests {
    /// An organization with two inboxes, and keys limited to the first and to the domain of both.
    private struct Scene {
        let one: Inbox
        let two: Inbox
        let ofInbox: String
        let ofDomain: String

        init(_ platform: APIPlatform) async throws {
            one = try await platform.makeInbox("one")
            two = try await platform.makeInbox("two")
            var key = NewKey(name: "limited", scopes: ["read", "write"])
            key.inboxes = [one.id]
            ofInbox = try await platform.store.createKey(org: platform.org, key).key.secret
            key = NewKey(name: "limited", scopes: ["read", "write"])
            key.domains = [one.domain]
            ofDomain = try await platform.store.createKey(org: platform.org, key).key.secret
        }
    }

    @Test("search finds what is its own, though others have newer and more matches")
    func search() async throws {
        try await withPlatform { platform in
            let scene = try await Scene(platform)
            for (count, inbox) in [(3_000, scene.one), (1_500, scene.two)] {
                try await platform.database.batch(
                    .tenant(platform.org),
                    SearchTests.old(count, in: inbox, platform.org)
                )
            }
            try await platform.receive("<new@x>", in: scene.two, subject: "new", text: "every1000")
            func found(_ query: String, key: String) async throws -> [String] {
                let reply = try await platform.get("/v1/search/threads?q=\(query)", key: key)
                #expect(reply.status == 200)
                return reply.body["data"].elements.compactMap { $0["subject"].string }
            }
            #expect(try await found("every1000", key: scene.ofInbox) == ["2000", "1000", "0"])
            #expect(try await found("every1000&inbox_id=\(scene.two.id)", key: scene.ofInbox).isEmpty)
            let both = try await found("every1000", key: scene.ofDomain)
            #expect(both.first == "new")
            #expect(both.sorted() == ["0", "0", "1000", "1000", "2000", "new"])
            #expect(try await found("number1499", key: scene.ofInbox) == ["1499"])
        }
    }

    @Test("metrics add up its inboxes, before and after they are counted by the hour")
    func metrics() async throws {
        try await withPlatform { platform in
            let scene = try await Scene(platform)
            let message = MessageID()
            for (inbox, count) in [(scene.one, 2), (scene.two, 3)] {
                for number in 0..<count {
                    try await platform.happen("email.delivered", to: "\(number)@x.test", message, inbox)
                }
            }
            func delivered(_ query: String, key: String) async throws -> JSON {
                try await platform.get("/v1/delivery/metrics?period=24h\(query)", key: key)
                    .body["data"]["delivered"]
            }
            for _ in 0..<2 {
                #expect(try await delivered("", key: scene.ofInbox) == 2)
                #expect(try await delivered("&domain_id=\(scene.one.domain)", key: scene.ofInbox) == 2)
                #expect(try await delivered("&inbox_id=\(scene.one.id)", key: scene.ofInbox) == 2)
                #expect(try await delivered("&inbox_id=\(scene.two.id)", key: scene.ofInbox) == 0)
                #expect(try await delivered("", key: scene.ofDomain) == 5)
                #expect(try await delivered("", key: platform.key) == 5)
                while try await !platform.store.countEvents() {}
            }
        }
    }

    @Test("events are those of its inboxes, in the list and while it waits")
    func events() async throws {
        try await withPlatform { platform in
            let scene = try await Scene(platform)
            func wait(_ query: String) async throws -> JSON {
                let reply = try await platform.get("/v1/events/wait?\(query)", key: scene.ofInbox)
                #expect(reply.status == 200, "\(reply.text)")
                return reply.body
            }
            let start = try #require(try await wait("timeout=0")["next_cursor"].string)
            let message = MessageID()
            try await platform.happen("email.bounced", to: "theirs@x.test", message, scene.two)
            try await platform.happen("email.delivered", to: "mine@x.test", message, scene.one)
            try await platform.happen("email.bounced", to: "theirs@x.test", message, scene.two)
            let heard = try await wait("timeout=30&cursor=\(start)")
            #expect(heard["data"].elements.compactMap { $0["data"]["recipient"].string } == ["mine@x.test"])
            let listed = try await platform.get("/v1/delivery/events", key: scene.ofInbox)
            #expect(listed.body["data"].elements.compactMap { $0["recipient"].string } == ["mine@x.test"])
        }
    }

    @Test("it sorts its own threads and no others, and suppresses nobody for the whole organization")
    func triage() async throws {
        try await withPlatform { platform in
            let scene = try await Scene(platform)
            let mine = try await platform.receive("<1@x>", in: scene.one)
            let theirs = try await platform.receive("<2@x>", in: scene.two)
            for (thread, status) in [(mine, 200), (theirs, 404)] {
                let reply = try await platform.call(
                    .put,
                    "/v1/threads/\(thread)/status",
                    key: scene.ofInbox,
                    raw: (["status": "closed"] as JSON).bytes
                )
                #expect(reply.status == status)
                #expect(try await platform.get("/v1/threads/\(thread)", key: scene.ofInbox).status == status)
            }
            #expect(try await platform.get("/v1/threads/\(mine)").body["data"]["status"] == "closed")
            #expect(try await platform.get("/v1/threads/\(theirs)").body["data"]["status"] == "open")
            let refused = try await platform.post(
                "/v1/delivery/suppressions",
                ["email": "bob@x.test"],
                key: scene.ofInbox
            )
            #expect(refused.status == 403)
            #expect(
                try await platform.post("/v1/delivery/suppressions", ["email": "bob@x.test"]).status == 201
            )
            let lifting = try await platform.call(
                .delete,
                "/v1/delivery/suppressions/bob@x.test",
                key: scene.ofInbox,
                raw: nil
            )
            #expect(lifting.status == 404)
        }
    }
}
