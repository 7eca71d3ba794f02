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
