// What the schedule does when Redis loses what it had, or has no room.

import Platform
import Queue
import Redis
import TestSupport
import Testing

@Suite("Losing the schedule")
struct ScheduleLossTests {
    @Test("after a flush every script refuses until the schedule is set up again", arguments: Mode.allCases)
    func flush(_ mode: Mode) async throws {
        let server = try await Mode.server(mode)
        try await ScheduleFixture.with(on: server) { fixture in
            let (schedule, queue) = (fixture.schedule, fixture.queue)
            let org = OrgID()
            _ = try await fixture.push(Ticket.many(3, org))
            let lease = try await fixture.lease(1)[0]
            try await fixture.redis.command("FLUSHALL")
            await #expect(throws: Schedule.NotStanding.self) { try await fixture.push([.new(org)]) }
            await #expect(throws: Schedule.NotStanding.self) { try await fixture.lease() }
            await #expect(throws: Schedule.NotStanding.self) { try await fixture.settle([lease]) }
            await #expect(throws: Schedule.NotStanding.self) {
                try await schedule.extend([(lease.id, lease.token)], queue: queue, length: .seconds(30))
            }
            await #expect(throws: Schedule.NotStanding.self) {
                try await schedule.reap(queue: queue, limit: 1, length: .seconds(30))
            }
            await #expect(throws: Schedule.NotStanding.self) {
                let job = ClaimedJob.running(lease.id, org, generation: 1)
                try await schedule.adopt([(job, lease.token)], queue: queue, length: .seconds(30))
            }
            await #expect(throws: Schedule.NotStanding.self) {
                try await schedule.withdraw([lease.id], queue: queue)
            }
            await #expect(throws: Schedule.NotStanding.self) { try await schedule.counts(queue: queue) }
            #expect(try await fixture.keys().isEmpty, "a refusing script leaves nothing behind")
            try await schedule.configure(queue: queue, [:])
            #expect(try await fixture.settle([lease]) == [false])
            #expect(try await fixture.counts() == [0, 0, 0])
        }
    }

    @Test("a restarted, empty Redis is recognised at the first call, when it knows no script either")
    func restart() async throws {
        let server = try await RedisServer()
        try await ScheduleFixture.with(on: server) { fixture in
            _ = try await fixture.push([.new(OrgID())])
            server.kill()
            await #expect(throws: RedisError.self) { while true { _ = try await fixture.lease() } }
            try await server.start()
            try await eventually("Redis is back") { try await fixture.redis.command("PING").string == "PONG" }
            await #expect(throws: Schedule.NotStanding.self) { try await fixture.lease() }
            await #expect(throws: Schedule.NotStanding.self) { try await fixture.push([.new(OrgID())]) }
        }
    }

    @Test("forgotten scripts are loaded again", arguments: Mode.allCases)
    func scriptFlush(_ mode: Mode) async throws {
        let server = try await Mode.server(mode)
        try await ScheduleFixture.with(on: server) { fixture in
            func flush() async throws { try await fixture.redis.command("SCRIPT", "FLUSH") }
            try await flush()
            #expect(try await fixture.push([.new(OrgID())]) == [.taken])
            try await flush()
            let leases = try await fixture.lease()
            #expect(leases.count == 1)
            try await flush()
            #expect(try await fixture.settle(leases) == [true])
            try await flush()
            #expect(try await fixture.counts() == [0, 0, 0])
        }
    }

    @Test(
        "with memory full a push is refused, and leasing, renewing, reaping and settling go on",
        arguments: Mode.allCases
    )
    func fullMemory(_ mode: Mode) async throws {
        let server = try await Mode.server(mode)
        try await ScheduleFixture.with(on: server) { fixture in
            let (schedule, queue) = (fixture.schedule, fixture.queue)
            // Every script is there before memory is short: loading one needs some.
            try await schedule.configure(queue: queue, ["rate:o": "100000", "cap:o": "50"])
            _ = try await fixture.push(Ticket.many(20, OrgID()))
            let early = try await fixture.lease(10)
            _ = try await schedule.extend(early.map { ($0.id, $0.token) }, queue: queue, length: .seconds(30))
            _ = try await fixture.settle([early[9]], .back(generation: 1))
            _ = try await schedule.withdraw([JobID()], queue: queue)
            _ = try await schedule.reap(queue: queue, limit: 1, length: .seconds(30))
            for lease in early { try await fixture.makeDue(lease.id, in: "lease") }
            try await fixture.redis.command("CONFIG", "SET", "maxmemory", 1)

            let error = await #expect(throws: RedisError.self) { try await fixture.push([.new(OrgID())]) }
            #expect("\(String(describing: error))".contains("OOM"))
            let kept = try await schedule.extend(
                [(early[0].id, early[0].token)],
                queue: queue,
                length: .seconds(30)
            )
            #expect(kept == [.kept])
            let late = try await fixture.lease(10)
            #expect(late.count == 10)
            #expect(try await fixture.settle(late, .again(generation: 1, due: nil)).allSatisfy { $0 })
            #expect(try await schedule.reap(queue: queue, limit: 10, length: .seconds(30)).1.count == 8)
            #expect(try await schedule.withdraw([late[0].id], queue: queue) == [true])
            try await schedule.configure(queue: queue, ["pause": "1"])
            #expect(try await fixture.lease().isEmpty)
            #expect(try await fixture.counts() == [10, 0, 9])
        }
    }
}
