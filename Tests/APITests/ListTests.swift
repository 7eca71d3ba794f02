// Lists: every filter, both orders, and pages that neither miss a row nor repeat one.

import Database
import Foundation
import Platform
import Store
import Testing

@Suite("Lists")
struct ListTests {
    /// 120 messages of two inboxes and three senders; several share a moment.
    private func planted(_ platform: APIPlatform) async throws -> [APIPlatform.Planted] {
        let inboxes = [try await platform.makeInbox("one"), try await platform.makeInbox("two")]
        let start = try #require(Timestamp(iso8601: "2025-03-15T08:00:00Z"))
        let messages = (0..<120).map { number in
            APIPlatform.Planted(
                inbox: inboxes[number % 2].id,
                domain: inboxes[0].domain,
                sender: "sender\(number % 3)@x.test",
                createdAt: start + .seconds(number / 4)
            )
        }
        try await platform.plant(messages.shuffled())
        return messages
    }

    @Test("messages are filtered by inbox, domain, sender and time, alone and together, in both orders")
    func messages() async throws {
        try await withPlatform { platform in
            let messages = try await planted(platform)
            let middle = messages[60].createdAt
            let later = messages[90].createdAt
            let inbox = messages[0].inbox
            let domain = messages[0].domain
            let filters: [(String, (APIPlatform.Planted) -> Bool)] = [
                ("inbox_id=\(inbox)", { $0.inbox == inbox }),
                ("domain_id=\(domain)", { _ in true }),
                ("domain_id=\(DomainID())", { _ in false }),
                ("sender=SENDER1@x.test", { $0.sender == "sender1@x.test" }),
                (
                    "inbox_id=\(inbox)&sender=sender2@x.test",
                    { $0.inbox == inbox && $0.sender == "sender2@x.test" }
                ),
                ("domain_id=\(domain)&before=\(middle.iso8601)", { $0.createdAt < middle }),
                ("domain_id=\(domain)&after=\(middle.iso8601)", { $0.createdAt > middle }),
                (
                    "inbox_id=\(inbox)&domain_id=\(domain)&after=\(middle.iso8601)&before=\(later.iso8601)",
                    { $0.inbox == inbox && $0.createdAt > middle && $0.createdAt < later }
                ),
                ("inbox_id=\(inbox)&after=\(later.iso8601)&before=\(middle.iso8601)", { _ in false }),
            ]
            for (query, isWanted) in filters {
                let ascending = messages.filter(isWanted)
                    .sorted { ($0.createdAt, $0.id.description) < ($1.createdAt, $1.id.description) }
                    .map { "msg_\($0.id)" }
                for (order, expected) in [
                    ("&order=asc", ascending), ("&order=desc", ascending.reversed()),
                    ("", ascending.reversed()),
                ] {
                    for limit in [7, 30, 1000] {
                        let rows = try await platform.walk("/v1/messages?\(query)\(order)", limit: limit)
                        #expect(
                            rows.map { $0["message_id"].string } == expected,
                            "\(query)\(order), \(limit)"
                        )
                    }
                }
            }
        }
    }

    @Test("after the time of a message, as it is shown, are those behind it, and before it those in front")
    func shownTimes() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            // The database knows microseconds, answers show milliseconds.
            let messages = [412, 1_000, 2_999, 3_000].map {
                APIPlatform.Planted(
                    inbox: inbox.id,
                    domain: inbox.domain,
                    sender: "a@x.test",
                    createdAt: Timestamp(microseconds: 1_742_027_191_000_000 + $0)
                )
            }
            try await platform.plant(messages)
            let path = "/v1/messages?inbox_id=\(inbox.id)&order=asc"
            let all = try await platform.get(path).body["data"].elements
            let ids = all.compactMap { $0["message_id"].string }
            try #require(ids == messages.map { "msg_\($0.id)" })
            for (place, message) in all.enumerated() {
                let shown = try #require(message["created_at"].string)
                for (query, expected) in [("after", ids[(place + 1)...]), ("before", ids[..<place])] {
                    for time in [
                        shown, shown.replacing("Z", with: "+00:00"), shown.replacing("Z", with: "%2B00:00"),
                    ] {
                        let found = try await platform.get("\(path)&\(query)=\(time)").body["data"].elements
                        #expect(
                            found.compactMap { $0["message_id"].string } == Array(expected),
                            "\(query)=\(time)"
                        )
                    }
                }
            }
        }
    }

    @Test("a list without a limit has 50 messages or 20 threads and says that there is more")
    func defaults() async throws {
        try await withPlatform { platform in
            let messages = try await planted(platform)
            let reply = try await platform.get("/v1/messages?domain_id=\(messages[0].domain)")
            #expect(reply.body["data"].elements.count == 50)
            #expect(reply.body["has_more"] == true)
            let none = try await platform.get("/v1/messages?sender=nobody@x.test")
            #expect(none.body == ["data": [], "next_cursor": nil, "has_more": false])
        }
    }

    @Test("250 threads, many of one moment, are walked in both orders: none missing, none twice")
    func threads() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let org = platform.org
            try await platform.database.query(
                .tenant(org),
                """
                INSERT INTO threads (org_id, id, inbox_id, domain_id, subject, base_subject, last_direction,
                    message_count, last_message_at)
                SELECT \(org), gen_random_uuid(), \(inbox.id), \(inbox.domain), 's', 's', 'inbound', 1,
                    timestamptz '2025-03-15 08:00:00Z' + (n / 7) * interval '1 microsecond'
                FROM generate_series(1, 253) AS n
                """
            )
            let expected = try await platform.database.query(
                .tenant(org),
                "SELECT id FROM threads ORDER BY last_message_at, id"
            ).map { "thread_\(try $0("id") as ThreadID)" }
            #expect(expected.count == 253)
            for filter in ["inbox_id=\(inbox.id)", "domain_id=\(inbox.domain)"] {
                for limit in [1, 20, 23, 100] {
                    let up = try await platform.walk("/v1/threads?\(filter)&order=asc", limit: limit)
                    #expect(up.map { $0["thread_id"].string } == expected)
                    let down = try await platform.walk("/v1/threads?\(filter)", limit: limit)
                    #expect(down.map { $0["thread_id"].string } == expected.reversed())
                }
            }
            let first = try await platform.get("/v1/threads?inbox_id=\(inbox.id)")
            #expect(first.body["data"].elements.count == 20)
            let other = try await platform.get("/v1/threads?inbox_id=\(InboxID())")
            #expect(other.body == ["data": [], "next_cursor": nil, "has_more": false])
        }
    }

    @Test("a thread shows its messages, oldest first unless asked otherwise, page by page")
    func ofThread() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let thread = ThreadID()
            let messages = (0..<31).map {
                APIPlatform.Planted(
                    inbox: inbox.id,
                    domain: inbox.domain,
                    sender: "a@x.test",
                    createdAt: Timestamp(microseconds: 1_742_027_191_000_000 + Int64($0 / 2))
                )
            }
            try await platform.plant(messages, thread: thread)
            // Of another thread, to be left out.
            try await platform.receive("<other@x>", in: inbox)
            let expected = messages.sorted {
                ($0.createdAt, $0.id.description) < ($1.createdAt, $1.id.description)
            }.map { "msg_\($0.id)" }
            let path = "/v1/threads/thread_\(thread)/messages"
            for limit in [1, 4, 31, 1000] {
                let rows = try await platform.walk(path, limit: limit)
                #expect(rows.map { $0["message_id"].string } == expected)
                let down = try await platform.walk("\(path)?order=desc", limit: limit)
                #expect(down.map { $0["message_id"].string } == expected.reversed())
            }
        }
    }

    @Test("a thread in a list has every member that clients read")
    func shape() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let thread = try await platform.receive("<1@x>", in: inbox, subject: "Re: Order", text: "Where?")
            let row = try await platform.get("/v1/threads?inbox_id=\(inbox.id)").body["data"][0]
            #expect(
                row.names == [
                    "thread_id", "subject", "last_message_at", "first_message_at", "message_count", "snippet",
                    "last_direction", "inbox_id", "domain_id", "has_attachments", "status", "assigned_to",
                    "tags",
                ]
            )
            #expect(row["thread_id"].string == thread)
            #expect(row["subject"] == "Re: Order")
            #expect(row["snippet"] == "Where?")
            #expect(row["message_count"] == 1)
            #expect(row["last_direction"] == "inbound")
            #expect(row["has_attachments"] == false)
        }
    }
}
