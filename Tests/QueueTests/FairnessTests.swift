// Who is served when many want to be: turns, weights, lanes, caps, rates, pauses.

import Platform
import Queue
import Redis
import TestSupport
import Testing

@Suite("Fairness")
struct FairnessTests {
    @Test(
        "one organization floods 100,000 jobs; another's single job is among the next two",
        arguments: Mode.allCases
    )
    func flood(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let (flooding, other) = (OrgID(), OrgID())
            // The flood itself: 500 stay, the rest waits in PostgreSQL.
            for _ in 0..<200 { _ = try await fixture.push(Ticket.many(500, flooding)) }
            #expect(try await fixture.counts() == [500, 0, 0])
            for round in 0..<200 {
                let single = Ticket.new(other)
                if round % 10 == 0 { _ = try await fixture.push([single]) }
                let leases = try await fixture.lease(20)
                if round % 10 == 0 {
                    #expect(leases.prefix(2).contains { $0.id == single.id }, "round \(round)")
                }
                #expect(leases.count == 20)
                _ = try await fixture.settle(leases)
                // The feeder.
                _ = try await fixture.push(Ticket.many(20, flooding))
            }
        }
    }

    @Test("a weight of three is three jobs to the other's one", arguments: Mode.allCases)
    func weights(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let (heavy, light) = (OrgID(), OrgID())
            try await fixture.schedule.configure(queue: fixture.queue, ["weight:o:\(heavy)": "3"])
            _ = try await fixture.push(Ticket.many(500, light) + Ticket.many(500, heavy))
            var served: [OrgID: Int] = [:]
            for _ in 0..<57 {
                // Batches of seven, so that a turn goes over from one to the next.
                for lease in try await fixture.lease(7) { served[lease.org, default: 0] += 1 }
            }
            for lease in try await fixture.lease(1) { served[lease.org, default: 0] += 1 }
            #expect(served == [heavy: 300, light: 100])
        }
    }

    @Test("lanes of one organization take turns, and together have one organization's share")
    func lanes() async throws {
        try await ScheduleFixture.with { fixture in
            let (org, other) = (OrgID(), OrgID())
            _ = try await fixture.push(Ticket.many(40, org, lane: "a") + Ticket.many(40, org, lane: "b"))
            _ = try await fixture.push(Ticket.many(40, other))
            let lanes = try await fixture.lease(40).map { $0.org == org ? $0.lane : "-" }
            #expect(lanes == (0..<40).map { ["a", "-", "b", "-"][$0 % 4] })
        }
    }

    @Test("caps of organization and lane are never exceeded and open again", arguments: Mode.allCases)
    func caps(_ mode: Mode) async throws {
        try await ScheduleFixture.with(mode) { fixture in
            let org = OrgID()
            try await fixture.schedule.configure(queue: fixture.queue, ["cap:o": "5", "cap:l:a": "2"])
            let tickets = Ticket.many(60, org, lane: "a") + Ticket.many(60, org, lane: "b")
            _ = try await fixture.push(tickets)
            var generator = SeededGenerator(seed: 11)
            var running: [Lease] = []
            var seen: Set<JobID> = []
            while seen.count < tickets.count {
                let leases = try await fixture.lease(Int.random(in: 1...10, using: &generator))
                #expect(leases.allSatisfy { seen.insert($0.id).inserted })
                running += leases
                #expect(running.count <= 5)
                #expect(running.count { $0.lane == "a" } <= 2)
                try #require(!running.isEmpty, "the caps leaked after \(seen.count) jobs")
                running.shuffle(using: &generator)
                let ended = running.suffix(Int.random(in: 1...running.count, using: &generator))
                running.removeLast(ended.count)
                #expect(try await fixture.settle(Array(ended)).allSatisfy { $0 })
            }
            #expect(try await fixture.settle(running).allSatisfy { $0 })
            _ = try await fixture.lease()
            #expect(try await fixture.keys() == ["epoch", "cfg", "n"])
        }
    }

    @Test("a cap neither leaks nor bursts over 1,000 crashes")
    func capsOverCrashes() async throws {
        try await ScheduleFixture.with { fixture in
            try await fixture.schedule.configure(queue: fixture.queue, ["cap:o": "2"])
            _ = try await fixture.push(Ticket.many(10, OrgID()))
            for crash in 0..<500 {
                let leases = try await fixture.lease()
                try #require(leases.count == 2, "crash \(crash)")
                for lease in leases { try await fixture.makeDue(lease.id, in: "lease") }
                let expired = try await fixture.schedule.reap(
                    queue: fixture.queue,
                    limit: 10,
                    length: .seconds(30)
                ).1
                #expect(Set(expired.map(\.id)) == Set(leases.map(\.id)))
                #expect(try await fixture.lease().isEmpty)
                let again = expired.map {
                    ($0.id, $0.token, Settlement.again(generation: crash + 1, due: nil))
                }
                _ = try await fixture.schedule.settle(again, queue: fixture.queue)
                #expect(try await fixture.settle(leases) == [false, false])
            }
            #expect(try await fixture.counts() == [10, 0, 0])
        }
    }

    @Test("an organization leaves a slot for the next, however many are greedy before it")
    func shares() async throws {
        try await ScheduleFixture.with { fixture in
            try await fixture.schedule.configure(queue: fixture.queue, ["slots": "64"])
            let orgs = (0..<4).map { _ in OrgID() }
            var held: [[Lease]] = []
            for org in orgs {
                _ = try await fixture.push(Ticket.many(100, org))
                held.append(try await fixture.lease(64))
            }
            // Three for each slot that is left: 48 of 64, 12 of 16, 3 of 4, 1 of 1.
            #expect(held.map(\.count) == [48, 12, 3, 1])
            #expect(try await fixture.lease(64).isEmpty)
            // What the greediest gives back is for those that have less.
            let ended = try await fixture.settle(Array(held[0].prefix(4)) + held[3])
            #expect(ended == [true, true, true, true, true])
            #expect(try await fixture.lease(64).map(\.org) == [orgs[3], orgs[3], orgs[3], orgs[3]])
            // A cap of its own takes the rule's place.
            try await fixture.schedule.configure(
                queue: fixture.queue,
                ["slots": "64", "cap:o:\(orgs[0])": "60"]
            )
            let more = try await fixture.lease(64)
            #expect(more.count { $0.org == orgs[0] } >= 12)
        }
    }

    @Test("fresh jobs find room in a window that retries would fill")
    func delayedWindow() async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            let retries = (0..<400).map { _ in Ticket.new(org, due: .now + .seconds(50)) }
            let taken = try await fixture.push(retries)
            #expect(taken.count { $0 == .taken } == 250)
            let fresh = try await fixture.push(Ticket.many(200, org))
            #expect(fresh.allSatisfy { $0 == .taken })
            #expect(try await fixture.lease(300).count == 200)
        }
    }

    @Test("who waits for a rate is counted and named, the next to go on first")
    func parked() async throws {
        try await ScheduleFixture.with { fixture in
            let (slow, laned) = (OrgID(), OrgID())
            let rules = ["rate:o:\(slow)": "0.01", "rate:l:a": "0.02"]
            try await fixture.schedule.configure(queue: fixture.queue, rules)
            #expect(try await fixture.schedule.parked(queue: fixture.queue, naming: 5).count == 0)
            _ = try await fixture.push(Ticket.many(2, slow) + Ticket.many(2, laned, lane: "a"))
            #expect(try await fixture.lease().count == 2)
            let parked = try await fixture.schedule.parked(queue: fixture.queue, naming: 5)
            #expect(parked.count == 2 && parked.some.map(\.scope) == [.lane("a"), .org(slow)])
            #expect(parked.some.map(\.org) == [laned, slow])
            #expect(parked.some[0].wait > .seconds(40) && parked.some[1].wait <= .seconds(100))
            let one = try await fixture.schedule.parked(queue: fixture.queue, naming: 1)
            #expect(one.count == 2 && one.some.count == 1)
        }
    }

    @Test("a changed cap holds at once, also for what the old one held", arguments: ["0", "1"])
    func changedCap(_ cap: String) async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            _ = try await fixture.push(Ticket.many(10, org))
            try await fixture.schedule.configure(queue: fixture.queue, ["cap:o:\(org)": cap])
            let first = try await fixture.lease()
            #expect(first.count == Int(cap))
            try await fixture.schedule.configure(queue: fixture.queue, ["cap:o:\(org)": "4"])
            #expect(try await fixture.lease().count == 4 - first.count)
            try await fixture.schedule.configure(queue: fixture.queue, [:])
            #expect(try await fixture.lease().count == 6)
        }
    }

    @Test("pausing and resuming queue, organization and lane", arguments: ["", ":o", ":l"])
    func pauses(_ scope: String) async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            let subject = scope.isEmpty ? "" : scope == ":o" ? ":\(org)" : ":a"
            _ = try await fixture.push(Ticket.many(3, org, lane: "a"))
            let running = try await fixture.lease(1)
            try await fixture.schedule.configure(queue: fixture.queue, ["pause\(scope)\(subject)": "1"])
            #expect(try await fixture.lease().isEmpty)
            // It accepts, and ends what runs.
            #expect(try await fixture.push(Ticket.many(2, org, lane: "a")) == [.taken, .taken])
            #expect(try await fixture.settle(running) == [true])
            #expect(try await fixture.lease().isEmpty)
            #expect(try await fixture.counts() == [4, 0, 0])
            let other = Ticket.new(scope == ":l" ? org : OrgID(), lane: "b")
            _ = try await fixture.push([other])
            #expect(try await fixture.lease().map(\.id) == (scope.isEmpty ? [] : [other.id]))
            try await fixture.schedule.configure(queue: fixture.queue, [:])
            #expect(try await fixture.lease().count == (scope.isEmpty ? 5 : 4))
        }
    }

    @Test("a pause of the lane that is the organization itself holds too")
    func pausedOwnLane() async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            try await fixture.schedule.configure(queue: fixture.queue, ["pause:l:\(org)": "1"])
            _ = try await fixture.push(Ticket.many(1, org))
            #expect(try await fixture.lease().isEmpty)
            try await fixture.schedule.configure(queue: fixture.queue, [:])
            #expect(try await fixture.lease().count == 1)
        }
    }

    @Test("a paused organization costs the same however long its backlog")
    func pausedBacklog() async throws {
        let server = try await RedisServer()
        try await ScheduleFixture.with(on: server) { fixture in
            var costs: [Int] = []
            #expect(try await fixture.lease().isEmpty, "the script is loaded")
            var rules: [String: String] = [:]
            for (lanes, jobs) in [(1, 1), (30, 500)] {
                let org = OrgID()
                rules["pause:o:\(org)"] = "1"
                try await fixture.schedule.configure(queue: fixture.queue, rules)
                for lane in 0..<lanes {
                    _ = try await fixture.push(Ticket.many(jobs, org, lane: "lane \(lane)"))
                }
                try await fixture.redis.command("CONFIG", "RESETSTAT")
                #expect(try await fixture.lease().isEmpty)
                let statistics = try await fixture.redis.command("INFO", "commandstats").string ?? ""
                let calls = statistics.split(whereSeparator: \.isNewline).compactMap { line in
                    line.firstMatch(of: /calls=(\d+)/).flatMap { Int($0.output.1) }
                }
                costs.append(calls.reduce(0, +))
            }
            #expect(costs[0] == costs[1] && costs[0] < 30, "\(costs)")
        }
    }

    @Test("the tokens of one are not spent while the other holds the job back")
    func tokensOfBoth() async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            // One token of the lane, which must not be gone when the organization's cap opens.
            let rules = ["rate:l:a": "0.001", "cap:o:\(org)": "1"]
            try await fixture.schedule.configure(queue: fixture.queue, rules)
            _ = try await fixture.push(Ticket.many(1, org, lane: "b"))
            let first = try await fixture.lease()
            _ = try await fixture.push(Ticket.many(1, org, lane: "a"))
            #expect(try await fixture.lease().isEmpty)
            _ = try await fixture.settle(first)
            #expect(try await fixture.lease().map(\.lane) == ["a"])
        }
    }

    @Test("a rate of nothing lets nothing through, and ends when it is lifted")
    func noRate() async throws {
        try await ScheduleFixture.with { fixture in
            let org = OrgID()
            try await fixture.schedule.configure(queue: fixture.queue, ["rate:o:\(org)": "0"])
            _ = try await fixture.push(Ticket.many(2, org))
            #expect(try await fixture.lease().isEmpty)
            try await fixture.schedule.configure(queue: fixture.queue, ["rate:o:\(org)": "1000"])
            #expect(try await fixture.lease().count == 2)
        }
    }

    @Test("50 a second from four leasers are 50 a second, also after a flush", arguments: [false, true])
    func rate(flushed: Bool) async throws {
        let server = try await RedisServer()
        try await ScheduleFixture.with(on: server) { fixture in
            let org = OrgID()
            let clock = ContinuousClock()
            try await fixture.schedule.configure(queue: fixture.queue, ["rate:o": "50"])
            _ = try await fixture.push(Ticket.many(400, org))
            let start = clock.now
            let looks = try await withThrowingTaskGroup(of: [Look].self) { group in
                for _ in 0..<4 {
                    group.addTask { try await fixture.leaseAll(until: start + .seconds(3)) }
                }
                if flushed {
                    group.addTask {
                        // In the middle of it.
                        try await clock.sleep(until: start + .milliseconds(1500))
                        try await fixture.redis.command("FLUSHALL")
                        try await fixture.schedule.configure(queue: fixture.queue, ["rate:o": "50"])
                        _ = try await fixture.push(Ticket.many(400, org))
                        return []
                    }
                }
                return try await group.reduce([], +)
            }
            let served = Double(looks.map(\.served).reduce(0, +))
            let elapsed = (clock.now - start).inSeconds
            // A full bucket more at the start, and after the flush.
            #expect(served <= 50 * elapsed + (flushed ? 10 : 5))
            let possible = Self.tokens(takenBy: looks, since: start)
            // Roughly, for a look is noted when its answer is read, which a busy machine does later than Redis gave it.
            #expect(served >= possible * 0.5, "\(served) of \(possible) in \(elapsed) s")
        }
    }

    /// What 50 a second with a burst of five allow those who look when these did: on a busy machine nobody may look
    /// for longer than the burst lasts.
    private static func tokens(takenBy looks: [Look], since start: ContinuousClock.Instant) -> Double {
        var (tokens, last, taken) = (5.0, start, 0.0)
        for look in looks.sorted(by: { $0.at < $1.at }) {
            tokens = min(5, tokens + 50 * (look.at - last).inSeconds)
            last = look.at
            taken += tokens.rounded(.down)
            tokens -= tokens.rounded(.down)
        }
        return taken
    }
}

/// One call to lease that was answered.
private struct Look: Sendable {
    let at: ContinuousClock.Instant
    let served: Int
}

extension ScheduleFixture {
    /// What a worker does: leases, ends, and looks again when something is due.
    fileprivate func leaseAll(until end: ContinuousClock.Instant) async throws -> [Look] {
        var looks: [Look] = []
        while ContinuousClock.now < end {
            do {
                let taken = try await schedule.lease(queue: queue, limit: 10, length: .seconds(30))
                looks.append(Look(at: .now, served: taken.leases.count))
                _ = try await settle(taken.leases)
                // The rate is in time, so the test is too.
                if taken.leases.isEmpty {
                    try await Task.sleep(for: min(taken.nextDue ?? .milliseconds(20), .milliseconds(20)))
                }
            } catch is Schedule.NotStanding {
                await Task.yield()
            }
        }
        return looks
    }
}
