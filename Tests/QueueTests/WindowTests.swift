// How much of a backlog is in Redis, and who is called when it runs low.

import Platform
import Queue
import Redis
import Synchronization
import TestSupport
import Testing

@Suite("Windows")
struct WindowTests {
    @Test("a lane holds 500 jobs of each priority; those that did not fit are asked for when it runs low")
    func window() async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            let heard = try await Heard(fixture)
            let pushed = try await fixture.push(Ticket.many(510, org))
            #expect(pushed.count { $0 == .taken } == 500 && pushed.suffix(10).allSatisfy { $0 == .refused })
            #expect(try await fixture.push(Ticket.many(500, org, .last)).allSatisfy { $0 == .taken })
            #expect(try await fixture.push(Ticket.many(1, org, lane: "other")) == [.taken])
            // Leased jobs are in the window still.
            let leases = try await fixture.lease(402)
            #expect(try await fixture.push([.new(org)]) == [.refused])
            let own = leases.filter { $0.lane == org.description }
            #expect(try await fixture.settle(Array(own.prefix(400))).allSatisfy { $0 })
            #expect(try await fixture.schedule.counts(queue: fixture.queue, hungry: 10).hungry.isEmpty)
            #expect(try await fixture.settle(Array(own.suffix(1))) == [true])
            try await eventually("the feeder is called") { heard.feeds == 1 }
            let hungry = try await fixture.schedule.counts(queue: fixture.queue, hungry: 10).hungry
            #expect(hungry == [LaneCursor(org: org, lane: org.description)])
            #expect(try await fixture.schedule.counts(queue: fixture.queue, hungry: 10).hungry.isEmpty)
            // Called once, until a push is refused again.
            #expect(try await fixture.settle(fixture.lease(20)).count == 20)
            #expect(try await fixture.schedule.counts(queue: fixture.queue, hungry: 10).hungry.isEmpty)
        }
    }

    @Test("fresh jobs do not call the feeder for a backlog of replays that waits behind them")
    func windowsOfPriorities() async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            _ = try await fixture.push(Ticket.many(501, org, .last))
            for _ in 0..<5 {
                _ = try await fixture.push([.new(org, .first)])
                _ = try await fixture.settle(fixture.lease(1))
            }
            #expect(try await fixture.schedule.counts(queue: fixture.queue, hungry: 10).hungry.isEmpty)
        }
    }

    @Test("a parked lane holds 50 jobs, and calls the feeder below 10")
    func parkedWindow() async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            // A token every 100 s: the lane is parked after its first job.
            try await fixture.schedule.configure(queue: fixture.queue, ["rate:l:slow": "0.01"])
            _ = try await fixture.push(Ticket.many(2, org, lane: "slow"))
            #expect(try await fixture.lease().count == 1)
            #expect(try await fixture.lease().isEmpty)
            let pushed = try await fixture.push(Ticket.many(100, org, lane: "slow"))
            #expect(pushed.count { $0 == .taken } == 48)
            #expect(try await fixture.push(Ticket.many(1, org, lane: "fast")) == [.taken])
            #expect(try await fixture.lease().map(\.lane) == ["fast"])
        }
    }

    @Test("an announcement comes when the ring stops being empty, and only then")
    func wakes() async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            let heard = try await Heard(fixture)
            _ = try await fixture.push([.new(org), .new(org), .new(OrgID())])
            try await eventually("it is announced") { heard.wakes == 1 }
            let leases = try await fixture.lease()
            #expect(leases.count == 3)
            _ = try await fixture.settle([leases[0]], .again(generation: 1, due: nil))
            try await eventually("it is announced again") { heard.wakes == 2 }
            _ = try await fixture.settle([leases[1], leases[2]], .back(generation: 1))
            // Announcements keep their order: after this one, no other is under way.
            try await fixture.redis.command("PUBLISH", RedisArgument(heard.channels.feed), "mark")
            try await eventually("the mark is heard") { heard.feeds == 1 }
            #expect(heard.wakes == 2)
            // A lifted pause is one, whatever the ring holds.
            try await fixture.schedule.configure(queue: fixture.queue, [:])
            try await eventually("a change is announced") { heard.wakes == 3 }
        }
    }

    @Test("what a cap held is announced when it may run")
    func wakeAfterCap() async throws {
        try await ScheduleFixture.with { fixture in
            try await fixture.schedule.configure(queue: fixture.queue, ["cap:o": "1"])
            let heard = try await Heard(fixture)
            _ = try await fixture.push(Ticket.many(2, OrgID()))
            let first = try await fixture.lease()
            #expect(first.count == 1)
            try await eventually("the push is heard") { heard.wakes == 1 }
            _ = try await fixture.settle(first)
            try await eventually("the end is heard") { heard.wakes == 2 }
            #expect(try await fixture.lease().count == 1)
        }
    }
}

/// What a worker's subscription hears.
private final class Heard: Sendable {
    let channels: (wake: String, feed: String)
    private let count = Mutex((wakes: 0, feeds: 0))
    private let task = Mutex<Task<Void, Never>?>(nil)

    var wakes: Int { count.withLock { $0.wakes } }
    var feeds: Int { count.withLock { $0.feeds } }

    init(_ fixture: ScheduleFixture) async throws {
        channels = fixture.schedule.channels(of: fixture.queue)
        let standing = Mutex(false)
        let events = fixture.redis.subscribe([channels.wake, channels.feed])
        let listening = Task { [weak self] in
            for await event in events {
                switch event {
                case .subscribed: standing.withLock { $0 = true }
                case .lost: break
                case .message(let channel, _):
                    guard let self else { return }
                    self.count.withLock { count in
                        if channel == self.channels.wake { count.wakes += 1 } else { count.feeds += 1 }
                    }
                }
            }
        }
        task.withLock { $0 = listening }
        try await eventually("the subscription stands") { standing.withLock { $0 } }
    }

    deinit { task.withLock { $0?.cancel() } }
}
