// Search: by every part of a message, newest match first, in pages, and of one's own mail alone.

import Database
import Foundation
import Platform
import Store
import Testing

@testable import API

@Suite("Search")
struct SearchTests {
    private func found(_ platform: APIPlatform, _ query: String, _ more: String = "") async throws -> [String]
    {
        let encoded = try #require(query.addingPercentEncoding(withAllowedCharacters: .alphanumerics))
        let reply = try await platform.get("/v1/search/threads?q=\(encoded)\(more)")
        #expect(reply.status == 200, "\(query): \(reply.text)")
        return reply.body["data"].elements.compactMap { $0["thread_id"].string }
    }

    @Test("finds a thread by its subject, its participants, its text, in either direction")
    func parts() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("desk")
            let order = try await platform.receive(
                "<1@x>",
                in: inbox,
                from: "anna.lee@müller-shop.test",
                subject: "Order #4521: refunds",
                text: "The parcels went to Zürich, not to Bern.\n"
            )
            let sent = try await platform.send([
                "inboxId": .string(inbox.id.description), "to": "carla@elsewhere.test",
                "subject": "Quarterly figures",
                "html": "<p>See the <b>attached</b> spreadsheet.</p>",
            ])
            let outbound = try #require(sent.body["data"]["thread_id"].string)
            for query in [
                "4521", "order", "refund", "REFUNDS", "anna", "lee", "muller", "müller-shop.test", "Zurich",
                "zürich",
                "\"to Bern\"", "parcel refund", "order -quarterly", "\"order 4521\"",
            ] {
                #expect(try await found(platform, query) == [order], "\(query)")
            }
            for query in ["carla", "carla@elsewhere.test", "figures", "spreadsheet", "attached"] {
                #expect(try await found(platform, query) == [outbound], "\(query)")
            }
            for query in ["\"Zurich parcels\"", "order quarterly", "order -refund", "nowhere", "the"] {
                #expect(try await found(platform, query).isEmpty, "\(query)")
            }
            #expect(try await found(platform, "4521 or carla").isEmpty, "or is a word")
        }
    }

    @Test("a result has what the published clients read of it")
    func shape() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("desk")
            try await platform.receive("<1@x>", in: inbox, subject: "Hello", text: "There")
            let row = try await platform.get("/v1/search/threads?q=hello").body["data"][0]
            #expect(row["subject"] == "Hello")
            #expect(row["snippet"] == "There")
            #expect(row["message_count"] == 1)
            #expect(row["last_activity"] == row["last_message_at"])
        }
    }

    @Test("lists a thread once, where its newest match is, in pages that miss and repeat none")
    func pages() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("desk")
            var threads: [String] = []
            for number in 0..<12 {
                threads.append(
                    try await platform.receive(
                        "<\(number)@x>",
                        in: inbox,
                        subject: "Ticket \(number)",
                        text: "needle"
                    )
                )
            }
            // Answers to the oldest: one that matches, and to the second one that does not.
            try await platform.receive(
                "<a@x>",
                inReplyTo: "<0@x>",
                in: inbox,
                subject: "Re: Ticket",
                text: "needle"
            )
            try await platform.receive(
                "<b@x>",
                inReplyTo: "<1@x>",
                in: inbox,
                subject: "Re: Ticket",
                text: "hay"
            )
            let expected = [threads[0]] + threads[1...].reversed()
            #expect(try await found(platform, "needle") == expected)
            for limit in [1, 5, 12] {
                let walked = try await platform.walk("/v1/search/threads?q=needle", limit: limit)
                #expect(walked.compactMap { $0["thread_id"].string } == expected, "limit \(limit)")
            }
        }
    }

    @Test("keeps to the inbox and the domain that are asked for")
    func filters() async throws {
        try await withPlatform { platform in
            let (one, two) = (try await platform.makeInbox("one"), try await platform.makeInbox("two"))
            let first = try await platform.receive("<1@x>", in: one, text: "needle")
            let second = try await platform.receive("<2@x>", in: two, text: "needle")
            #expect(try await found(platform, "needle") == [second, first])
            #expect(try await found(platform, "needle", "&inbox_id=\(one.id)") == [first])
            #expect(try await found(platform, "needle", "&domain_id=\(one.domain)") == [second, first])
            #expect(try await found(platform, "needle", "&domain_id=\(DomainID())").isEmpty)
            // Words that are not neighbours, parted as a form's client parts them, and as others do.
            for space in ["+", "%20"] {
                let query = "q=needle\(space)elsewhere&inbox_id=\(one.id)"
                let reply = try await platform.get("/v1/search/threads?\(query)")
                #expect(
                    reply.body["data"].elements.compactMap { $0["thread_id"].string } == [first],
                    "\(query)"
                )
            }
            let stranger = try await platform.stranger()
            let theirs = try await platform.get(
                "/v1/search/threads?q=needle&inbox_id=\(one.id)",
                key: stranger.key
            )
            #expect(theirs.body["data"] == .array([]))
        }
    }

    @Test(
        "finds the old among many: a word of old messages alone, one that is in all, and one that is nowhere"
    )
    func many() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("desk")
            // Ids over 300 days, so that the stretches of time of the index are walked.
            try await platform.database.batch(.tenant(platform.org), Self.old(6_000, in: inbox, platform.org))
            for (query, count, newest) in [
                ("everywhere", 20, 5_999), ("former", 20, 2_999), ("every1000", 6, 5_000), ("number7", 1, 7),
                ("none", 0, -1),
                ("former every1000", 3, 2_000),
            ] {
                let reply = try await platform.get(
                    "/v1/search/threads?q=\(query.replacing(" ", with: "%20"))&inbox_id=\(inbox.id)"
                )
                let subjects = reply.body["data"].elements.compactMap { $0["subject"].string }
                #expect(subjects.count == count, "\(query)")
                if let first = subjects.first { #expect(first == "\(newest)", "\(query)") }
                #expect(subjects == subjects.sorted { Int($0) ?? 0 > Int($1) ?? 0 }, "\(query)")
            }
            let walked = try await platform.walk("/v1/search/threads?q=former", limit: 100)
            #expect(walked.compactMap { $0["subject"].string } == (0..<3_000).reversed().map(String.init))
        }
    }

    /// Threads of one message each, in which every thousandth and the older half have words of their own.
    static func old(_ count: Int, in inbox: Inbox, _ org: OrgID) -> [Statement] {
        let numbered: Statement = """
            FROM (SELECT n, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint
                    - (\(count) - n)::bigint * 300 * 86400 / \(count) * 1000), 12, '0')
                || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid AS id
                FROM generate_series(0, \(count) - 1) AS n) AS s
            """
        return [
            """
            INSERT INTO threads (org_id, id, inbox_id, domain_id, subject, base_subject, last_direction)
            SELECT \(org), id, \(inbox.id), \(inbox.domain), n::text, n::text, 'inbound' \(fragment: numbered)
            """,
            """
            INSERT INTO messages (org_id, id, thread_id, inbox_id, domain_id, direction, rfc_message_id, sender,
                subject, participants)
            SELECT \(org), id, id, \(inbox.id), \(inbox.domain), 'inbound', id::text, 's', n::text, '[]'
            \(fragment: numbered)
            """,
            """
            INSERT INTO message_search (org_id, message_id, inbox_id, domain_id, words)
            SELECT \(org), id, \(inbox.id), \(inbox.domain), to_tsvector('english', 'everywhere number' || n
                || CASE WHEN n < \(count) / 2 THEN ' former' ELSE '' END
                || CASE WHEN n % 1000 = 0 THEN ' every1000' ELSE '' END)
                || search_tags(\(org), \(inbox.id), \(inbox.domain), id) \(fragment: numbered)
            """,
        ]
    }

    @Test(
        "a query without a word to look for is 400",
        arguments: ["", "q=", "q=%22%22", "q=-not", "q=%20...", "q=%00"]
    )
    func refused(_ query: String) async throws {
        try await withPlatform { platform in
            for query in [query, "q=a&limit=101", "q=a&cursor=xyz"] {
                let reply = try await platform.get("/v1/search/threads?\(query)")
                #expect(reply.status == 400, "\(query)")
            }
        }
    }

    @Test("a message of any size and any letters is taken and found")
    func large() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("desk")
            let words = (0..<120_000).map { "w\($0)" }.joined(separator: " ")
            let thread = try await platform.receive("<1@x>", in: inbox, subject: "Big", text: words)
            #expect(try await found(platform, "w77") == [thread])
            #expect(try await found(platform, "w119999").isEmpty)
            let odd = try await platform.receive(
                "<2@x>",
                in: inbox,
                subject: "注文 ' \\ : & | ! <-> *",
                text: String(repeating: "x", count: 10_000) + " Ⅷ ﬁn e\u{301}te\u{301} 🎉"
            )
            #expect(try await found(platform, "été") == [odd])
            #expect(try await found(platform, "注文") == [odd])
            #expect(try await found(platform, "fin") == [odd])
            #expect(try await found(platform, "' \\ : 注文 & | ! <-> * (") == [odd])
        }
    }
}
