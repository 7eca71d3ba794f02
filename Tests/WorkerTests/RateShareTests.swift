// What one process may start while Redis is away.

import Platform
import Queue
import Testing

@testable import Worker

@Suite("Shares of a rate")
struct RateShareTests {
    /// How many jobs of one organization start within a second of looking every ten milliseconds.
    private func started(
        _ share: inout RateShare,
        _ org: OrgID,
        lane: String,
        from begin: ContinuousClock.Instant
    ) -> Int {
        var count = 0
        for step in 0..<100 {
            let now = begin + .milliseconds(10) * step
            let exhausted = share.exhausted(at: now)
            if exhausted.contains(.org(org)) || exhausted.contains(.lane(lane)) { continue }
            share.take(org: org, lane: lane, at: now)
            count += 1
        }
        return count
    }

    @Test("an eighth of an organization's, of a lane's, and of everybody's rate")
    func eighth() {
        let (own, other) = (OrgID(), OrgID())
        var share = RateShare()
        share.setRates([.org(own): 80, .lane("slow"): 16, .queue: 40], defaults: QueueControl.Defaults())
        let begin = ContinuousClock.now
        #expect(started(&share, own, lane: "a", from: begin) == 10)
        #expect(started(&share, other, lane: "b", from: begin) == 5)
        #expect(started(&share, OrgID(), lane: "slow", from: begin) == 2)
        #expect(
            share.nextOpening(at: begin + .seconds(1)) == nil
                || share.exhausted(at: begin + .seconds(1)).isEmpty
        )
    }

    @Test("half a second may be made up for, and no more")
    func catchingUp() {
        let org = OrgID()
        var share = RateShare()
        share.setRates([.org(org): 80], defaults: QueueControl.Defaults())
        let begin = ContinuousClock.now
        #expect(started(&share, org, lane: "a", from: begin) == 10)
        // An hour later: one more, and the five of half a second.
        #expect(started(&share, org, lane: "a", from: begin + .seconds(3600)) == 15)
    }

    @Test("a rate of nothing lets nothing through; a lifted one lets everything")
    func lifted() {
        let org = OrgID()
        var share = RateShare()
        share.setRates([.org(org): 0], defaults: QueueControl.Defaults())
        let begin = ContinuousClock.now
        #expect(started(&share, org, lane: "a", from: begin) == 0)
        share.setRates([:], defaults: QueueControl.Defaults())
        #expect(started(&share, org, lane: "a", from: begin) == 100)
        var defaults = QueueControl.Defaults()
        defaults.orgRatePerSecond = 8
        share.setRates([:], defaults: defaults)
        #expect(started(&share, org, lane: "a", from: begin) == 1)
    }
}
