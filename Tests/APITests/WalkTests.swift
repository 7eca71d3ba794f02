// A walk through all threads while mail arrives: none of those that were there is missing, and none comes twice.

import Database
import Foundation
import HTTPTypes
import HummingbirdTesting
import NIOCore
import Platform
import Store
import Testing

@testable import API

@Suite("Walking a list while it changes")
struct WalkTests {
    private static let (there, pageLimit) = (10_000, 100)
    /// New threads that come while one page is asked for.
    private static let arrivingPerPage = 10

    @Test(
        "10,000 threads in both orders while 1,000 new ones arrive and old ones get mail",
        arguments: ["asc", "desc"]
    )
    func threads(_ order: String) async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let known = try await platform.fill(Self.there, inbox)
            try #require(known.count == Self.there)

            let path = "/v1/threads?inbox_id=\(inbox.id)&limit=\(Self.pageLimit)&order="
            var (rows, cursor, number) = ([String](), String?.none, 0)
            var moved: Set<String> = []
            repeat {
                let here = cursor
                async let asked = platform.page(path + order, here)
                // From all over the list, in no order: some of these the walk has met, others it has not.
                let place = number * 37 % (Self.there / Self.pageLimit) * Self.pageLimit
                moved.insert(
                    try await platform.receive("<answer-\(number)@x>", inReplyTo: "<t\(place)@x>", in: inbox)
                )
                for new in 0..<Self.arrivingPerPage {
                    try await platform.receive("<new-\(number)-\(new)@x>", in: inbox)
                }
                let page = try await asked
                rows += page.data.map(\.thread)
                (cursor, number) = (page.next, number + 1)
                try #require(number < 200, "the walk does not end")
            } while cursor != nil
            #expect(number * Self.arrivingPerPage >= 1_000)

            #expect(Set(rows).count == rows.count, "\(order): a thread came twice")
            // One that got mail during the walk may have moved out of it; every other must be there.
            #expect(known.subtracting(rows).subtracting(moved).isEmpty, "\(order): threads are missing")
            // Those that moved are there for the next walk.
            rows = []
            cursor = nil
            repeat {
                let page = try await platform.page(path + "desc", cursor)
                rows += page.data.map(\.thread)
                cursor = page.next
            } while rows.count < number * (Self.arrivingPerPage + 1) && cursor != nil
            #expect(moved.isSubset(of: rows))
        }
    }
}

/// A page of threads, read no further than these tests need.
private struct ThreadPage: Decodable {
    struct Row: Decodable {
        let thread: String

        enum CodingKeys: String, CodingKey { case thread = "thread_id" }
    }

    let data: [Row]
    let next: String?

    enum CodingKeys: String, CodingKey {
        case data
        case next = "next_cursor"
    }
}

extension APIPlatform {
    /// Without the check against docs/openapi.yaml, which other tests of this route make of the same answers.
    fileprivate func page(_ path: String, _ cursor: String?) async throws -> ThreadPage {
        let response = try await client.execute(
            uri: path + (cursor.map { "&cursor=\($0)" } ?? ""),
            method: .get,
            headers: [.authorization: "Bearer \(key)"],
            body: nil
        )
        try #require(response.status == .ok)
        return try JSONDecoder().decode(ThreadPage.self, from: Data(response.body.readableBytesView))
    }

    /// Threads of one message each over a month, several of which share a moment; their Message-IDs are `<tN@x>`.
    fileprivate func fill(_ count: Int, _ inbox: Inbox) async throws -> Set<String> {
        let org = org
        let numbered: Statement = """
            FROM (SELECT n, md5('thread' || n)::uuid AS thread, md5('message' || n)::uuid AS message,
                date_trunc('second', now()) - make_interval(secs => (\(count) - n / 3 * 3)::integer * 259) AS time
                FROM generate_series(0, \(count) - 1) AS n) AS s
            """
        try await database.batch(
            .tenant(org),
            [
                """
                INSERT INTO threads (org_id, id, inbox_id, domain_id, subject, base_subject, last_direction,
                    first_message_at, last_message_at, message_count)
                SELECT \(org), thread, \(inbox.id), \(inbox.domain), 's', 's', 'inbound', time, time, 1
                \(fragment: numbered)
                """,
                """
                INSERT INTO messages (org_id, id, thread_id, inbox_id, domain_id, direction, rfc_message_id, sender,
                    subject, participants, created_at)
                SELECT \(org), message, thread, \(inbox.id), \(inbox.domain), 'inbound', '<t' || n || '@x>', 's', 's', '[]',
                    time \(fragment: numbered)
                """,
                """
                INSERT INTO message_references (org_id, rfc_id_digest, inbox_id, thread_id)
                SELECT \(org), substring(sha256(convert_to('<t' || n || '@x>', 'UTF8')) FOR 16), \(inbox.id), thread
                \(fragment: numbered)
                """,
            ],
            timeout: .seconds(60)
        )
        let rows = try await database.query(.tenant(org), "SELECT id FROM threads WHERE org_id = \(org)")
        return Set(try rows.map { "thread_\(try $0("id") as ThreadID)" })
    }
}
