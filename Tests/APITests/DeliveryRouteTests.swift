// What became of mail: a message's recipients, the log of events, metrics, and suppressed addresses.

import Database
import Foundation
import HTTPTypes
import Platform
import Store
import Testing

@testable import API

@Suite("Delivery")
struct DeliveryRouteTests {
    /// Sends to these and lets each have its fate.
    private func send(
        _ platform: APIPlatform,
        from inbox: Inbox,
        _ fates: [(String, String)]
    ) async throws -> String {
        let reply = try await platform.send([
            "inboxId": .string(inbox.id.description), "subject": "Hello", "text": "There",
            "to": .array(fates.map { .string($0.0) }),
        ])
        let id = try #require(reply.body["data"]["id"].string)
        let message = try #require(MessageID(id, prefix: "msg_"))
        try await platform.happen("email.sent", to: nil, message, inbox)
        for (address, fate) in fates {
            try await platform.happen("email.\(fate)", to: address, message, inbox)
        }
        return id
    }

    @Test("a message is shown with each recipient's story")
    func message() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("desk")
            let id = try await send(
                platform,
                from: inbox,
                [("a@x.test", "delivered"), ("b@y.test", "bounced")]
            )
            try await platform.database.query(
                .tenant(platform.org),
                """
                UPDATE recipients SET state = 'bounced', attempts = 2, remote_mx = 'mx.y.test', tls = 'TLSv1.3',
                    last_reply = '550 5.1.1 no such user' WHERE domain = 'y.test'
                """
            )
            let shown = try await platform.get("/v1/messages/\(id)").body["data"]
            #expect(shown["message_id"].string == id)
            #expect(shown["content"] == "There")
            #expect(shown["recipients"].elements.count == 2)
            let (first, second) = (shown["recipients"][0], shown["recipients"][1])
            #expect(first["email"] == "a@x.test")
            #expect(first["state"] == "queued")
            #expect(first["tries"] == 0)
            #expect(first["last_reply"] == .null)
            #expect(second["role"] == "to")
            #expect(second["state"] == "bounced")
            #expect(second["tries"] == 2)
            #expect(second["remote_mx"] == "mx.y.test")
            #expect(second["tls"] == "TLSv1.3")
            #expect(second["last_reply"] == "550 5.1.1 no such user")
            #expect(try await platform.get("/v1/messages/msg_\(MessageID())").status == 404)
            #expect(try await platform.get("/v1/messages/none").status == 404)
        }
    }

    @Test("events are listed newest first, by message, inbox, domain and type, alone and together, in pages")
    func events() async throws {
        try await withPlatform { platform in
            let (one, two) = (try await platform.makeInbox("one"), try await platform.makeInbox("two"))
            let first = try await send(
                platform,
                from: one,
                [("a@x.test", "delivered"), ("b@x.test", "bounced")]
            )
            let second = try await send(platform, from: two, [("c@x.test", "failed")])
            try await platform.receive("<in@x>", in: one)
            func types(_ query: String) async throws -> [String] {
                let reply = try await platform.get("/v1/delivery/events\(query)")
                #expect(reply.status == 200, "\(query): \(reply.text)")
                return reply.body["data"].elements.compactMap { $0["event_type"].string }
            }
            let all = ["failed", "sent", "bounced", "delivered", "sent"]
            #expect(try await types("") == all)
            #expect(try await types("?inbox_id=\(one.id)") == ["bounced", "delivered", "sent"])
            #expect(try await types("?inboxId=\(two.id)") == ["failed", "sent"])
            #expect(try await types("?domain_id=\(one.domain)") == all)
            #expect(try await types("?domainId=\(one.domain)&inbox_id=\(two.id)") == ["failed", "sent"])
            #expect(try await types("?domain_id=\(DomainID())&inbox_id=\(two.id)").isEmpty)
            #expect(try await types("?message_id=\(first)") == ["bounced", "delivered", "sent"])
            #expect(try await types("?message_id=\(second)&event_type=failed") == ["failed"])
            #expect(try await types("?event_type=email.sent") == ["sent", "sent"])
            #expect(try await types("?event_type=sent&inbox_id=\(one.id)") == ["sent"])
            #expect(try await types("?eventType=received") == ["received"])
            let walked = try await platform.walk("/v1/delivery/events", limit: 2)
            #expect(walked.compactMap { $0["event_type"].string } == all)
            let row = try await platform.get("/v1/delivery/events?event_type=bounced").body["data"][0]
            #expect(row["recipient"] == "b@x.test")
            #expect(row["detail"] == "as it was told")
            #expect(row["message_id"].string == first)
            for query in ["?event_type=opened", "?inbox_id=x", "?limit=0", "?limit=1001", "?cursor=x"] {
                #expect(try await platform.get("/v1/delivery/events\(query)").status == 400, "\(query)")
            }
        }
    }

    @Test("metrics count each event once, before and after it is taken into the hourly counts")
    func metrics() async throws {
        try await withPlatform { platform in
            let (one, two) = (try await platform.makeInbox("one"), try await platform.makeInbox("two"))
            func metrics(_ query: String = "") async throws -> JSON {
                let reply = try await platform.get("/v1/delivery/metrics\(query)")
                #expect(reply.status == 200, "\(query): \(reply.text)")
                return reply.body["data"]
            }
            let nothing = try await metrics()
            #expect(nothing["sent"] == 0)
            #expect(nothing["delivery_rate"] == .null)
            #expect(nothing["period"] == "7d")
            _ = try await send(
                platform,
                from: one,
                [
                    ("a@x.test", "delivered"), ("b@x.test", "delivered"), ("c@x.test", "bounced"),
                    ("d@x.test", "failed"),
                ]
            )
            _ = try await send(platform, from: two, [("c@x.test", "delivered"), ("c@x.test", "complained")])
            for round in 0..<4 {
                // None is counted yet, then all are; then there is more, and that too.
                let more = round >= 2 ? 1 : 0
                if round == 2 { _ = try await send(platform, from: two, [("e@x.test", "delivered")]) }
                let all = try await metrics("?period=24h")
                #expect(all["sent"] == .number(Double(2 + more)), "round \(round)")
                #expect(all["delivered"] == .number(Double(3 + more)), "round \(round)")
                #expect(all["bounced"] == 1)
                #expect(all["failed"] == 1)
                #expect(all["complained"] == 1)
                let first = try await metrics("?inbox_id=\(one.id)&period=30d")
                #expect(first["sent"] == 1)
                #expect(first["delivery_rate"] == 50)
                #expect(first["bounce_rate"] == 25)
                #expect(first["complaint_rate"] == 0)
                #expect(first["period"] == "30d")
                #expect(
                    try await metrics("?domainId=\(one.domain)")["delivered"] == .number(Double(3 + more))
                )
                #expect(try await metrics("?domain_id=\(DomainID())&inbox_id=\(one.id)")["sent"] == 0)
                while try await !platform.store.countEvents() {}
            }
            #expect(try await platform.get("/v1/delivery/metrics?period=1y").status == 400)
        }
    }

    @Test("what lies before the period is not counted")
    func period() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            _ = try await send(platform, from: inbox, [("a@x.test", "delivered")])
            try await platform.database.query(
                .tenant(platform.org),
                "UPDATE delivery_events SET created_at = now() - interval '3 days'"
            )
            for _ in 0..<2 {
                #expect(try await platform.get("/v1/delivery/metrics?period=24h").body["data"]["sent"] == 0)
                #expect(try await platform.get("/v1/delivery/metrics?period=7d").body["data"]["sent"] == 1)
                while try await !platform.store.countEvents() {}
            }
        }
    }

    @Test("an address is suppressed, listed, found by its name, and lifted")
    func suppressions() async throws {
        try await withPlatform { platform in
            let path = "/v1/delivery/suppressions"
            let added = try await platform.post(path, ["email": "Bob@X.test"])
            #expect(added.status == 201)
            #expect(added.body["data"]["email"] == "bob@x.test")
            #expect(added.body["data"]["reason"] == "manual")
            #expect(try await platform.post(path, ["email": "bob@x.test"]).status == 200)
            for name in ["c@x.test", "d@x.test", "o'hara+tag@x.test"] {
                #expect(try await platform.post(path, ["email": .string(name)]).status == 201)
            }
            let all = ["o'hara+tag@x.test", "d@x.test", "c@x.test", "bob@x.test"]
            let walked = try await platform.walk(path, limit: 1)
            #expect(walked.compactMap { $0["email"].string } == all)
            let inbox = try await platform.makeInbox("one")
            for query in ["?email=o'hara+tag%40x.test", "?email=o'hara%2Btag%40x.test"] {
                #expect(
                    try await platform.get(path + query).body["data"][0]["email"] == "o'hara+tag@x.test",
                    "\(query)"
                )
            }
            for query in ["?email=bob%40x.test", "?email=BOB%40x.test&inboxId=\(inbox.id)&limit=1"] {
                #expect(
                    try await platform.get(path + query).body["data"][0]["email"] == "bob@x.test",
                    "\(query)"
                )
            }
            #expect(try await platform.get("\(path)?email=nobody%40x.test").body["data"] == .array([]))
            for name in ["o'hara%2Btag%40x.test", "Bob@x.test"] {
                let removed = try await platform.call(.delete, "\(path)/\(name)", key: platform.key, raw: nil)
                #expect(removed.status == 200, "\(removed.text)")
                #expect(removed.body["data"]["ok"] == true)
                let again = try await platform.call(.delete, "\(path)/\(name)", key: platform.key, raw: nil)
                #expect(again.status == 404)
            }
            #expect(try await platform.get(path).body["data"].elements.count == 2)
            for body: JSON in [[:], ["email": "no address"], ["email": 1], ["email": "a@b.test, c@d.test"]] {
                let reply = try await platform.call(.post, path, key: platform.key, raw: body.bytes)
                #expect(reply.status == 400)
            }
            #expect(try await platform.get("\(path)?email=none").status == 400)
        }
    }
}

extension APIPlatform {
    /// An event, as a worker records it.
    func happen(_ type: String, to recipient: String?, _ message: MessageID, _ inbox: Inbox) async throws {
        try await database.query(
            .worker,
            """
            INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type, recipient, detail)
            VALUES (\(org), \(EventID()), \(message), \(inbox.id), \(inbox.domain), \(type), \(recipient),
                'as it was told')
            """
        )
    }
}
