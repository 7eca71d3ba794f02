// The rule of a verification: what a look at the DNS makes of a domain.

import Database
import Foundation
import Mail
import Platform
import Queue
import Testing

@testable import Store

/// Answers that are as expected for every record, but for those given.
func answers(
    to domain: Domain,
    but others: [DomainRecord.Kind: RecordAnswer] = [:]
) -> [RecordAnswer] {
    domain.records.map { record in
        if let other = others[record.kind] { return other }
        return switch record.type {
        case .txt: .texts([record.value])
        case .mx: .exchangers([.init(preference: 10, host: record.value)])
        }
    }
}

extension Store {
    static let hosts = MailHosts(
        receiving: "mx.platform.test",
        bounce: "bounce.platform.test",
        spfInclude: "platform.test"
    )

    /// A domain whose verification was asked for.
    func pendingDomain(_ name: String, org: OrgID) async throws -> Domain {
        let domain = try await createDomain(
            org: org,
            name: DomainName(name),
            givenName: name,
            region: .usEast1,
            hosts: Self.hosts
        )
        _ = try await requestVerification(of: domain.id, org: org, hosts: [.usEast1: Self.hosts])
        return try await reread(domain, org: org)
    }

    /// The domain as it is now.
    func reread(_ domain: Domain, org: OrgID) async throws -> Domain {
        try #require(try await self.domain(domain.id, org: org))
    }

    /// One look, as the job has it; returns the domain afterwards.
    @discardableResult
    func look(
        at domain: Domain,
        org: OrgID,
        but others: [DomainRecord.Kind: RecordAnswer] = [:]
    ) async throws -> Domain {
        let seen = answers(to: domain, but: others)
        try await database.transaction(.worker) { transaction in
            _ = try await record(seen, of: domain, org: org, in: transaction)
        }
        return try await reread(domain, org: org)
    }

    /// Lets time pass for a domain.
    func age(_ domain: Domain, hours: Int) async throws {
        try await database.query(
            .worker,
            """
            UPDATE domains SET verify_from = verify_from - \(hours) * interval '1 hour',
                next_check_at = next_check_at - \(hours) * interval '1 hour' WHERE id = \(domain.id)
            """
        )
    }
}

@Suite("Verification of domains")
struct DomainVerificationTests {
    @Test("the needed records seen in one look verify a domain; the others have their own status")
    func needed() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            var domain = try await store.pendingDomain("example.com", org: org)
            #expect(domain.status == .pending)
            for missing in [DomainRecord.Kind.dkimRSA, .returnPathMX, .returnPathSPF] {
                domain = try await store.look(at: domain, org: org, but: [missing: .noSuchName])
                #expect(domain.status == .pending, "\(missing)")
                #expect(domain.verifiedAt == nil)
            }
            // Each was seen by now, but never all at once.
            domain = try await store.look(
                at: domain,
                org: org,
                but: [.dkimEd25519: .noSuchName, .receiving: .exchangers([]), .dmarc: .texts(["nothing"])]
            )
            #expect(domain.status == .verified)
            #expect(domain.verifiedAt != nil)
            let statuses = Dictionary(uniqueKeysWithValues: domain.records.map { ($0.kind, $0.status) })
            #expect(statuses[.dkimRSA] == .verified)
            #expect(statuses[.dkimEd25519] == .failed, "it was there before, and is gone")
            #expect(domain.records.allSatisfy { $0.found != nil })
        }
    }

    @Test("a DNS without answers changes no status, and says so")
    func unknown() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            var domain = try await store.pendingDomain("example.com", org: org)
            let silent = Dictionary(
                uniqueKeysWithValues: DomainRecord.Kind.allCases.map {
                    ($0, RecordAnswer.noAnswer("SERVFAIL"))
                }
            )
            domain = try await store.look(at: domain, org: org, but: silent)
            #expect(domain.status == .pending)
            #expect(domain.records.allSatisfy { $0.status == .pending && $0.found == "no answer: SERVFAIL" })
            domain = try await store.look(at: domain, org: org)
            #expect(domain.status == .verified)
            domain = try await store.look(at: domain, org: org, but: silent)
            #expect(domain.status == .verified)
            #expect(domain.records.allSatisfy { $0.status == .verified && $0.found == "no answer: SERVFAIL" })
            #expect(domain.recordsLostAt == nil)
        }
    }

    @Test("it is given up after 72 hours, with what is missing, and begins again when asked")
    func givenUp() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            var domain = try await store.pendingDomain("example.com", org: org)
            try await store.age(domain, hours: 71)
            domain = try await store.look(at: domain, org: org, but: [.dkimRSA: .noSuchName])
            #expect(domain.status == .pending)
            try await store.age(domain, hours: 2)
            domain = try await store.look(at: domain, org: org, but: [.dkimRSA: .noSuchName])
            #expect(domain.status == .failed)
            #expect(domain.failure?.contains("commune._domainkey.example.com") == true)
            #expect(domain.records.first?.status == .failed)
            #expect(try await store.domainToVerify(domain.id, org: org) == nil)
            _ = try await store.requestVerification(of: domain.id, org: org, hosts: [:])
            domain = try await store.look(at: try await store.reread(domain, org: org), org: org)
            #expect(domain.status == .verified)
            #expect(domain.failure == nil)
        }
    }

    @Test("a verified domain stays verified when its records vanish, and notes since when they lack")
    func vanished() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            var domain = try await store.look(
                at: try await store.pendingDomain("example.com", org: org),
                org: org
            )
            domain = try await store.look(at: domain, org: org, but: [.dmarc: .noSuchName])
            #expect(domain.recordsLostAt == nil)
            domain = try await store.look(at: domain, org: org, but: [.dkimRSA: .noSuchName])
            #expect(domain.status == .verified)
            let lost = try #require(domain.recordsLostAt)
            #expect(domain.records.first?.status == .failed)
            domain = try await store.look(at: domain, org: org, but: [.dkimRSA: .noAnswer("timed out")])
            #expect(domain.recordsLostAt == lost)
            domain = try await store.look(at: domain, org: org)
            #expect(domain.recordsLostAt == nil)
            #expect(domain.records.first?.status == .verified)
        }
    }

    @Test("looks grow rarer: a minute at first, at most an hour, daily once verified")
    func rarer() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let domain = try await store.pendingDomain("example.com", org: org)
            let begun = try #require(domain.verifyFrom)
            let none = domain.records.map { _ in RecordAnswer.noSuchName }
            func next(_ elapsed: Duration, _ answers: [RecordAnswer]) -> Duration? {
                DomainVerification(of: domain, answers: answers, now: begun + elapsed).nextCheck
            }
            #expect(next(.zero, none) == .seconds(60))
            #expect(next(.seconds(240), none) == .seconds(60))
            #expect(next(.seconds(1200), none) == .seconds(300))
            #expect(next(.seconds(50_000), none) == .seconds(3600))
            #expect(next(.seconds(72 * 3600), none) == nil)
            #expect(next(.zero, answers(to: domain)) == .seconds(86_400))
        }
    }

    @Test("a look that is due becomes one job, and is put off until that job has said when the next is")
    func due() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let asked = try await store.createDomain(
                org: org,
                name: DomainName("asked.com"),
                givenName: "asked.com",
                region: .usEast1,
                hosts: Store.hosts
            )
            #expect(try await store.startDueVerifications(limit: 10).isEmpty)
            let first = try await store.requestVerification(of: asked.id, org: org, hosts: [:])
            #expect(first.tickets.count == 1)
            // Asked again while the job waits: the same job.
            #expect(try await store.requestVerification(of: asked.id, org: org, hosts: [:]).tickets.isEmpty)
            #expect(try await store.startDueVerifications(limit: 10).isEmpty)
            try await store.database.query(.worker, "DELETE FROM jobs")
            try await store.age(asked, hours: 1)
            #expect(try await store.startDueVerifications(limit: 10).count == 1)
            #expect(try await store.startDueVerifications(limit: 10).isEmpty)
            let jobs = try await store.database.query(
                .tenant(org),
                "SELECT queue, unique_key, payload->>'domain' AS domain FROM jobs"
            )
            #expect(try only(jobs)("queue") == QueueName.verifyDomain)
            #expect(try only(jobs)("unique_key") == asked.id.description)
            #expect(try only(jobs)("domain") == asked.id.description)
        }
    }

    @Test("when the platform's hosts change, asking again changes what the records must say, and no key")
    func hostsChange() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let before = try await store.look(
                at: try await store.pendingDomain("example.com", org: org),
                org: org
            )
            let hosts = MailHosts(
                receiving: "new.test",
                bounce: "bounce.platform.test",
                spfInclude: "platform.test"
            )
            _ = try await store.requestVerification(of: before.id, org: org, hosts: [.usEast1: hosts])
            let after = try await store.reread(before, org: org)
            #expect(after.status == .verified)
            for (old, new) in zip(before.records, after.records) {
                if old.kind == .receiving {
                    #expect(new.value == "new.test" && new.status == .pending && new.found == nil)
                } else {
                    #expect(new == old)
                }
            }
            // A look that was under way answers other questions, and is not written down.
            let late = try await store.look(at: before, org: org)
            #expect(late.checkedAt == after.checkedAt)
        }
    }
}
