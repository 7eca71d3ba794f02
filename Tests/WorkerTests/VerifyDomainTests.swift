// The job `verify-domain` with a real DNS and a real database: what stands in the DNS is what the domain says.

import DNS
import Database
import Logging
import Mail
import Platform
import Queue
import Store
import TestSupport
import Testing

@testable import Worker

private let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

/// A domain whose verification was asked for, and a job for it.
private struct Stage {
    let store: Store
    let org: OrgID
    let domain: Domain
    let job: ClaimedJob

    static func with(_ name: String, _ body: (Stage) async throws -> Void) async throws {
        let migrate: @Sendable (String) async throws -> Void = { url in
            let database = Database(Database.Configuration(url: url), logger: quiet)
            try await Migrator(database, logger: quiet).run()
            await database.close()
        }
        try await TestDatabase.with(template: Migrator.fingerprint, migrating: migrate) { made in
            let database = Database(Database.Configuration(url: made.url), logger: quiet)
            let secrets = SecretBox(masterKey: [UInt8](repeating: 5, count: 32))
            let store = Store(database, secrets: secrets)
            let org = try await store.createOrganization(named: "Acme")
            let hosts = MailHosts(
                receiving: "mx.platform.test",
                bounce: "b.platform.test",
                spfInclude: "spf.platform.test"
            )
            let domain = try await store.createDomain(
                org: org,
                name: DomainName(name),
                givenName: name,
                region: .usEast1,
                hosts: hosts
            )
            let asked = try await store.requestVerification(of: domain.id, org: org, hosts: [:])
            #expect(asked.tickets.count == 1)
            let rows = try await database.query(
                .worker,
                Jobs.claimWithoutSchedule(queue: QueueName.verifyDomain, limit: 1, worker: WorkerID())
            )
            let row = try #require(rows.first)
            let job = try Jobs.claimed(row)
            try await body(Stage(store: store, org: org, domain: domain, job: job))
            await database.close()
        }
    }

    /// Runs the job once and writes down what it found.
    func verify(_ dns: DNSServer, timeout: Duration = .seconds(2)) async throws -> Domain {
        try await verify(HostPort(host: "127.0.0.1", port: dns.port), timeout: timeout)
    }

    func verify(_ server: HostPort, timeout: Duration) async throws -> Domain {
        let configuration = UnboundResolver.Configuration(server: server, timeout: timeout)
        let resolver = try UnboundResolver(configuration, logger: quiet)
        let work = VerifyDomain(store: store, resolver: resolver, logger: quiet)
        let completion = try await work.attempt(job, Progress())
        guard case .succeeded = completion.outcome, case .transaction(let effects) = completion.effects else {
            Issue.record("\(completion)")
            return domain
        }
        try await store.database.transaction(.worker) { try await effects($0) }
        return try #require(try await store.domain(domain.id, org: org))
    }

    func value(_ kind: DomainRecord.Kind) throws -> String {
        try #require(domain.records.first { $0.kind == kind }).value
    }

    /// A TXT record in strings of at most 255 octets, as the DNS has it.
    func txt(_ name: String, _ text: String) -> String {
        let pieces = stride(from: 0, to: text.count, by: 200).map { start in
            "\"\(text.dropFirst(start).prefix(200))\""
        }
        return "\(name). 60 IN TXT \(pieces.joined(separator: " "))"
    }

    /// What a customer publishes who does all as told.
    func published() throws -> [String] {
        let name = domain.name
        return [
            txt("commune._domainkey.\(name)", try value(.dkimRSA)),
            txt("commune-ed._domainkey.\(name)", try value(.dkimEd25519)),
            "send.\(name). 60 IN MX 10 b.platform.test.",
            txt("send.\(name)", try value(.returnPathSPF)),
            "\(name). 60 IN MX 10 mx.platform.test.",
            txt("_dmarc.\(name)", "v=DMARC1; p=reject; rua=mailto:someone@example.org"),
        ]
    }
}

@Suite("The job verify-domain", .timeLimit(.minutes(2)))
struct VerifyDomainTests {
    @Test("all records as told verify the domain, also a key in pieces and a DMARC policy of one's own")
    func all() async throws {
        try await Stage.with("example.test") { stage in
            let domain = try await stage.verify(try await DNSServer(try stage.published()))
            #expect(domain.status == .verified)
            #expect(domain.records.allSatisfy { $0.status == .verified && $0.detail == nil })
            #expect(domain.records[0].found == domain.records[0].value)
            #expect(domain.records[5].found == "v=DMARC1; p=reject; rua=mailto:someone@example.org")
        }
    }

    @Test("others' records at the same names do no harm")
    func crowded() async throws {
        try await Stage.with("example.test") { stage in
            let name = stage.domain.name
            var records = try stage.published().filter { !$0.contains("include:") }
            records += [
                stage.txt("commune._domainkey.\(name)", "some other text"),
                "send.\(name). 60 IN MX 5 elsewhere.test.",
                stage.txt("send.\(name)", "v=spf1 include:a.test include:spf.platform.test mx -all"),
                stage.txt("send.\(name)", "verification=1"),
            ]
            let domain = try await stage.verify(try await DNSServer(records))
            #expect(domain.status == .verified)
            #expect(domain.records[2].found == "5 elsewhere.test | 10 b.platform.test")
        }
    }

    @Test("half the records: the domain is pending, and each record says what was found")
    func half() async throws {
        try await Stage.with("example.test") { stage in
            let name = stage.domain.name
            let domain = try await stage.verify(
                try await DNSServer([
                    stage.txt("commune._domainkey.\(name)", String(try stage.value(.dkimRSA).dropLast(20))),
                    "send.\(name). 60 IN MX 10 b.platform.test.",
                    "\(name). 60 IN TXT \"v=spf1 include:spf.platform.test ~all\"",
                ])
            )
            #expect(domain.status == .pending)
            let (key, ed, mx, spf, receiving) = (
                domain.records[0], domain.records[1], domain.records[2], domain.records[3], domain.records[4]
            )
            #expect(key.status == .pending && key.detail?.contains("cut") == true)
            #expect(ed.status == .pending && ed.found == "no record: the name does not exist")
            #expect(mx.status == .verified)
            #expect(spf.status == .pending && spf.found == "no record")
            #expect(receiving.status == .pending && receiving.found == "no record")
            #expect(domain.checkedAt != nil)
        }
    }

    @Test("a DNS that fails, or answers with nonsense, leaves the domain pending and says so")
    func fails() async throws {
        try await Stage.with("dead.test") { stage in
            let closed = try ServerProcess.freePort()
            let server = try await DNSServer([], forwarding: ["dead.test": "127.0.0.1@\(closed)"])
            let domain = try await stage.verify(server)
            #expect(domain.status == .pending)
            for record in domain.records {
                #expect(record.status == .pending && record.found == "no answer: DNS failure: SERVFAIL")
            }
        }
        try await Stage.with("example.test") { stage in
            let name = stage.domain.name
            let domain = try await stage.verify(
                try await DNSServer([
                    "commune._domainkey.\(name). 60 IN TXT \"v=DKIM1; p=\" \"\\001\\002!!\"",
                    "send.\(name). 60 IN MX 0 .", "send.\(name). 60 IN TXT \"v=spf1 v=spf1\"",
                    "\(name). 60 IN CNAME \(name).",
                ])
            )
            #expect(domain.status == .pending)
            #expect(domain.records.allSatisfy { $0.status == .pending && $0.found != nil })
            #expect(domain.records[0].found == "v=DKIM1; p=\u{FFFD}\u{FFFD}!!")
            #expect(domain.records[2].found == "0 .")
            #expect(domain.records[4].found?.hasPrefix("no answer: ") == true)
        }
    }

    @Test("a DNS that never answers ends the look in time")
    func silent() async throws {
        try await Stage.with("example.test") { stage in
            // Nobody listens, and loopback refuses at once what no one answers: a black hole is a network of its own.
            let server = HostPort(host: "192.0.2.1", port: 53)
            let clock = ContinuousClock()
            let start = clock.now
            let domain = try await stage.verify(server, timeout: .milliseconds(800))
            #expect(clock.now - start < .seconds(20))
            #expect(domain.status == .pending)
            #expect(domain.records.allSatisfy { $0.found?.hasPrefix("no answer: ") == true })
        }
    }

    @Test("a domain that nobody wants verified any more is not looked at")
    func unwanted() async throws {
        try await Stage.with("example.test") { stage in
            try await stage.store.database.query(.worker, "UPDATE domains SET status = 'failed'")
            let resolver = try UnboundResolver(
                UnboundResolver.Configuration(server: HostPort(host: "127.0.0.1", port: 1)),
                logger: quiet
            )
            let work = VerifyDomain(store: stage.store, resolver: resolver, logger: quiet)
            let completion = try await work.attempt(stage.job, Progress())
            guard case .succeeded = completion.outcome, case .statements(let none) = completion.effects else {
                Issue.record("\(completion)")
                return
            }
            #expect(none.isEmpty)
        }
    }
}
