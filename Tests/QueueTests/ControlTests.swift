// Pauses and limits from their rows to the schedule.

import Database
import Platform
import Queue
import Redis
import TestSupport
import Testing

@Suite("Control")
struct ControlTests {
    @Test("limits are set one by one, the queue's are every organization's, and all are lifted at once")
    func limits() async throws {
        try await withDatabase { database in
            try await ScheduleFixture.with(standing: false) { fixture in
                let control = QueueControl(database, fixture.schedule)
                let (own, other) = (OrgID(), OrgID())
                func set(_ scope: ControlScope, _ change: (inout QueueControl.Limits) -> Void) async throws {
                    var limits = QueueControl.Limits()
                    change(&limits)
                    try await control.limit(limits, "q", scope, defaults: QueueControl.Defaults())
                }
                func settings() async throws -> [String: String] {
                    let words =
                        try await fixture.redis.command("HGETALL", RedisArgument(fixture.key("cfg")))
                        .array?.compactMap(\.string) ?? []
                    return Dictionary(
                        uniqueKeysWithValues: stride(from: 0, to: words.count, by: 2).map {
                            (words[$0], words[$0 + 1])
                        }
                    )
                }
                try await set(.queue) { $0.concurrencyMax = 3 }
                try await set(.org(own)) { $0.ratePerSecond = 0.5 }
                try await set(.org(own)) { $0.weight = 2 }
                try await set(.lane("a")) { $0.concurrencyMax = 1 }
                try await control.set(.paused, "q", .org(other), defaults: QueueControl.Defaults())
                #expect(
                    try await settings() == [
                        "cap:o": "3", "rate:o:\(own)": "0.5", "weight:o:\(own)": "2", "cap:l:a": "1",
                        "pause:o:\(other)": "1",
                    ]
                )
                #expect(try await database.query(.worker, QueueControl.rules).count == 4)
                for scope in [ControlScope.queue, .org(own), .lane("a"), .org(other), .lane("unknown")] {
                    try await control.limit(nil, "q", scope, defaults: QueueControl.Defaults())
                }
                #expect(try await settings() == ["pause:o:\(other)": "1"], "a pause is no limit")
                #expect(try await database.query(.worker, QueueControl.rules).count == 1)
            }
        }
    }

    @Test("the slots of workers that live are added up, and they are awaited after a loss")
    func slots() async throws {
        try await withDatabase { database in
            try await ScheduleFixture.with(standing: false) { fixture in
                let control = QueueControl(database, fixture.schedule)
                let workers = [WorkerID(), WorkerID(), WorkerID(), WorkerID()]
                for (worker, (queues, slots, age)) in zip(
                    workers,
                    [
                        ("{other,q}", "{100,10}", 0), ("{q}", "{5}", 5), ("{q}", "{7}", 60),
                        ("{other}", "{9}", 0),
                    ]
                ) {
                    try await database.query(
                        .worker,
                        """
                        INSERT INTO workers (id, host, process, queues, slots, seen_at) VALUES (\(worker), 'h', 1,
                            \(queues)::text[], \(slots)::integer[], now() - \(age) * interval '1 second')
                        """
                    )
                }
                try await control.apply("q", defaults: QueueControl.Defaults(), slots: 12)
                let cfg = RedisArgument(fixture.key("cfg"))
                #expect(try await fixture.redis.command("HGET", cfg, "slots").string == "15")
                let awaited = try await fixture.redis.command(
                    "SMEMBERS",
                    RedisArgument(fixture.key("awaited"))
                )
                #expect(
                    Set(awaited.array?.compactMap(\.string) ?? [])
                        == Set(workers.prefix(2).map(\.description))
                )
                // A worker that has not said its first word yet knows of itself.
                try await control.apply("q", defaults: QueueControl.Defaults(), slots: 20)
                #expect(try await fixture.redis.command("HGET", cfg, "slots").string == "20")
            }
        }
    }

    @Test("pauses, caps, rates and weights hold as the rows say, and are lifted with them")
    func rows() async throws {
        try await withDatabase { database in
            try await ScheduleFixture.with(standing: false) { fixture in
                let control = QueueControl(database, fixture.schedule)
                let (paused, capped, free) = (OrgID(), OrgID(), OrgID())
                try await database.query(
                    .worker,
                    """
                    INSERT INTO queue_control (queue, scope, subject, state, concurrency_max) VALUES
                        ('q', 'org', \(paused.description), 'paused', NULL), ('q', 'lane', 'a', 'draining', NULL),
                        ('q', 'org', \(capped.description), 'running', 2), ('other', 'queue', '', 'paused', NULL)
                    """
                )
                var defaults = QueueControl.Defaults()
                defaults.orgConcurrencyMax = 3
                try await control.apply("q", defaults: defaults)
                for org in [paused, capped, free] { _ = try await fixture.push(Ticket.many(5, org)) }
                _ = try await fixture.push(Ticket.many(5, free, lane: "a"))
                let leases = try await fixture.lease()
                #expect(leases.count { $0.org == capped } == 2)
                #expect(leases.count { $0.org == free } == 3)
                #expect(leases.count == 5 && leases.allSatisfy { $0.lane != "a" })
                try await database.query(
                    .worker,
                    "INSERT INTO queue_control (queue, scope, state) VALUES ('q', 'queue', 'draining')"
                )
                try await control.apply("q", defaults: defaults)
                #expect(try await fixture.settle(leases).allSatisfy { $0 })
                #expect(try await fixture.lease().isEmpty)
                try await database.query(.worker, "DELETE FROM queue_control")
                try await control.apply("q", defaults: QueueControl.Defaults())
                #expect(try await fixture.lease().count == 15)
            }
        }
    }
}
