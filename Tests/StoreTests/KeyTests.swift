// Keys, organizations and the platform's domain.

import Database
import Foundation
import Platform
import Store
import Testing

@Suite("Keys and organizations")
struct KeyTests {
    @Test("a key is found by its secret alone, with its scopes, and its secret is kept nowhere")
    func key() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let key = try await store.createKey(org: org, name: "ci", scopes: ["messages:read", "read"])
            #expect(APIKey.isWellFormed(key.secret))
            let caller = try #require(try await store.caller(secret: key.secret))
            #expect(caller.org == org)
            #expect(caller.key == key.id)
            #expect(caller.keyName == "ci")
            #expect(caller.scopes == ["messages:read", "read"])
            #expect(caller.inboxes.isEmpty && caller.domains.isEmpty)
            #expect(try await store.caller(secret: String(key.secret.dropLast()) + "x") == nil)
            let rows = try await store.database.query(
                .worker,
                "SELECT k::text || d::text AS row FROM api_keys k, api_key_directory d"
            )
            let row: String = try only(rows)("row")
            #expect(!row.contains(key.secret.dropFirst(12)))
        }
    }

    @Test("a revoked and an expired key are nobody's; one that expires later is")
    func ended() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let past = try await store.createKey(
                org: org,
                name: "past",
                scopes: ["read"],
                expiresAt: .now + .seconds(-1)
            )
            let future = try await store.createKey(
                org: org,
                name: "future",
                scopes: ["read"],
                expiresAt: .now + .seconds(3600)
            )
            #expect(try await store.caller(secret: past.secret) == nil)
            #expect(try await store.caller(secret: future.secret)?.keyName == "future")
            try await store.database.query(.tenant(org), "UPDATE api_keys SET revoked_at = now()")
            #expect(try await store.caller(secret: future.secret) == nil)
        }
    }

    @Test("a key needs scopes that there are", arguments: [[], ["everything"], ["read", "Write"], [""]])
    func scopes(_ scopes: [String]) async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let error = await failure { _ = try await store.createKey(org: org, name: "x", scopes: scopes) }
            guard case .refused? = error as? StoreFault else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    private func caller(_ store: Store, _ org: OrgID, _ wanted: NewKey) async throws -> Caller {
        let made = try await store.createKey(org: org, wanted)
        return try #require(try await store.caller(secret: made.key.secret))
    }

    @Test(
        "a key grants no more than its maker has: scopes, inboxes, domains, end; what is left out is the maker's"
    )
    func grants() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let domain = try await store.platformDomain(named: "agents.test")
            let one = try await store.createInbox(org: org, localPart: "one", displayName: nil, on: domain)
            let two = try await store.createInbox(org: org, localPart: "two", displayName: nil, on: domain)
            var wanted = NewKey(name: "maker", scopes: ["read", "messages:write"])
            wanted.inboxes = [one.id]
            wanted.expiresAt = .now + .seconds(3600)
            let maker = try await caller(store, org, wanted)

            let child = try await store.createKey(
                org: org,
                NewKey(name: "child", scopes: ["threads:read", "messages:write"]),
                by: maker
            ).record
            #expect(child.inboxes == [one.id])
            #expect(child.expiresAt == maker.expiresAt)
            #expect(child.status == "active")

            var wider: [NewKey] = [
                NewKey(name: "x", scopes: ["write"]), NewKey(name: "x", scopes: ["admin"]),
                NewKey(name: "x", scopes: ["inboxes:write"]), NewKey(name: "x", scopes: ["data:delete"]),
            ]
            var elsewhere = NewKey(name: "x", scopes: ["read"])
            elsewhere.inboxes = [one.id, two.id]
            var longer = NewKey(name: "x", scopes: ["read"])
            longer.expiresAt = maker.expiresAt.map { $0 + .seconds(1) }
            wider += [elsewhere, longer]
            for wanted in wider {
                let error = await failure { _ = try await store.createKey(org: org, wanted, by: maker) }
                guard case .forbidden? = error as? StoreFault else {
                    Issue.record("\(wanted): \(String(describing: error))")
                    continue
                }
            }
            var unknown = NewKey(name: "x", scopes: ["read"])
            unknown.inboxes = [InboxID()]
            let error = await failure { _ = try await store.createKey(org: org, unknown) }
            #expect(error as? StoreFault == .unknown("Inbox not found"))
            unknown.inboxes = []
            unknown.domains = [domain.id, DomainID()]
            let noDomain = await failure { _ = try await store.createKey(org: org, unknown) }
            #expect(noDomain as? StoreFault == .unknown("Domain not found"))
            #expect(try await store.keys(org: org, limit: 100).elements.map(\.name) == ["child", "maker"])
        }
    }

    @Test("a revoked key stays revoked, in the list too, and another organization cannot revoke it")
    func revoke() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let other = try await store.createOrganization(named: "Other")
            let key = try await store.createKey(org: org, name: "x", scopes: ["read"])
            #expect(try await store.revokeKey(key.id, org: other) == nil)
            #expect(try await store.caller(secret: key.secret) != nil)
            let first = try #require(try await store.revokeKey(key.id, org: org))
            #expect(first.status == "revoked")
            #expect(try await store.caller(secret: key.secret) == nil)
            let again = try #require(try await store.revokeKey(key.id, org: org))
            #expect(again.revokedAt == first.revokedAt)
            #expect(try await store.keys(org: org, limit: 100).elements.map(\.status) == ["revoked"])
        }
    }

    @Test("its last use is noted, and not again within a minute")
    func lastUse() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let key = try await store.createKey(org: org, name: "x", scopes: ["read"])
            func lastUse() async throws -> Timestamp? {
                try await store.keys(org: org, limit: 1).elements.first?.lastUsedAt
            }
            #expect(try await lastUse() == nil)
            _ = try await store.caller(secret: key.secret)
            let first = try #require(try await lastUse())
            _ = try await store.caller(secret: key.secret)
            #expect(try await lastUse() == first)
            try await store.database.query(
                .tenant(org),
                "UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds'"
            )
            _ = try await store.caller(secret: key.secret)
            #expect(try #require(try await lastUse()) >= first)
        }
    }

    @Test("keys are listed newest first, page by page")
    func pages() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            for number in 1...5 {
                _ = try await store.createKey(org: org, name: "\(number)", scopes: ["read"])
            }
            var names: [String] = []
            var cursor: Cursor?
            repeat {
                let page = try await store.keys(org: org, after: cursor, limit: 2)
                names += page.elements.map(\.name)
                cursor = page.next
            } while cursor != nil
            #expect(names == ["5", "4", "3", "2", "1"])
        }
    }

    @Test("an organization's name is taken once")
    func names() async throws {
        try await withStore { store in
            let id = try await store.createOrganization(named: "Acme")
            #expect(try await store.organization(named: "Acme") == id)
            #expect(try await store.organization(named: "acme") == nil)
            let error = await failure { _ = try await store.createOrganization(named: "Acme") }
            guard case .taken? = error as? StoreFault else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    @Test("the platform's domain is made once, however many ask for it first, and its keys sign")
    func platformDomain() async throws {
        try await withStore { store in
            let ids = try await withThrowingTaskGroup(of: DomainID.self) { group in
                for _ in 0..<3 {
                    group.addTask { try await store.platformDomain(named: "agents.test").id }
                }
                return try await group.reduce(into: Set<DomainID>()) { $0.insert($1) }
            }
            #expect(ids.count == 1)
            let org = try await store.createOrganization(named: "Acme")
            let signers = try #require(try await store.signers(domain: "agents.test", org: org))
            #expect(signers.count == 2)
            #expect(try await store.signers(domain: "elsewhere.test", org: org) == nil)
            let rsa = try await store.ownDKIMRecord(domain: "agents.test", selector: "commune")
            #expect(rsa?.hasPrefix("v=DKIM1; k=rsa; p=") == true)
            #expect(try await store.ownDKIMRecord(domain: "agents.test", selector: "other") == nil)
        }
    }
}
