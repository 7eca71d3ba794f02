// What the feeder brings, from PostgreSQL into Redis, and what its looks cost.

import Database
import Foundation
import Logging
import Platform
import Queue
import Redis
import Store
import TestSupport
import Testing

@testable import Worker

/// A database and a Redis of a test's own, and the feeder between them.
private struct FeederFixture {
    let database: Database
    let redis: Redis
    let schedule: Schedule
    let feeder: Feeder

    static func with(_ body: (FeederFixture) async throws -> Void) async throws {
        let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }
        let migrate: @Sendable (String) async throws -> Void = { url in
            let database = Database(Database.Configuration(url: url), logger: quiet)
            try await Migrator(database, logger: quiet).run()
            await database.close()
        }
        let server = try await RedisServer()
        let redis = Redis(try .patient(server.url), logger: quiet)
        try await TestDatabase.with(template: Migrator.fingerprint, migrating: migrate) { made in
            let database = Database(Database.Configuration(url: made.url), logger: quiet)
            let schedule = Schedule(redis)
            try await schedule.configure(queue: "q", [:])
            try await body(
                FeederFixture(
                    database: database,
                    redis: redis,
                    schedule: schedule,
                    feeder: Feeder(queue: "q", database: database, schedule: schedule)
                )
            )
            await database.close()
        }
        await redis.close()
    }

    /// Inserts jobs, `each` in each of so many lanes, due after `delay`.
    func insert(lanes: Int, each: Int, delay: Duration = .zero) async throws {
        try await database.query(
            .worker,
            """
            INSERT INTO jobs (org_id, id, queue, kind, lane, payload, max_attempts, run_at)
            SELECT md5('org ' || lane)::uuid, gen_random_uuid(), 'q', 'q', 'lane ' || lane, '{}', 5,
                now() + \(delay.microseconds) * interval '1 microsecond'
            FROM generate_series(1, \(lanes)) AS lane, generate_series(1, \(each))
            """,
            timeout: .seconds(120)
        )
    }

    /// Ready and delayed.
    func known() async throws -> [Int] {
        let counts = try await schedule.counts(queue: "q")
        return [counts.ready, counts.delayed]
    }

    /// How many tickets the feeder pushes in one sweep.
    func pushedBySweep() async throws -> Int {
        try await redis.command("CONFIG", "RESETSTAT")
        try await feeder.sweep()
        // Each ticket of a push is asked for by one HMGET.
        let statistics = try await redis.command("INFO", "commandstats").string ?? ""
        let line = statistics.split(whereSeparator: \.isNewline).first { $0.hasPrefix("cmdstat_hmget:") }
        return line?.firstMatch(of: /calls=(\d+)/).flatMap { Int($0.output.1) } ?? 0
    }
}

@Suite("The feeder")
struct FeederTests {
    private static let isLong = ProcessInfo.processInfo.environment["COMMUNE_TEST_LONG"] == "1"

    @Test("an empty schedule is filled lane by lane to its windows, by one sweep while there is time")
    func fills() async throws {
        try await FeederFixture.with { fixture in
            try await fixture.insert(lanes: 3, each: 700)
            try await fixture.insert(lanes: 40, each: 3)
            try await fixture.feeder.sweep()
            // Three have both: 703 of which 500 fit.
            #expect(try await fixture.known() == [3 * 500 + 37 * 3, 0])
            // What was lost is noticed by the heads.
            try await fixture.redis.command("FLUSHALL")
            try await fixture.schedule.configure(queue: "q", [:])
            try await fixture.feeder.sweep()
            #expect(try await fixture.known() == [3 * 500 + 37 * 3, 0])
        }
    }

    @Test("a sweep over what is known asks for five jobs a lane, however many wait", arguments: [1, 300])
    func cheap(lanes: Int) async throws {
        try await FeederFixture.with { fixture in
            try await fixture.insert(lanes: lanes, each: 6000 / lanes)
            while try await fixture.pushedBySweep() > 5 * lanes {}
            #expect(try await fixture.pushedBySweep() == 5 * lanes)
        }
    }

    @Test("delayed jobs of more lanes than a sweep walks come into the schedule in time")
    func delayedOfManyLanes() async throws {
        try await FeederFixture.with { fixture in
            // The walk is busy with others that come first, lane by lane, a thousand at a time.
            try await fixture.insert(lanes: 5000, each: 1, delay: .seconds(30))
            try await fixture.feeder.sweep()
            #expect(try await fixture.known() == [0, 5000])
            // What comes within the horizon later is found by its time alone, and what is known is not asked for again.
            try await fixture.insert(lanes: 500, each: 1, delay: .seconds(59))
            try await fixture.feeder.sweep()
            #expect(try await fixture.known() == [0, 5500])
            try await fixture.insert(lanes: 1, each: 1, delay: .seconds(120))
            try await fixture.feeder.sweep()
            #expect(try await fixture.known() == [0, 5500])
        }
    }

    @Test("statistics that are wrong do not make a sweep sort the table for every lane")
    func wrongStatistics() async throws {
        try await FeederFixture.with { fixture in
            try await fixture.insert(lanes: 10, each: 10)
            try await fixture.database.query(.worker, "DELETE FROM jobs")
            try await fixture.database.script("VACUUM ANALYZE jobs")
            try await fixture.insert(lanes: 300, each: 100)
            let statement = Jobs.waiting(
                queue: "q",
                after: nil,
                lanes: 1000,
                window: 5,
                horizon: .seconds(60)
            )
            let plan = try await fixture.database.batch(
                .worker,
                [Jobs.walking, "EXPLAIN \(fragment: statement)"]
            )[1].map { try $0("QUERY PLAN") as String }.joined(separator: "\n")
            #expect(!plan.contains("jobs_pkey") && !plan.contains("Seq Scan"), "\(plan)")
        }
    }

    @Test(
        "many delayed jobs that are due at once all run, and never more of them are in Redis than a window holds"
    )
    func dueAtOnce() async throws {
        let count = Self.isLong ? 1_000_000 : 20_000
        try await FeederFixture.with { fixture in
            try await fixture.insert(lanes: 2, each: count / 2, delay: .seconds(2))
            var leased: Set<JobID> = []
            let end = ContinuousClock.now + .seconds(Self.isLong ? 1800 : 60)
            while leased.count < count, ContinuousClock.now < end {
                try await fixture.feeder.sweep()
                repeat {
                    let taken = try await fixture.schedule.lease(queue: "q", limit: 200, length: .seconds(30))
                    let isFresh = taken.leases.allSatisfy { leased.insert($0.id).inserted }
                    #expect(isFresh, "a job was leased twice")
                    #expect(try await fixture.known().reduce(0, +) <= 2 * 500)
                    try await fixture.end(taken.leases)
                    _ = try await fixture.feeder.refill()
                    if taken.leases.isEmpty { break }
                } while true
            }
            #expect(leased.count == count)
            #expect(try await fixture.known() == [0, 0])
        }
    }
}

extension FeederFixture {
    /// What a worker does that has claimed them: they succeed in PostgreSQL, and Redis is told.
    fileprivate func end(_ leases: [Lease]) async throws {
        guard !leases.isEmpty else { return }
        try await database.query(
            .worker,
            """
            UPDATE jobs SET state = 'succeeded', finished_at = now()
            FROM unnest(\(leases.map(\.org))::uuid[], \(leases.map(\.id))::uuid[]) AS l (org_id, id)
            WHERE jobs.org_id = l.org_id AND jobs.id = l.id
            """
        )
        try await schedule.settle(leases.map { ($0.id, $0.token, .done) }, queue: "q")
    }
}
