// Each script of the schedule by itself, on a real Redis, alone and as a cluster's node.

import Platform
import Redis
import TestSupport
import Testing

@testable import Queue

@Suite("The schedule's scripts")
struct ScheduleTests {
    @Test(
        "a pushed job is leased with what it was pushed with, settled, and leaves nothing",
        arguments: Mode.allCases
    )
    func wholeLife(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let ticket = Ticket.new(OrgID(), lane: "endpoint {1} ü", generation: 7)
            #expect(try await fixture.push([ticket]) == [.taken])
            #expect(try await fixture.counts() == [1, 0, 0])
            let leases = try await fixture.lease()
            let lease = try #require(leases.first)
            #expect(leases.count == 1)
            #expect(lease.id == ticket.id && lease.org == ticket.org && lease.lane == ticket.lane)
            #expect(lease.generation == 7)
            #expect(try await fixture.counts() == [0, 0, 1])
            #expect(try await fixture.lease().isEmpty)
            #expect(try await fixture.settle([lease]) == [true])
            #expect(try await fixture.counts() == [0, 0, 0])
            #expect(try await fixture.lease().isEmpty)
            #expect(try await fixture.keys() == ["epoch", "n"])
        }
    }

    @Test("pushing again changes nothing, whatever became of the job in between", arguments: Mode.allCases)
    func idempotentPush(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let now = Ticket.new(OrgID())
            let later = Ticket.new(now.org, due: .now + .seconds(30))
            #expect(try await fixture.push([now, later, now]) == [.taken, .taken, .known])
            #expect(try await fixture.push([later, now]) == [.known, .known])
            #expect(try await fixture.counts() == [1, 1, 0])
            let leases = try await fixture.lease()
            #expect(try await fixture.push([now]) == [.known])
            #expect(try await fixture.lease().isEmpty)
            #expect(try await fixture.settle(leases) == [true])
        }
    }

    @Test("the fence of a waiting job follows a push with a newer one, and never goes back")
    func fenceFollows() async throws {
        try await ScheduleFixture.with { fixture in
            let old = Ticket.new(OrgID(), generation: 3)
            let pushed = try await fixture.push([old, old.fenced(5), old.fenced(4)])
            #expect(pushed == [.taken, .known, .known])
            #expect(try await fixture.lease().map(\.generation) == [5])
        }
    }

    @Test("only the token of the lease settles or renews it", arguments: Mode.allCases)
    func tokens(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            _ = try await fixture.push(Ticket.many(2, OrgID()))
            let leases = try await fixture.lease()
            let (first, second) = (leases[0], leases[1])
            let wrong = try await fixture.schedule.settle(
                [
                    (first.id, "nobody", .done), (JobID(), first.token, .done),
                    (second.id, second.token, .done),
                ],
                queue: fixture.queue
            )
            #expect(wrong == [false, false, true])
            let renewed = try await fixture.schedule.extend(
                [(first.id, "nobody"), (second.id, second.token), (first.id, first.token)],
                queue: fixture.queue,
                length: .seconds(30)
            )
            #expect(renewed == [.lost, .unknown, .kept])
            #expect(try await fixture.settle([first, second]) == [true, false])
        }
    }

    @Test(
        "an expired lease goes to the reaper, and its old token settles and renews nothing",
        arguments: Mode.allCases
    )
    func reap(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            _ = try await fixture.push([.new(OrgID(), generation: 4), .new(OrgID())])
            let leases = try await fixture.lease()
            let lost = try #require(leases.first { $0.generation == 4 })
            let none = try await fixture.schedule.reap(queue: fixture.queue, limit: 10, length: .seconds(30))
            #expect(none.1.isEmpty)
            #expect(abs((none.now - .now).inSeconds) < 5)
            try await fixture.makeDue(lost.id, in: "lease")
            let (_, expired) = try await fixture.schedule.reap(
                queue: fixture.queue,
                limit: 10,
                length: .seconds(30)
            )
            let taken = try #require(expired.first)
            #expect(expired.count == 1)
            #expect(taken.id == lost.id && taken.org == lost.org && taken.generation == 4)
            #expect(try await fixture.settle([lost]) == [false])
            #expect(
                try await fixture.schedule.extend(
                    [(lost.id, lost.token)],
                    queue: fixture.queue,
                    length: .seconds(30)
                )
                    == [.lost]
            )
            // The reaper that dies is reaped.
            try await fixture.makeDue(lost.id, in: "lease")
            let second = try await fixture.schedule.reap(
                queue: fixture.queue,
                limit: 10,
                length: .seconds(30)
            ).1
            #expect(second.map(\.id) == [lost.id])
            let again = second.map { ($0.id, $0.token, Settlement.again(generation: 6, due: nil)) }
            #expect(try await fixture.schedule.settle(again, queue: fixture.queue) == [true])
            #expect(try await fixture.lease().map(\.generation) == [6])
            #expect(try await fixture.counts() == [0, 0, 2])
        }
    }

    @Test("a renewed lease does not expire")
    func extend() async throws {
        try await ScheduleFixture.with { fixture in
            _ = try await fixture.push([.new(OrgID())])
            let lease = try await fixture.lease()[0]
            try await fixture.makeDue(lease.id, in: "lease")
            let kept = try await fixture.schedule.extend(
                [(lease.id, lease.token)],
                queue: fixture.queue,
                length: .seconds(30)
            )
            #expect(kept == [.kept])
            let expired = try await fixture.schedule.reap(
                queue: fixture.queue,
                limit: 10,
                length: .seconds(30)
            ).1
            #expect(expired.isEmpty)
        }
    }

    @Test("a lease deleted by hand comes back with the next heartbeat, or with the feeder's next push")
    func leaseDeletedByHand() async throws {
        try await ScheduleFixture.with { fixture in
            let (alive, dead) = (Ticket.new(OrgID()), Ticket.new(OrgID()))
            _ = try await fixture.push([alive, dead])
            let leases = try await fixture.lease()
            try await fixture.redis.command("DEL", RedisArgument(fixture.key("lease")))
            let holder = try #require(leases.first { $0.id == alive.id })
            let kept = try await fixture.schedule.extend(
                [(holder.id, holder.token)],
                queue: fixture.queue,
                length: .seconds(30)
            )
            #expect(kept == [.kept])
            #expect(try await fixture.push([alive, dead]) == [.known, .taken])
            #expect(try await fixture.counts() == [1, 0, 1])
            let again = try await fixture.lease()
            #expect(again.map(\.id) == [dead.id])
            #expect(try await fixture.settle(leases + again) == leases.map { $0.id == alive.id } + [true])
            _ = try await fixture.lease()
            #expect(try await fixture.keys() == ["epoch", "n"])
        }
    }

    @Test("a delayed job waits until it is due, and the lease call says how long", arguments: Mode.allCases)
    func delayed(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let ticket = Ticket.new(OrgID(), due: .now + .seconds(20))
            #expect(try await fixture.push([ticket]) == [.taken])
            let none = try await fixture.schedule.lease(queue: fixture.queue, limit: 10, length: .seconds(30))
            #expect(none.leases.isEmpty)
            let wait = try #require(none.nextDue)
            #expect(wait > .seconds(10) && wait <= .seconds(21))
            #expect(try await fixture.counts() == [0, 1, 0])
            try await fixture.makeDue(ticket.id, in: "delayed")
            #expect(try await fixture.lease().map(\.id) == [ticket.id])
        }
    }

    @Test("what is due after more than a minute stays a row")
    func horizon() async throws {
        try await ScheduleFixture.with { fixture in
            let tickets = [Ticket.new(OrgID(), due: .now + .seconds(90)), .new(OrgID())]
            #expect(try await fixture.push(tickets) == [.refused, .taken])
            let lease = try await fixture.lease()
            _ = try await fixture.settle(lease, .again(generation: 1, due: .now + .seconds(90)))
            #expect(try await fixture.counts() == [0, 0, 0])
            #expect(try await fixture.keys() == ["epoch", "n"])
        }
    }

    @Test(
        "a job runs again at its time, and one handed back is the next of its lane",
        arguments: Mode.allCases
    )
    func settlements(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let tickets = Ticket.many(4, OrgID())
            _ = try await fixture.push(tickets)
            let leases = try await fixture.lease(3)
            #expect(leases.map(\.id) == tickets.prefix(3).map(\.id))
            let settled = try await fixture.schedule.settle(
                [
                    (leases[0].id, leases[0].token, .again(generation: 2, due: .now + .seconds(30))),
                    (leases[1].id, leases[1].token, .again(generation: 3, due: nil)),
                    (leases[2].id, leases[2].token, .back(generation: 4)),
                ],
                queue: fixture.queue
            )
            #expect(settled == [true, true, true])
            #expect(try await fixture.counts() == [3, 1, 0])
            let next = try await fixture.lease()
            #expect(next.map(\.id) == [tickets[2].id, tickets[3].id, tickets[1].id])
            #expect(next.map(\.generation) == [4, 0, 3])
        }
    }

    @Test("the first priority goes before the second, and that before the last", arguments: Mode.allCases)
    func priorities(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let org = OrgID()
            let tickets: [Ticket] = [
                .new(org, .last), .new(org, .normal), .new(org, .first), .new(org, .normal),
                .new(org, .first),
            ]
            _ = try await fixture.push(tickets)
            let order = [2, 4, 1, 3, 0].map { tickets[$0].id }
            #expect(try await fixture.lease().map(\.id) == order)
        }
    }

    @Test("a withdrawn job is gone, a leased one is not withdrawn", arguments: Mode.allCases)
    func withdraw(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let org = OrgID()
            let (leased, ready) = (Ticket.new(org), Ticket.new(org))
            let delayed = Ticket.new(org, due: .now + .seconds(30))
            _ = try await fixture.push([leased, ready, delayed])
            let lease = try await fixture.lease(1)
            let gone = try await fixture.schedule.withdraw(
                [leased.id, ready.id, delayed.id, JobID()],
                queue: fixture.queue
            )
            #expect(gone == [false, true, true, false])
            #expect(try await fixture.counts() == [0, 0, 1])
            #expect(try await fixture.settle(lease) == [true])
            #expect(try await fixture.lease().isEmpty)
            #expect(try await fixture.keys() == ["epoch", "n"])
        }
    }

    @Test("running jobs are registered once, count, and can be settled and reaped", arguments: Mode.allCases)
    func adopt(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let (org, id) = (OrgID(), JobID())
            let job = ClaimedJob.running(id, org, generation: 5)
            try await fixture.schedule.configure(queue: fixture.queue, ["cap:o": "1"])
            for token in ["mine", "other"] {
                try await fixture.schedule.adopt([(job, token)], queue: fixture.queue, length: .seconds(30))
            }
            _ = try await fixture.push([.new(org)])
            #expect(try await fixture.counts() == [1, 0, 1])
            #expect(try await fixture.lease().isEmpty, "the registered job fills the cap")
            try await fixture.makeDue(id, in: "lease")
            let expired = try await fixture.schedule.reap(
                queue: fixture.queue,
                limit: 10,
                length: .seconds(30)
            ).1
            #expect(expired.map(\.generation) == [4])
            let settled = try await fixture.schedule.settle(
                [(id, "mine", .done), (id, "other", .done), (id, expired[0].token, .done)],
                queue: fixture.queue
            )
            #expect(settled == [false, false, true])
            #expect(try await fixture.settle(fixture.lease()) == [true])
            _ = try await fixture.lease()
            #expect(try await fixture.keys() == ["epoch", "cfg", "n"])
        }
    }

    @Test(
        "the epoch stands once set, and other queues of the Redis are others' business",
        arguments: Mode.allCases
    )
    func epochs(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode, standing: false) { fixture in
            await #expect(throws: Schedule.NotStanding.self) { try await fixture.lease() }
            let epoch = try await fixture.schedule.configure(queue: fixture.queue, [:])
            #expect(!epoch.isEmpty)
            #expect(try await fixture.schedule.configure(queue: fixture.queue, ["cap:o": "3"]) == epoch)
            await #expect(throws: Schedule.NotStanding.self) {
                try await fixture.schedule.lease(queue: "other", limit: 1, length: .seconds(1))
            }
            #expect(try await fixture.schedule.configure(queue: "other", [:]) != epoch)
        }
    }
}

extension ClaimedJob {
    /// A claimed job as a test needs it.
    static func running(
        _ id: JobID,
        _ org: OrgID,
        lane: String? = nil,
        _ priority: Priority = .normal,
        generation: Int,
        attempt: Int = 1,
        attemptsMax: Int = 3
    ) -> ClaimedJob {
        ClaimedJob(
            id: id,
            org: org,
            queue: "q",
            kind: "q",
            lane: lane ?? org.description,
            priority: priority,
            payload: "{}",
            attempt: attempt,
            attemptsMax: attemptsMax,
            crashCount: 0,
            generation: generation,
            createdAt: .now
        )
    }
}
