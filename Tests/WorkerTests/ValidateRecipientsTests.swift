// The job `validate-recipients` with a real DNS and a real database: who takes mail gets it, once, and who does not has
// failed with a reason, whatever the DNS does meanwhile.

import DNS
import Database
import Foundation
import Logging
import Platform
import Queue
import Redis
import Store
import TestSupport
import Testing
import Validation

@testable import Worker

private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

extension SendFixture {
    fileprivate func judging(
        _ server: HostPort,
        patience: Duration = .seconds(10),
        _ body: (ValidateRecipients) async throws -> Void
    ) async throws {
        let redis = Redis(try await .patient(RedisServer.sharedURL()), logger: quiet)
        let store = store
        let resolver = try UnboundResolver(.init(server: server), logger: quiet)
        let verdicts = DomainVerdicts(
            resolver: resolver,
            redis: redis,
            routed: RoutedDomains([]),
            hosted: { try await store.hostedDomains(among: $0) }
        )
        try await body(
            ValidateRecipients(store: store, verdicts: verdicts, logger: quiet, patience: patience)
        )
        await redis.close()
    }

    fileprivate func judging(
        _ dns: DNSServer,
        patience: Duration = .seconds(10),
        _ body: (ValidateRecipients) async throws -> Void
    ) async throws {
        try await judging(HostPort(host: "127.0.0.1", port: dns.port), patience: patience, body)
    }

    /// Claims the jobs of a queue that are due.
    fileprivate func claim(_ queue: String) async throws -> [ClaimedJob] {
        var jobs: [ClaimedJob] = []
        while true {
            let rows = try await store.database.query(
                .worker,
                Jobs.claimWithoutSchedule(queue: queue, limit: 1, worker: WorkerID())
            )
            guard let row = rows.first else { return jobs }
            jobs.append(try Jobs.claimed(row))
        }
    }

    /// Runs every validation that is due, once each; says how each ended.
    @discardableResult
    fileprivate func judge(_ work: ValidateRecipients) async throws -> [Outcome] {
        var outcomes: [Outcome] = []
        for job in try await claim(QueueName.validateRecipients) {
            let completion = try await work.attempt(job, Progress())
            await finisher.finish(job, token: nil, completion)
            outcomes.append(completion.outcome)
        }
        return outcomes
    }

    /// `queue domain ordinal state` of each job.
    fileprivate var jobs: [String] {
        get async throws {
            try await lines(
                """
                SELECT queue || ' ' || (payload ->> 'domain') || coalesce(' ' || (payload ->> 'recipient'), '') || ' '
                    || state::text AS line FROM jobs ORDER BY 1
                """
            )
        }
    }

    /// `type recipient detail` of each event.
    fileprivate var events: [String] {
        get async throws {
            try await lines(
                "SELECT event_type || ' ' || recipient || ' ' || detail AS line FROM delivery_events ORDER BY 1"
            )
        }
    }
}

/// A name of which no other test's verdict in the shared Redis is.
private func name() -> String { "d\(UInt64.random(in: 0...UInt64.max)).example" }

@Suite("The job validate-recipients", .serialized, .timeLimit(.minutes(3)))
struct ValidateRecipientsTests {
    @Test("makes the send jobs of who takes mail, and gives up who does not, each with an event")
    func verdicts() async throws {
        let (mx, address, null, text, missing) = (name(), name(), name(), name(), name())
        let dns = try await DNSServer([
            "\(mx). 60 IN MX 10 mx.\(mx).", "\(address). 60 IN A 192.0.2.1", "\(null). 60 IN MX 0 .",
            "\(text). 60 IN TXT \"only text\"",
        ])
        try await SendFixture.with { fixture in
            let domains = [mx, address, null, text, missing]
            try await fixture.send(domains.map { "a@\($0)" } + ["b@\(missing)", "known@x.test"]) {
                $0.unjudgedDomains = Set(domains)
            }
            #expect(
                try await fixture.jobs
                    == (["send x.test queued"] + domains.map { "validate-recipients \($0) queued" }).sorted()
            )
            try await fixture.judging(dns) { try await fixture.judge($0) }
            let sends = [mx, address, "x.test"].map { "send \($0) queued" }
            #expect(
                try await fixture.jobs
                    == (sends + domains.map { "validate-recipients \($0) succeeded" }).sorted()
            )
            #expect(
                try await fixture.recipients == [
                    "a@\(mx) queued", "a@\(address) queued", "a@\(null) failed", "a@\(text) failed",
                    "a@\(missing) failed", "b@\(missing) failed", "known@x.test queued",
                ]
            )
            let failed = ["a@\(null)", "a@\(text)", "a@\(missing)", "b@\(missing)"]
            #expect(
                try await fixture.events == failed.map { "email.failed \($0) No MX records found" }.sorted()
            )
        }
    }

    @Test("each recipient with an unsubscribe link has a send job of its own")
    func apart() async throws {
        let domain = name()
        let dns = try await DNSServer(["\(domain). 60 IN MX 10 mx.\(domain)."])
        try await SendFixture.with { fixture in
            try await fixture.send(["x@known.test", "a@\(domain)", "b@\(domain)"]) {
                $0.unjudgedDomains = [domain]
                $0.listUnsubscribe = true
                $0.unsubscribeURL = "https://x.test/u?token="
            }
            try await fixture.judging(dns) { try await fixture.judge($0) }
            #expect(
                try await fixture.jobs
                    == [
                        "send \(domain) 1 queued", "send \(domain) 2 queued", "send known.test 0 queued",
                        "validate-recipients \(domain) succeeded",
                    ].sorted()
            )
        }
    }

    @Test(
        "a DNS that fails, is silent or answers nonsense is asked again, and in the end the send finds out",
        arguments: ["SERVFAIL", "silent", "nonsense"]
    )
    func unknown(_ fault: String) async throws {
        let domain = name()
        let closed = try ServerProcess.freePort()
        let records = fault == "nonsense" ? ["\(domain). 60 IN CNAME \(domain)."] : []
        let dns = try await DNSServer(
            records,
            forwarding: fault == "SERVFAIL" ? [domain: "127.0.0.1@\(closed)"] : [:]
        )
        if fault == "silent" { dns.kill() }
        try await SendFixture.with { fixture in
            try await fixture.send(["a@\(domain)"]) { $0.unjudgedDomains = [domain] }
            try await fixture.judging(dns, patience: .milliseconds(500)) { work in
                for attempt in 1..<ValidateRecipientsPayload.attemptsMax {
                    let outcomes = try await fixture.judge(work)
                    guard case .retry(let delay, _)? = outcomes.first, outcomes.count == 1 else {
                        Issue.record("\(attempt): \(outcomes)")
                        return
                    }
                    #expect(delay > .seconds(1) && delay < .seconds(80))
                    #expect(try await fixture.jobs == ["validate-recipients \(domain) queued"])
                    try await fixture.makeDue()
                }
                try await fixture.judge(work)
            }
            #expect(
                try await fixture.jobs == [
                    "send \(domain) queued", "validate-recipients \(domain) succeeded",
                ]
            )
            #expect(try await fixture.recipients == ["a@\(domain) queued"])
        }
    }

    @Test("a DNS that comes back is believed")
    func back() async throws {
        let domain = name()
        let dns = try await DNSServer([])
        dns.kill()
        try await SendFixture.with { fixture in
            try await fixture.send(["a@\(domain)"]) { $0.unjudgedDomains = [domain] }
            try await fixture.judging(dns) { work in
                let quick = ValidateRecipients(
                    store: work.store,
                    verdicts: work.verdicts,
                    logger: quiet,
                    patience: .milliseconds(300)
                )
                try await fixture.judge(quick)
                #expect(try await fixture.recipients == ["a@\(domain) queued"])
                try await dns.start()
                try await fixture.makeDue()
                try await fixture.judge(work)
            }
            #expect(try await fixture.recipients == ["a@\(domain) failed"])
        }
    }

    @Test("an attempt that was given up for dead writes nothing, however late it ends: nothing is sent twice")
    func fenced() async throws {
        let domain = name()
        let dns = try await DNSServer(["\(domain). 60 IN MX 10 mx.\(domain)."])
        try await SendFixture.with { fixture in
            try await fixture.send(["a@\(domain)"]) { $0.unjudgedDomains = [domain] }
            try await fixture.judging(dns) { work in
                let first = try #require(try await fixture.claim(QueueName.validateRecipients).first)
                let late = try await work.attempt(first, Progress())
                // Its worker hung before it could write: the job is taken back and runs elsewhere.
                try await fixture.store.database.query(
                    .worker,
                    "UPDATE jobs SET state = 'queued', gen = gen + 1, crash_count = 1"
                )
                try await fixture.judge(work)
                await fixture.finisher.finish(first, token: nil, late)
            }
            #expect(
                try await fixture.jobs == [
                    "send \(domain) queued", "validate-recipients \(domain) succeeded",
                ]
            )
        }
    }

    @Test("a message that is gone needs no judgement; a payload that cannot be read dies")
    func gone() async throws {
        let dns = try await DNSServer([])
        try await SendFixture.with { fixture in
            try await fixture.send(["a@gone.test"]) { $0.unjudgedDomains = ["gone.test"] }
            try await fixture.store.database.query(.worker, "DELETE FROM messages")
            try await fixture.judging(dns) { work in
                let outcomes = try await fixture.judge(work)
                guard case .succeeded? = outcomes.first else {
                    Issue.record("\(outcomes)")
                    return
                }
                #expect(try await fixture.jobs == ["validate-recipients gone.test succeeded"])
                try await fixture.send(["b@gone.test"]) { $0.unjudgedDomains = ["gone.test"] }
                try await fixture.store.database.query(
                    .worker,
                    "UPDATE jobs SET payload = '{\"x\": 1}' WHERE state = 'queued'"
                )
                let job = try #require(try await fixture.claim(QueueName.validateRecipients).first)
                await #expect(throws: WorkFault.self) { _ = try await work.attempt(job, Progress()) }
            }
        }
    }

    @Test("cancelled or buried it gives its recipients up, and replayed it judges them after all")
    func buried() async throws {
        let (domain, other) = (name(), name())
        let dns = try await DNSServer(["\(domain). 60 IN MX 10 mx.\(domain)."])
        try await SendFixture.with { fixture in
            let database = fixture.store.database
            try await fixture.send(["a@\(domain)", "b@\(other)"]) { $0.unjudgedDomains = [domain, other] }
            let rows = try await database.query(
                .worker,
                "SELECT org_id, id FROM jobs WHERE payload ->> 'domain' = \(other)"
            )
            let key = try JobKey(try #require(rows.first))
            _ = try await fixture.store.cancel(
                [key],
                queue: QueueName.validateRecipients,
                reason: "An operator cancelled it."
            )
            let job = try #require(try await fixture.claim(QueueName.validateRecipients).first)
            try await fixture.judging(dns) { work in
                let effects = try await work.burial(payload: job.payload, org: job.org, reason: "It crashed.")
                await fixture.finisher.finish(
                    job,
                    token: nil,
                    Completion(outcome: .dead(reason: "It crashed."), effects: .statements(effects))
                )
                #expect(try await fixture.recipients == ["a@\(domain) failed", "b@\(other) failed"])
                #expect(
                    try await fixture.events
                        == [
                            "email.failed a@\(domain) It crashed.",
                            "email.failed b@\(other) An operator cancelled it.",
                        ].sorted()
                )
                let replayed = try await fixture.store.replayDead(
                    DeadLetterFilter(queue: QueueName.validateRecipients)
                )
                #expect(replayed == 1)
                #expect(try await fixture.recipients[0] == "a@\(domain) queued")
                try await fixture.judge(work)
            }
            #expect(try await fixture.jobs.contains("send \(domain) queued"))
        }
    }
}
