// Pace as a value, and turns at a site.

import NIOCore
import NIOPosix
import Testing

@testable import Worker

@Suite("Pacing by site")
struct DeliveryPacingTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

    private func filled(_ pace: inout Pace) -> [Pace.Mark] {
        var marks: [Pace.Mark] = []
        while pace.verdict(at: start) == .go { marks.append(pace.begin()) }
        return marks
    }

    @Test("it starts at five, grows by one a success and stops at its most")
    func growth() {
        var pace = Pace(limit: 5, limitMax: 8)
        #expect(filled(&pace).count == 5)
        for expected in [6, 7, 8, 8] {
            pace.end(pace.begin(), .succeeded, at: start)
            #expect(pace.limit == expected)
        }
    }

    @Test("a refused message neither grows nor cuts it")
    func answered() {
        var pace = Pace(limit: 5, limitMax: 8)
        pace.end(pace.begin(), .answered, at: start)
        #expect(pace.limit == 5)
        #expect(pace.running == 0)
    }

    @Test("a limit that nobody needs does not grow")
    func unused() {
        var pace = Pace(limit: 50, limitMax: 500)
        for _ in 0..<100 { pace.end(pace.begin(), .succeeded, at: start) }
        #expect(pace.limit == 50)
    }

    @Test("sessions that meet the same 421 halve it once")
    func halving() {
        var pace = Pace(limit: 20, limitMax: 20)
        let marks = filled(&pace)
        for mark in marks { pace.end(mark, .slowedDown, at: start) }
        #expect(pace.limit == 10)
        pace.end(pace.begin(), .slowedDown, at: start)
        #expect(pace.limit == 5)
        for _ in 0..<10 { pace.end(pace.begin(), .slowedDown, at: start) }
        #expect(pace.limit == 1)
    }

    @Test("a site out of reach rests, longer each time, and comes back one by one")
    func rest() {
        var pace = Pace(limit: 5, limitMax: 8)
        let marks = filled(&pace)
        for mark in marks { pace.end(mark, .unreachable, at: start) }
        #expect(pace.verdict(at: start) == .rest(until: start + Duration.seconds(5)))
        var now = start
        for seconds in [5, 10, 20, 40, 80, 160, 320, 600, 600] {
            guard case .rest(let until) = pace.verdict(at: now) else {
                Issue.record("it does not rest")
                return
            }
            #expect(now.distance(to: until) == .seconds(seconds))
            now = until
            #expect(pace.verdict(at: now) == .go)
            let mark = pace.begin()
            #expect(pace.verdict(at: now) == .wait)
            pace.end(mark, .unreachable, at: now)
        }
        now = now + Duration.seconds(600)
        pace.end(pace.begin(), .succeeded, at: now)
        #expect(pace.verdict(at: now) == .go)
        #expect(pace.limit == 2)
    }

    @Test("a failed connection beside ones that work is too many, not away")
    func tooMany() {
        var pace = Pace(limit: 4, limitMax: 4)
        let (first, second) = (pace.begin(), pace.begin())
        pace.end(first, .succeeded, at: start)
        pace.end(second, .unreachable, at: start)
        #expect(pace.verdict(at: start) == .go)
        #expect(pace.limit == 2)
    }

    private let site = Site(exchangers: ["mx.example.test"])

    private func sites(_ clock: ManualClock, start: Int = 1, waiters: Int = 2) -> Sites {
        var limits = Sites.Limits()
        limits.exchangersStart = start
        limits.exchangersMax = start
        limits.waitersMax = waiters
        return Sites(limits: limits, clock: clock, group: MultiThreadedEventLoopGroup.singleton)
    }

    private func granted(_ sites: Sites) async throws -> Sites.Turn {
        guard case .granted(let turn) = await sites.turn(at: site) else { throw PeerFault("no turn") }
        return turn
    }

    /// Returns when that many wait.
    private func waiting(_ count: Int, _ sites: Sites) async {
        while sites.waiting(at: site) < count { await Task.yield() }
    }

    @Test("turns come in the order in which they were asked for", .timeLimit(.minutes(1)))
    func order() async throws {
        let sites = sites(ManualClock())
        let first = try await granted(sites)
        let second = Task { try await granted(sites) }
        await waiting(1, sites)
        let third = Task { try await granted(sites) }
        await waiting(2, sites)
        guard case .busy = await sites.turn(at: site) else {
            Issue.record("more may wait than the limit allows")
            return
        }
        sites.end(first, .answered, keeping: nil)
        let turn = try await second.value
        #expect(sites.waiting(at: site) == 1)
        sites.end(turn, .answered, keeping: nil)
        sites.end(try await third.value, .answered, keeping: nil)
        #expect(sites.load(at: site).running == 0)
    }

    @Test("a turn is waited for thirty seconds and no longer", .timeLimit(.minutes(1)))
    func waitLimit() async throws {
        let clock = ManualClock()
        let sites = sites(clock)
        let first = try await granted(sites)
        let second = Task { await sites.turn(at: site) }
        await clock.advance(by: .seconds(29))
        #expect(sites.waiting(at: site) == 1)
        await clock.advance(by: .seconds(2))
        guard case .busy = await second.value else {
            Issue.record("it was not told that the site is busy")
            return
        }
        sites.end(first, .answered, keeping: nil)
    }

    @Test("whoever is cancelled while waiting leaves the line", .timeLimit(.minutes(1)))
    func cancellation() async throws {
        let sites = sites(ManualClock())
        let first = try await granted(sites)
        let second = Task { await sites.turn(at: site) }
        await waiting(1, sites)
        second.cancel()
        guard case .cancelled = await second.value else {
            Issue.record("it was not told")
            return
        }
        sites.end(first, .answered, keeping: nil)
        sites.end(try await granted(sites), .answered, keeping: nil)
    }

    @Test("who waits when a site goes out of reach is told at once", .timeLimit(.minutes(1)))
    func restTold() async throws {
        let sites = sites(ManualClock())
        let first = try await granted(sites)
        let second = Task { await sites.turn(at: site) }
        await waiting(1, sites)
        sites.end(first, .unreachable, keeping: nil)
        guard case .resting(.seconds(5)) = await second.value else {
            Issue.record("it was not told that the site rests")
            return
        }
    }
}
