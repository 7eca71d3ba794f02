// What a key that is limited to some inboxes or domains can see and change, by the database's own word.

import Database
import Foundation
import Mail
import Platform
import Store
import Testing

@Suite("A limited key")
struct LimitedKeyTests {
    private func limits(inboxes: Set<InboxID> = [], domains: Set<DomainID> = []) throws -> KeyLimits {
        try #require(KeyLimits(key: KeyID(), inboxes: inboxes, domains: domains))
    }

    /// Tables of which it sees all rows of its organization, and why that tells it nothing.
    private static let open: Set<String> = [
        "organizations",  // its own
        "blobs", "blob_chunks",  // found through rows that are limited
        "jobs",  // four columns that say nothing of what a job is for
        "suppressions", "soft_bounces",  // whom the organization must not write to holds for all its keys
    ]

    @Test(
        "sees no row of any tenant table that is not of its inboxes or domains, and none of another organization"
    )
    func tables() async throws {
        try await withStore { store in
            let tables = try await TenantTable.all(store.database)
            let orgs = try await store.filled(tables)
            for limits in [try limits(inboxes: [InboxID()]), try limits(domains: [DomainID()])] {
                let database = store.database.limited(to: limits)
                for table in tables {
                    var seen = 0
                    do {
                        let rows = try await database.query(
                            .tenant(orgs.a),
                            "SELECT count(*) AS n, count(*) FILTER (WHERE \(raw: table.owner) <> \(orgs.a)) AS foreign_rows FROM \(raw: table.name)"
                        )
                        seen = try only(rows)("n")
                        #expect(try only(rows)("foreign_rows") == 0, "\(table.name)")
                    } catch DatabaseError.failed(sqlstate: "42501", _) {
                        // Closed to limited keys altogether.
                    }
                    #expect(seen == (Self.open.contains(table.name) ? 1 : 0), "\(table.name)")
                }
            }
        }
    }

    @Test("can put nothing outside: not an inbox, not a thread, not a message, not a wider key")
    func writes() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let domain = try await store.platformDomain(named: "agents.test")
            let mine = try await store.createInbox(org: org, localPart: "mine", displayName: nil, on: domain)
            let limited = store.database.limited(to: try limits(inboxes: [mine.id]))
            func thread(_ inbox: InboxID) -> Statement {
                """
                INSERT INTO threads (org_id, id, inbox_id, domain_id, subject, base_subject, last_direction)
                VALUES (\(org), \(ThreadID()), \(inbox), \(domain.id), 's', 's', 'inbound')
                """
            }
            try await limited.query(.tenant(org), thread(mine.id))
            let refused: [Statement] = [
                thread(InboxID()),
                "UPDATE threads SET inbox_id = \(InboxID())",
                """
                INSERT INTO inboxes (org_id, id, domain_id, domain_name, local_part)
                VALUES (\(org), \(InboxID()), \(domain.id), 'agents.test', 'other')
                """,
                """
                INSERT INTO message_bodies (org_id, message_id, content) VALUES (\(org), \(MessageID()), 'c')
                """,
                """
                INSERT INTO api_keys (org_id, id, name, hash, hint, scopes)
                VALUES (\(org), \(KeyID()), 'wide', \([UInt8](repeating: 1, count: 32)), 'comm_', '{admin}')
                """,
                "SELECT payload FROM jobs",
                "SELECT hash FROM api_key_directory",
                "DELETE FROM received_mail",
            ]
            for statement in refused {
                let error = await failure { try await limited.query(.tenant(org), statement) }
                guard case .failed(sqlstate: "42501", _)? = error as? DatabaseError else {
                    Issue.record("\(statement.text): \(String(describing: error))")
                    continue
                }
            }
        }
    }

    @Test("both limits must fit, and a domain's key sees the domain's inboxes")
    func both() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let here = try await store.platformDomain(named: "here.test")
            let there = try await store.platformDomain(named: "there.test")
            let one = try await store.createInbox(org: org, localPart: "one", displayName: nil, on: here)
            let two = try await store.createInbox(org: org, localPart: "two", displayName: nil, on: here)
            let three = try await store.createInbox(org: org, localPart: "three", displayName: nil, on: there)
            func seen(_ limits: KeyLimits) async throws -> Set<String> {
                Set(
                    try await store.limited(to: limits).inboxes(org: org, limit: 100).elements.map(
                        \.localPart
                    )
                )
            }
            #expect(try await seen(limits(inboxes: [one.id, three.id])) == ["one", "three"])
            #expect(try await seen(limits(domains: [here.id])) == ["one", "two"])
            #expect(try await seen(limits(inboxes: [two.id, three.id], domains: [here.id])) == ["two"])
            #expect(try await seen(limits(inboxes: [three.id], domains: [here.id])).isEmpty)
            #expect(KeyLimits(key: KeyID(), inboxes: [], domains: []) == nil)
            let made = try await store.limited(to: limits(domains: [here.id])).createInbox(
                org: org,
                localPart: "four",
                displayName: nil,
                on: here
            )
            #expect(made.domain == here.id)
            let outside = await failure {
                _ = try await store.limited(to: limits(domains: [here.id]))
                    .createInbox(org: org, localPart: "five", displayName: nil, on: there)
            }
            guard case .failed(sqlstate: "42501", _)? = outside as? DatabaseError else {
                Issue.record("\(String(describing: outside))")
                return
            }
            #expect(try await store.inboxes(org: org, limit: 100).elements.count == 4)
        }
    }

    @Test("does not outlive its transaction: the next one on the connection sees all again")
    func noLeak() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let domain = try await store.platformDomain(named: "agents.test")
            _ = try await store.createInbox(org: org, localPart: "one", displayName: nil, on: domain)
            let limited = store.limited(to: try limits(inboxes: [InboxID()]))
            for _ in 0..<8 {
                #expect(try await limited.inboxes(org: org, limit: 100).elements.isEmpty)
                #expect(try await store.inboxes(org: org, limit: 100).elements.count == 1)
            }
        }
    }

    @Test("its door lets nobody speak as a worker or as the owner")
    func roles() async throws {
        try await withStore { store in
            let limited = store.database.limited(to: try limits(inboxes: [InboxID()]))
            for access in [Access.worker, .owner] {
                let error = await failure { try await limited.query(access, "SELECT 1") }
                guard case .failed(sqlstate: "42501", _)? = error as? DatabaseError else {
                    Issue.record("\(String(describing: error))")
                    continue
                }
            }
        }
    }
}
