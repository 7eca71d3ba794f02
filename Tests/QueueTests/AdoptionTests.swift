// After the schedule was lost: nothing is leased before all that live have said what they run.

import Platform
import Queue
import Redis
import TestSupport
import Testing

@Suite("Adoption")
struct AdoptionTests {
    private func lease(_ fixture: ScheduleFixture, _ worker: WorkerID) async throws -> Schedule.Leases {
        try await fixture.schedule.lease(
            queue: fixture.queue,
            limit: 10,
            length: .seconds(30),
            worker: worker
        )
    }

    private func adopt(
        _ fixture: ScheduleFixture,
        _ running: [(job: ClaimedJob, token: String)],
        all worker: WorkerID?
    ) async throws -> [Bool] {
        try await fixture.schedule.adopt(running, queue: fixture.queue, length: .seconds(30), all: worker)
    }

    @Test("nothing is leased until every awaited worker has registered, and caps count what they run")
    func awaited() async throws {
        try await ScheduleFixture.with(standing: false) { fixture in
            let (one, two, late) = (WorkerID(), WorkerID(), WorkerID())
            let org = OrgID()
            let rules = ["cap:o": "2"]
            try await fixture.schedule.configure(queue: fixture.queue, rules, awaiting: [one, two])
            // Setting it up once more awaits nobody anew.
            try await fixture.schedule.configure(queue: fixture.queue, rules, awaiting: [one, two, late])
            _ = try await fixture.push(Ticket.many(5, org))
            await #expect(throws: Schedule.NotStanding.self) { try await lease(fixture, one) }
            #expect(try await adopt(fixture, [], all: one) == [])
            let closed = try await lease(fixture, one)
            #expect(closed.leases.isEmpty)
            #expect(closed.nextDue.map { $0 > .seconds(3) && $0 <= Schedule.awaitedAtMost } == true)
            #expect(try await lease(fixture, late).leases.isEmpty)
            await #expect(throws: Schedule.NotStanding.self) { try await lease(fixture, two) }
            let running = ClaimedJob.running(JobID(), org, generation: 1)
            // In two parts: the first does not say that this was all.
            #expect(try await adopt(fixture, [(running, "mine")], all: nil) == [true])
            #expect(try await lease(fixture, one).leases.isEmpty)
            #expect(try await adopt(fixture, [], all: two) == [])
            #expect(try await lease(fixture, one).leases.count == 1, "one of two is running elsewhere")
        }
    }

    @Test("a worker that never comes is awaited for a bounded time")
    func neverComes() async throws {
        try await ScheduleFixture.with(standing: false) { fixture in
            try await fixture.schedule.configure(queue: fixture.queue, [:], awaiting: [WorkerID()])
            _ = try await fixture.push([.new(OrgID())])
            #expect(try await fixture.lease().isEmpty)
            // The test's hand on the clock.
            try await fixture.redis.command("PEXPIRE", RedisArgument(fixture.key("awaited")), 1)
            try await eventually("leasing goes on") { try await fixture.lease().count == 1 }
        }
    }

    @Test(
        "a running job that the feeder brought as a waiting one is taken from there",
        arguments: [false, true]
    )
    func broughtBefore(delayed: Bool) async throws {
        try await ScheduleFixture.with { fixture in
            let ticket = Ticket.new(OrgID(), due: delayed ? .now + .seconds(30) : nil)
            _ = try await fixture.push([ticket])
            let job = ClaimedJob.running(ticket.id, ticket.org, generation: 1)
            #expect(try await adopt(fixture, [(job, "mine")], all: nil) == [true])
            #expect(try await fixture.counts() == [0, 0, 1])
            #expect(try await fixture.lease().isEmpty)
            let settled = try await fixture.schedule.settle([(job.id, "mine", .done)], queue: fixture.queue)
            #expect(settled == [true])
            _ = try await fixture.lease()
            #expect(try await fixture.keys() == ["epoch", "n"])
        }
    }

    @Test("a waiting row behind a newer fence than its lease ends that lease")
    func staleLease() async throws {
        try await ScheduleFixture.with { fixture in
            try await fixture.schedule.configure(queue: fixture.queue, ["cap:o": "1"])
            let ticket = Ticket.new(OrgID())
            _ = try await fixture.push([ticket])
            let old = try await fixture.lease()
            // The same fence: it is leased and not claimed yet.
            #expect(try await fixture.push([ticket]) == [.known])
            #expect(try await fixture.lease().isEmpty)
            // Its attempt ended and was put off, or was taken back, and nobody told Redis.
            #expect(try await fixture.push([ticket.fenced(1)]) == [.taken])
            #expect(try await fixture.settle(old) == [false])
            let again = try await fixture.lease()
            #expect(again.map(\.id) == [ticket.id] && again.map(\.generation) == [1])
            #expect(try await fixture.settle(again) == [true])
            _ = try await fixture.lease()
            #expect(try await fixture.keys() == ["epoch", "cfg", "n"])
        }
    }
}
