// Lists read their pages from an index in its order, whatever filters come together: no sort, and nothing read to be
// thrown away, so that a page costs the same in a list of any length.

import Database
import Foundation
import Platform
import Testing

@testable import Store

@Suite("Plans of lists")
struct ListPlanTests {
    private static let senders = ["sender7@x.test", "elsewhere@x.test"]

    @Test("every set of filters has an index that gives its page in order")
    func messages() async throws {
        try await withStore { store in
            let (org, inbox, domain) = try await store.filledWithMessages(20_000)
            for sender in Self.senders + [nil] {
                for (inbox, domain) in [(inbox, nil), (nil, domain), (inbox, domain), (nil, nil)]
                    as [(InboxID?, DomainID?)]
                {
                    guard sender != nil || inbox != nil || domain != nil else { continue }
                    for order in [Order.ascending, .descending] {
                        var filter = MessageFilter()
                        (filter.inbox, filter.domain, filter.sender) = (inbox, domain, sender)
                        let plan = try await store.plan(
                            Store.page(filter, order: order, after: nil, limit: 50, org),
                            org
                        )
                        let name = "\(sender ?? "-") \(inbox != nil) \(domain != nil) \(order): \(plan)"
                        #expect(!plan.contains("Sort"), "\(name)")
                        #expect(!plan.contains("Seq Scan on messages"), "\(name)")
                        // What is filtered and not looked up may be all of the list. (The organization is, by its policy.)
                        let filters = plan.split(separator: "\n").filter { $0.contains(" Filter:") }
                        #expect(
                            !filters.contains { $0.contains("sender") || $0.contains("inbox_id") },
                            "\(name)"
                        )
                    }
                }
            }
        }
    }
}

extension Store {
    /// The text of a statement's plan, as the tenant has it.
    fileprivate func plan(_ statement: Statement, _ org: OrgID) async throws -> String {
        try await database.query(.tenant(org), "EXPLAIN (COSTS OFF) \(fragment: statement)")
            .map { try $0("QUERY PLAN") as String }.joined(separator: "\n")
    }

    /// An organization with messages in one inbox, and a tenth as many in another from a sender who never writes to the first.
    fileprivate func filledWithMessages(_ count: Int) async throws -> (OrgID, InboxID, DomainID) {
        let org = try await createOrganization(named: "A")
        let (inbox, other, domain) = (InboxID(), InboxID(), DomainID())
        try await database.batch(
            .worker,
            [
                """
                INSERT INTO messages (org_id, id, thread_id, inbox_id, domain_id, direction, rfc_message_id, sender,
                    subject, participants, created_at)
                SELECT \(org), gen_random_uuid(), gen_random_uuid(), CASE WHEN n % 10 = 9 THEN \(other) ELSE \(inbox) END,
                    \(domain), 'inbound', 'r', CASE WHEN n % 10 = 9 THEN 'elsewhere@x.test' ELSE 'sender' || n % 100 || '@x.test' END,
                    's', '[]', now() - n * interval '1 minute'
                FROM generate_series(1, \(count)) AS n
                """
            ]
        )
        try await database.query(.owner, "ANALYZE messages")
        return (org, inbox, domain)
    }
}
