// Search over threads.

import Foundation
import Hummingbird
import Platform
import Store

enum SearchRoutes {
    static func threads(_ call: Call) async throws -> Answer {
        guard let text = try call.query(text: "q") else { throw call.invalid("q", "is required.") }
        guard text.utf8.count <= SearchQuery.textMax else {
            throw call.invalid("q", "must be at most \(SearchQuery.textMax) bytes.")
        }
        guard let query = SearchQuery(text) else {
            throw call.invalid("q", "must have a word to look for.")
        }
        let list = "search"
        let page = try await call.store.searchThreads(
            query,
            org: call.caller.org,
            inbox: try call.query(id: "inbox_id"),
            domain: try call.query(id: "domain_id"),
            after: try call.cursor(of: list),
            limit: try call.query("limit", in: 1...100, default: 20)
        )
        return try call.answer(page, of: list) { ThreadRoutes.View(thread: $0, isFound: true) }
    }
}
