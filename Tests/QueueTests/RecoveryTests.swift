// Jobs whose workers died, and jobs that Redis does not know: how PostgreSQL finds them.

import Database
import Platform
import TestSupport
import Testing

@testable import Queue

@Suite("Recovery")
struct RecoveryTests {
    @Test("three crashes make a job a dead letter that says why")
    func crashes() async throws {
        try await withDatabase { database in
            let job = try NewJob(org: OrgID(), queue: "q", payload: ["k": 1])
            try await database.query(.worker, Jobs.insert([job]))
            for crash in 1...Jobs.crashesMax {
                let claimed = try await database.claim([job])[0]
                let expired = ExpiredLease(
                    id: job.id,
                    org: job.org,
                    generation: claimed.generation - 1,
                    token: ""
                )
                let stale = ExpiredLease(id: job.id, org: job.org, generation: claimed.generation, token: "")
                #expect(try await database.query(.worker, Jobs.reap([stale])).isEmpty)
                let reaped = try await database.query(.worker, Jobs.reap([expired]))
                let row = try #require(reaped.first)
                #expect(try row("state") == (crash < Jobs.crashesMax ? "queued" : "dead"))
                #expect(try row("crash_count") == crash)
                #expect(try row("payload") == #"{"k": 1}"#)
            }
            let row = try await database.row(of: job)
            #expect(try (row("last_error") as String?)?.contains("3 time") == true)
            #expect(try (row("finished_at") as Timestamp?) != nil)
        }
    }

    @Test("running jobs are taken back whose worker's heartbeat is old, missing, or does not name them")
    func orphans() async throws {
        try await withDatabase { database in
            let jobs = try (0..<6).map { _ in try NewJob(org: OrgID(), queue: "q", payload: 0) }
            try await database.query(.worker, Jobs.insert(jobs))
            let (alive, late) = (WorkerID(), WorkerID())
            let named = try await database.claim([jobs[0]], worker: alive)
            let unnamed = try await database.claim([jobs[1]], worker: alive)
            let ofLate = try await database.claim([jobs[2]], worker: late)
            let ofNobody = try await database.claim([jobs[3]])
            try await database.query(.worker, "UPDATE jobs SET started_at = now() - interval '1 minute'")
            // Claimed a moment ago: no heartbeat can name it yet.
            let fresh = try await database.claim([jobs[4]], worker: alive)
            for (worker, age, running) in [(alive, 0, named), (late, 31, ofLate)] {
                try await database.query(
                    .worker,
                    """
                    INSERT INTO workers (id, host, process, queues, running, seen_at)
                    VALUES (\(worker), 'h', 1, '{q}', \(running.map(\.id)), now() - \(age) * interval '1 second')
                    """
                )
            }
            let sweep = Jobs.reapOrphans(queue: "q", heartbeatMax: .seconds(30), limit: 100)
            let other = Jobs.reapOrphans(queue: "other", heartbeatMax: .seconds(30), limit: 100)
            #expect(try await database.query(.worker, other).isEmpty)
            let rows = try await database.query(.worker, sweep)
            let taken = try Set(rows.map { try $0("id") as JobID })
            #expect(taken == Set((unnamed + ofLate + ofNobody).map(\.id)))
            #expect(try await database.query(.worker, sweep).isEmpty)
            #expect(try await database.query(.worker, Jobs.finish([Ending(ofLate[0], .succeeded)])).isEmpty)
            #expect(try await database.query(.worker, Jobs.finish([Ending(named[0], .succeeded)])).count == 1)
            #expect(try await database.query(.worker, Jobs.finish([Ending(fresh[0], .succeeded)])).count == 1)
        }
    }

    @Test("tickets tell of jobs in every state")
    func tickets() async throws {
        try await withDatabase { database in
            let jobs = try (0..<3).map { _ in
                try NewJob(org: OrgID(), queue: "q", lane: "l", priority: .last, payload: 0)
            }
            try await database.query(.worker, Jobs.insert(jobs))
            _ = try await database.claim([jobs[1]])
            let wanted = jobs.prefix(2).map { ($0.org, $0.id) } + [(jobs[2].org, JobID())]
            let rows = try await database.query(.worker, Jobs.tickets(of: wanted))
            let found = try rows.reduce(into: [JobID: String]()) { found, row in
                let ticket = try #require(try Jobs.ticket(row))
                #expect(ticket.lane == "l" && ticket.priority == .last && ticket.queue == "q")
                found[ticket.id] = "\(try row("state") as String) \(ticket.generation)"
            }
            #expect(found == [jobs[0].id: "queued 0", jobs[1].id: "running 1"])
        }
    }

    @Test(
        "the feeder's walk meets every lane once, a page at a time, with its first jobs by priority and time"
    )
    func walk() async throws {
        try await withDatabase { database in
            var jobs: [NewJob] = []
            for _ in 0..<7 {
                let org = OrgID()
                for lane in ["a", "b", "ü"] {
                    for priority in Priority.allCases {
                        for minute in 0..<4 {
                            let runAt = Timestamp.now + .seconds(20 - minute * 100)
                            jobs.append(
                                try NewJob(
                                    org: org,
                                    queue: "q",
                                    lane: lane,
                                    priority: priority,
                                    payload: 0,
                                    runAt: runAt
                                )
                            )
                        }
                    }
                }
                // Beyond the horizon, and others' jobs.
                jobs.append(
                    try NewJob(org: org, queue: "q", lane: "far", payload: 0, runAt: .now + .seconds(500))
                )
                jobs.append(try NewJob(org: org, queue: "other", lane: "a", payload: 0))
            }
            try await database.query(.worker, Jobs.insert(jobs.shuffled()))
            var tickets: [Ticket] = []
            var cursor: LaneCursor?
            var pages: [Int] = []
            repeat {
                let rows = try await database.query(
                    .worker,
                    Jobs.waiting(queue: "q", after: cursor, lanes: 5, window: 3, horizon: .seconds(60))
                )
                var lanes: [LaneCursor] = []
                for row in rows {
                    let lane = LaneCursor(org: try row("org_id"), lane: try row("lane"))
                    if lane != lanes.last { lanes.append(lane) }
                    if let ticket = try Jobs.ticket(row) { tickets.append(ticket) }
                }
                pages.append(lanes.count)
                cursor = lanes.last
            } while pages.last == 5
            #expect(pages == [5, 5, 5, 5, 5, 3])
            let expected = Dictionary(grouping: jobs.filter { $0.queue == "q" && $0.lane != "far" }) {
                "\($0.org) \($0.lane) \($0.priority)"
            }.mapValues { Array($0.sorted { $0.runAt ?? .now < $1.runAt ?? .now }.prefix(3).map(\.id)) }
            let found = Dictionary(grouping: tickets) { "\($0.org) \($0.lane) \($0.priority)" }
                .mapValues { $0.map(\.id) }
            #expect(found == expected)
            // And one lane by itself.
            let one = try await database.query(
                .worker,
                Jobs.waiting(queue: "q", org: jobs[0].org, lane: "ü", window: 3, horizon: .seconds(60))
            )
            let prefix = "\(jobs[0].org) ü"
            let ofLane = try Dictionary(grouping: one.compactMap(Jobs.ticket)) {
                "\($0.org) \($0.lane) \($0.priority)"
            }
            #expect(ofLane.mapValues { $0.map(\.id) } == expected.filter { $0.key.hasPrefix(prefix) })
        }
    }

    @Test("without a schedule each organization has one job a turn, by priority, and pauses hold")
    func withoutSchedule() async throws {
        try await withDatabase { database in
            let (flooding, small, paused, laned) = (OrgID(), OrgID(), OrgID(), OrgID())
            let worker = WorkerID()
            var jobs = try (0..<20).map { _ in try NewJob(org: flooding, queue: "q", payload: 0) }
            let first = try NewJob(org: flooding, queue: "q", priority: .first, payload: 0)
            jobs += [first, try NewJob(org: small, queue: "q", payload: 0)]
            jobs += [
                try NewJob(org: small, queue: "q", priority: .first, payload: 0, runAt: .now + .seconds(60)),
                try NewJob(org: paused, queue: "q", payload: 0),
                try NewJob(org: laned, queue: "q", lane: "held", payload: 0),
                try NewJob(org: laned, queue: "q", lane: "open", payload: 0),
            ]
            try await database.query(.worker, Jobs.insert(jobs))
            try await database.query(
                .worker,
                """
                INSERT INTO queue_control (queue, scope, subject, state)
                VALUES ('q', 'org', \(paused.description), 'paused'), ('q', 'lane', 'held', 'draining')
                """
            )
            func claim(_ limit: Int) async throws -> [ClaimedJob] {
                try await database.query(
                    .worker,
                    Jobs.claimWithoutSchedule(queue: "q", limit: limit, worker: worker)
                ).map(Jobs.claimed)
            }
            let turn = try await claim(10)
            #expect(Set(turn.map(\.org)) == [flooding, small, laned] && turn.count == 3)
            #expect(turn.contains { $0.id == first.id } && turn.contains { $0.lane == "open" })
            #expect(try await claim(10).map(\.org) == [flooding])
            #expect(try await claim(0).isEmpty)
            try await database.query(
                .worker,
                "INSERT INTO queue_control (queue, scope, state) VALUES ('q', 'queue', 'paused')"
            )
            #expect(try await claim(10).isEmpty)
            try await database.query(.worker, "DELETE FROM queue_control")
            let claimed = try await withThrowingTaskGroup(of: [JobID].self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        var mine: [JobID] = []
                        for _ in 0..<40 {
                            let statement = Jobs.claimWithoutSchedule(queue: "q", limit: 10, worker: worker)
                            mine += try await database.query(.worker, statement).map(Jobs.claimed).map(\.id)
                        }
                        return mine
                    }
                }
                return try await group.reduce([], +)
            }
            #expect(claimed.count == 21 && Set(claimed).count == 21)
        }
    }

    @Test("without a schedule caps hold, of rows and by default")
    func capsWithoutSchedule() async throws {
        try await withDatabase { database in
            let (org, other) = (OrgID(), OrgID())
            let jobs = try (0..<10).map { index in
                try NewJob(org: index < 6 ? org : other, queue: "q", lane: index < 3 ? "a" : "b", payload: 0)
            }
            try await database.query(.worker, Jobs.insert(jobs))
            try await database.query(
                .worker,
                """
                INSERT INTO queue_control (queue, scope, subject, concurrency_max)
                VALUES ('q', 'org', \(other.description), 1), ('q', 'lane', 'a', 1)
                """
            )
            var defaults = QueueControl.Defaults()
            defaults.orgConcurrencyMax = 3
            var running: [ClaimedJob] = []
            for _ in 0..<12 {
                let statement = Jobs.claimWithoutSchedule(
                    queue: "q",
                    limit: 10,
                    worker: WorkerID(),
                    defaults: defaults
                )
                running += try await database.query(.worker, statement).map(Jobs.claimed)
            }
            #expect(running.count { $0.org == org } == 3)
            #expect(running.count { $0.org == other } == 1)
            #expect(running.count { $0.lane == "a" } <= 1)
        }
    }

    @Test(
        "without a schedule the thousandth lane has its turn, and a long backlog costs no more than a short one"
    )
    func manyLanesWithoutSchedule() async throws {
        try await withDatabase { database in
            // Organizations of a year, one every few hours, a job each; the last has a backlog.
            try await database.query(
                .worker,
                """
                INSERT INTO jobs (org_id, id, queue, kind, lane, payload, max_attempts)
                SELECT (lpad(to_hex(1735689600000 + least(n, 1000) * 30000000::bigint), 12, '0') || '70008000000000000000')::uuid,
                    gen_random_uuid(), 'q', 'q', 'l', '0', 1
                FROM generate_series(1, 21000) AS n
                """
            )
            try await database.query(.owner, "ANALYZE jobs")
            var orgs: Set<OrgID> = []
            var calls = 0
            while orgs.count < 1000, calls < 300 {
                let statement = Jobs.claimWithoutSchedule(queue: "q", limit: 50, worker: WorkerID())
                let claimed = try await database.query(.worker, statement).map(Jobs.claimed)
                #expect(Set(claimed.map(\.org)).count == claimed.count)
                orgs.formUnion(claimed.map(\.org))
                calls += 1
            }
            #expect(orgs.count == 1000, "after \(calls) calls")
        }
    }
}
