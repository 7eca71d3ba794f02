// Domains of an organization without a DNS: their records are seen because the test says so.

import Database
import HTTPTypes
import Mail
import Platform
import Testing

@testable import Store

extension APIPlatform {
    /// A domain of the organization, made by the store.
    func makeDomain(_ name: String, org: OrgID? = nil, verified: Bool = true) async throws -> Domain {
        let org = org ?? self.org
        let domain = try await store.createDomain(
            org: org,
            name: DomainName(name),
            givenName: name,
            region: .usEast1,
            hosts: MailHosts(receiving: "mx.test", bounce: "b.test", spfInclude: "spf.test")
        )
        guard verified else { return domain }
        _ = try await store.requestVerification(of: domain.id, org: org, hosts: [:])
        try await look(at: domain.id, org: org)
        return try #require(try await store.domain(domain.id, org: org))
    }

    /// One look at a domain's records, as the job has it; all are as expected, but for those given.
    func look(
        at id: DomainID,
        org: OrgID? = nil,
        but others: [DomainRecord.Kind: RecordAnswer] = [:]
    ) async throws {
        let org = org ?? self.org
        let domain = try #require(try await store.domainToVerify(id, org: org))
        let answers = domain.records.map { record -> RecordAnswer in
            others[record.kind]
                ?? (record.type == .txt
                    ? .texts([record.value]) : .exchangers([.init(preference: 10, host: record.value)]))
        }
        try await database.transaction(.worker) { transaction in
            _ = try await store.record(answers, of: domain, org: org, in: transaction)
        }
    }

    /// An inbox on one of the organization's own domains.
    func makeInbox(
        _ localPart: String,
        on domain: Domain,
        name: String? = nil,
        webhook: WebhookChange = WebhookChange()
    ) async throws -> Inbox {
        let home = try #require(try await store.inboxDomain(domain.id, org: org))
        return try await store.createInbox(
            org: org,
            localPart: localPart,
            displayName: name,
            webhook: webhook,
            on: home
        )
    }

    /// Calls with the organization's key.
    func put(_ path: String, _ body: JSON) async throws -> Reply {
        try await call(.put, path, key: key, raw: body.bytes)
    }

    func patch(_ path: String, _ body: JSON) async throws -> Reply {
        try await call(.patch, path, key: key, raw: body.bytes)
    }

    func delete(_ path: String) async throws -> Reply { try await call(.delete, path, key: key, raw: nil) }
}
