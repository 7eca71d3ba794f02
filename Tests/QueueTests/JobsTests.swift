// The queue's truth on a real PostgreSQL: who gets a job, and who may end it.

import Database
import Foundation
import Platform
import TestSupport
import Testing

@testable import Queue

@Suite("Jobs")
struct JobsTests {
    @Test("a job is claimed as it was inserted, once")
    func claim() async throws {
        try await withDatabase { database in
            let job = try NewJob(
                org: OrgID(),
                queue: "send",
                lane: "lane",
                priority: .first,
                payload: ["a": "ü 🎈 \"quoted\", {comma}"],
                attemptsMax: 4
            )
            try await database.query(.tenant(job.org), Jobs.insert([job]))
            let claimed = try await database.claim([job])
            let mine = try #require(claimed.first)
            #expect(mine.id == job.id && mine.org == job.org && mine.queue == "send" && mine.kind == "send")
            #expect(mine.lane == "lane" && mine.priority == .first && mine.attemptsMax == 4)
            #expect(mine.attempt == 1 && mine.crashCount == 0 && mine.generation == 1)
            #expect(try mine.decode([String: String].self) == ["a": "ü 🎈 \"quoted\", {comma}"])
            #expect(try await database.claim([job]).isEmpty)
        }
    }

    @Test("only queued jobs that are due are claimed")
    func notClaimable() async throws {
        try await withDatabase { database in
            let org = OrgID()
            let later = try NewJob(org: org, queue: "q", payload: 0, runAt: .now + .seconds(30))
            let soon = try NewJob(org: org, queue: "q", payload: 0, runAt: .now + .milliseconds(500))
            let others = try (0..<4).map { _ in try NewJob(org: org, queue: "q", payload: 0) }
            try await database.query(.worker, Jobs.insert([later, soon] + others))
            for (job, state) in zip(others, ["running", "succeeded", "dead", "cancelled"]) {
                try await database.query(
                    .worker,
                    "UPDATE jobs SET state = \(state)::job_state WHERE org_id = \(org) AND id = \(job.id)"
                )
            }
            // Half a second early is within what the clocks may differ.
            #expect(try await database.claim([later, soon] + others).map(\.id) == [soon.id])
            // Another organization's lease is no key to the row.
            var foreign = try NewJob(org: org, queue: "q", payload: 0)
            try await database.query(.worker, Jobs.insert([foreign]))
            foreign.org = OrgID()
            #expect(try await database.claim([foreign]).isEmpty)
        }
    }

    @Test("of many that claim the same jobs at once each job has one")
    func claimRace() async throws {
        try await withDatabase { database in
            let jobs = try (0..<50).map { _ in try NewJob(org: OrgID(), queue: "q", payload: 0) }
            for _ in 0..<10 {
                try await database.query(.worker, "DELETE FROM jobs")
                try await database.query(.worker, Jobs.insert(jobs))
                let claimed = try await withThrowingTaskGroup(of: [JobID].self) { group in
                    for _ in 0..<8 {
                        group.addTask { try await database.claim(jobs.shuffled()).map(\.id) }
                    }
                    return try await group.reduce([], +)
                }
                #expect(claimed.count == 50 && Set(claimed) == Set(jobs.map(\.id)))
            }
        }
    }

    @Test("while a job with its key waits or runs another is not inserted, and afterwards it is")
    func uniqueKeys() async throws {
        try await withDatabase { database in
            let (org, other) = (OrgID(), OrgID())
            func insert(_ org: OrgID, _ queue: String = "q", key: String? = "k") async throws -> Int {
                let job = try NewJob(org: org, queue: queue, payload: 0, uniqueKey: key)
                return try await database.query(.worker, Jobs.insert([job])).affected
            }
            #expect(try await insert(org) == 1)
            #expect(try await insert(org) == 0)
            #expect(try await insert(org, key: "other") == 1)
            #expect(try await insert(org, "other queue") == 1)
            #expect(try await insert(other) == 1)
            #expect(try await insert(org, key: nil) + insert(org, key: nil) == 2)
            for state in ["running", "succeeded"] {
                try await database.query(
                    .worker,
                    "UPDATE jobs SET state = \(state)::job_state WHERE unique_key = 'k'"
                )
                #expect(try await insert(org) == (state == "running" ? 0 : 1))
            }
        }
    }

    @Test("the same keys inserted by many at once, in any order, give one job each")
    func uniqueKeyRace() async throws {
        try await withDatabase { database in
            let org = OrgID()
            let inserted = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let keys = (0..<40).map { "key \($0)" }.shuffled()
                        let jobs = try keys.map {
                            try NewJob(org: org, queue: "q", payload: 0, uniqueKey: $0)
                        }
                        return try await database.query(.tenant(org), Jobs.insert(jobs)).affected
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(inserted == 40)
        }
    }

    @Test(
        "each ending leaves the row that it should",
        arguments: [
            (Outcome.succeeded, "succeeded", 1, 0.0, nil),
            (.retry(after: .seconds(100), error: "e"), "queued", 1, 100, "e"),
            (.snooze(after: .seconds(50), reason: "later"), "queued", 0, 50, "later"),
            (.dead(reason: "no use"), "dead", 1, 0, "no use"),
            (.released, "queued", 0, 0, nil),
        ] as [(Outcome, String, Int, Double, String?)]
    )
    func endings(outcome: Outcome, state: String, attempt: Int, delay: Double, error: String?) async throws {
        try await withDatabase { database in
            let job = try NewJob(org: OrgID(), queue: "q", payload: 0)
            try await database.query(.worker, Jobs.insert([job]))
            let claimed = try await database.claim([job])[0]
            let ended = try await database.query(.worker, Jobs.finish([Ending(claimed, outcome)]))
            #expect(try ended.map { try $0("gen") as Int } == [1])
            let row = try await database.row(of: job)
            #expect(try row("state") == state && row("attempt") == attempt && row("last_error") == error)
            #expect(try row("crash_count") == 0)
            #expect(try (row("worker_id") as WorkerID?) == nil)
            #expect((try (row("finished_at") as Timestamp?) == nil) == (state == "queued"))
            let wait: Double = try row("wait")
            #expect(state != "queued" || abs(wait - delay) < 5, "\(wait)")
        }
    }

    @Test("the last of its tries makes a job a dead letter, and handed back or put off ones do not count")
    func attempts() async throws {
        try await withDatabase { database in
            let job = try NewJob(org: OrgID(), queue: "q", payload: 0, attemptsMax: 3)
            try await database.query(.worker, Jobs.insert([job]))
            let outcomes: [Outcome] = [
                .retry(after: .zero, error: "1"), .released, .snooze(after: .zero, reason: "wait"),
                .retry(after: .zero, error: "2"), .released, .retry(after: .zero, error: "3"),
            ]
            for (index, outcome) in outcomes.enumerated() {
                let claimed = try #require(try await database.claim([job]).first, "try \(index)")
                #expect(claimed.generation == index + 1)
                try await database.query(.worker, Jobs.finish([Ending(claimed, outcome)]))
            }
            let row = try await database.row(of: job)
            #expect(try row("state") == "dead" && row("attempt") == 3 && row("last_error") == "3")
            #expect(try await database.claim([job]).isEmpty)
        }
    }

    @Test("who was given up for dead ends nothing, and nobody ends twice")
    func fence() async throws {
        try await withDatabase { database in
            let job = try NewJob(org: OrgID(), queue: "q", payload: 0)
            try await database.query(.worker, Jobs.insert([job]))
            let first = try await database.claim([job])[0]
            let expired = [ExpiredLease(id: job.id, org: job.org, generation: 0, token: "")]
            #expect(try await database.query(.worker, Jobs.reap(expired)).count == 1)
            #expect(try await database.query(.worker, Jobs.finish([Ending(first, .succeeded)])).isEmpty)
            let second = try await database.claim([job])[0]
            #expect(second.generation == 3 && second.crashCount == 1 && second.attempt == 2)
            #expect(try await database.query(.worker, Jobs.finish([Ending(first, .succeeded)])).isEmpty)
            #expect(try await database.query(.worker, Jobs.reap(expired)).isEmpty)
            #expect(try await database.query(.worker, Jobs.finish([Ending(second, .succeeded)])).count == 1)
            #expect(try await database.query(.worker, Jobs.finish([Ending(second, .succeeded)])).isEmpty)
            #expect(try await database.row(of: job)("state") == "succeeded")
        }
    }

    @Test("many endings at once keep each its own")
    func manyEndings() async throws {
        try await withDatabase { database in
            let jobs = try (0..<60).map { _ in try NewJob(org: OrgID(), queue: "q", payload: 0) }
            try await database.query(.worker, Jobs.insert(jobs))
            let claimed = try await database.claim(jobs)
            let endings = claimed.enumerated().map { index, job in
                Ending(
                    job,
                    index % 3 == 0
                        ? .succeeded
                        : index % 3 == 1
                            ? .dead(reason: "\(job.id)") : .retry(after: .seconds(index), error: "\(job.id)")
                )
            }
            #expect(try await database.query(.worker, Jobs.finish(endings)).count == 60)
            let rows = try await database.query(
                .worker,
                "SELECT state::text AS state, count(*) AS n, bool_and(last_error = id::text) AS own FROM jobs GROUP BY 1"
            )
            for row in rows {
                #expect(try row("n") as Int == 20)
                #expect(try row("own") as Bool? ?? true)
            }
            #expect(rows.count == 3)
        }
    }

    @Test("finished jobs leave when they are old, dead letters stay")
    func purge() async throws {
        try await withDatabase { database in
            let jobs = try (0..<6).map { _ in try NewJob(org: OrgID(), queue: "q", payload: 0) }
            try await database.query(.worker, Jobs.insert(jobs))
            let ends = [
                ("succeeded", 2), ("cancelled", 2), ("succeeded", 0), ("dead", 2), ("queued", 2),
                ("running", 2),
            ]
            for (job, (state, hours)) in zip(jobs, ends) {
                try await database.query(
                    .worker,
                    """
                    UPDATE jobs SET state = \(state)::job_state, finished_at = now() - \(hours) * interval '1 hour'
                    WHERE id = \(job.id)
                    """
                )
            }
            let purge = Jobs.purgeFinished(olderThan: .seconds(3600), limit: 1)
            for left in [1, 1, 0] { #expect(try await database.query(.worker, purge).affected == left) }
            let rest = try await database.query(.worker, "SELECT id FROM jobs")
            #expect(try Set(rest.map { try $0("id") as JobID }) == Set(jobs.suffix(4).map(\.id)))
        }
    }

    @Test(
        "dead letters run again with fresh attempts, behind fresh jobs, and never beside one with their unique key"
    )
    func replay() async throws {
        try await withDatabase { database in
            let org = OrgID()
            func make(_ key: String?) throws -> NewJob {
                try NewJob(org: org, queue: "q", payload: 0, attemptsMax: 1, uniqueKey: key)
            }
            var dead: [NewJob] = []
            for key in [nil, nil, "twice", "twice", "taken"] {
                let job = try make(key)
                dead.append(job)
                try await database.query(.worker, Jobs.insert([job]))
                let claimed = try await database.claim([job])
                let endings = claimed.map { Ending($0, .retry(after: .zero, error: "e")) }
                try await database.query(.worker, Jobs.finish(endings))
            }
            try await database.query(.worker, Jobs.insert([try make("taken")]))
            func replay(_ filter: DeadLetterFilter) async throws -> Set<JobID> {
                let found = try await database.query(.worker, Jobs.dead(filter, after: nil, limit: 10))
                let rows = try await database.query(.worker, Jobs.replay(found.map { try JobKey($0) }))
                return try Set(rows.map { try $0("id") as JobID })
            }
            #expect(try await replay(DeadLetterFilter(queue: "q", id: dead[0].id)) == [dead[0].id])
            #expect(try await replay(DeadLetterFilter(queue: "q", org: OrgID())) == [])
            #expect(try await replay(DeadLetterFilter(queue: "q")) == [dead[1].id, dead[3].id])
            #expect(try await replay(DeadLetterFilter(queue: "q")) == [])
            let again = try await database.claim([dead[1]])
            #expect(again.map(\.attempt) == [1] && again.map(\.priority) == [.last])
            #expect(again.map(\.generation) == [3])
        }
    }

    @Test("depths count by queue and state")
    func depths() async throws {
        try await withDatabase { database in
            let ready = try (0..<3).map { _ in try NewJob(org: OrgID(), queue: "a", payload: 0) }
            let later = try NewJob(org: OrgID(), queue: "a", payload: 0, runAt: .now + .seconds(100))
            let other = try NewJob(org: OrgID(), queue: "b", payload: 0)
            try await database.query(.worker, Jobs.insert(ready + [later, other]))
            let claimed = try await database.claim([ready[0], other])
            let dead = try #require(claimed.first { $0.queue == "b" })
            try await database.query(.worker, Jobs.finish([Ending(dead, .dead(reason: "x"))]))
            try await database.query(
                .worker,
                "UPDATE jobs SET run_at = now() - interval '1 hour' WHERE id = \(ready[1].id)"
            )
            let rows = try await database.query(.worker, Jobs.depths(byOrg: false))
            let table = try rows.map { row -> [Int] in
                [try row("ready"), try row("delayed"), try row("running"), try row("dead")]
            }
            #expect(table == [[2, 1, 1, 0], [0, 0, 0, 1]])
            let oldest: Double = try rows[0]("oldest_seconds")
            #expect(oldest > 3595 && oldest < 3700)
        }
    }
}

extension Database {
    /// Claims as a worker does that leased these jobs.
    func claim(_ jobs: [NewJob], worker: WorkerID = WorkerID()) async throws -> [ClaimedJob] {
        let leases = jobs.map { Lease(id: $0.id, org: $0.org, lane: $0.lane, generation: 0, token: "") }
        return try await query(.worker, Jobs.claim(leases, worker: worker)).map(Jobs.claimed)
    }

    func row(of job: NewJob) async throws -> Row {
        let rows = try await query(
            .worker,
            """
            SELECT state::text AS state, attempt, crash_count, gen, last_error, worker_id, finished_at,
                extract(epoch FROM run_at - now())::double precision AS wait
            FROM jobs WHERE org_id = \(job.org) AND id = \(job.id)
            """
        )
        return try #require(rows.first)
    }
}
