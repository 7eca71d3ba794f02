// What the schedule does when Redis' clock is not where it was; leases are moved in place of the clock.

import Platform
import Queue
import Redis
import TestSupport
import Testing

@Suite("Clocks")
struct ClockTests {
    @Test("a reaper that expects another time takes nothing, and the same leases when the time is right")
    func jump() async throws {
        try await ScheduleFixture.with { fixture in
            _ = try await fixture.push(Ticket.many(2, OrgID()))
            let leases = try await fixture.lease()
            for lease in leases { try await fixture.makeDue(lease.id, in: "lease") }
            func reap(expecting expected: Timestamp?) async throws -> (Timestamp, Int) {
                let (now, expired) = try await fixture.schedule.reap(
                    queue: fixture.queue,
                    limit: 10,
                    length: .seconds(30),
                    expecting: expected
                )
                return (now, expired.count)
            }
            let (now, none) = try await reap(expecting: .now + .seconds(60))
            #expect(none == 0 && abs((now - .now).inSeconds) < 5)
            #expect(try await reap(expecting: now + .seconds(-60)).1 == 0)
            // Nobody took them over meanwhile: their holder may still renew.
            let renewals = try await fixture.schedule.extend(
                [(leases[0].id, leases[0].token)],
                queue: fixture.queue,
                length: .seconds(30)
            )
            #expect(renewals == [.kept])
            #expect(try await reap(expecting: now).1 == 1)
        }
    }

    @Test(
        "a lease that a clock ahead of this one gave ends a lease's length from now, not when that clock said"
    )
    func clockSetBack() async throws {
        try await ScheduleFixture.with { fixture in
            _ = try await fixture.push(Ticket.many(1, OrgID()))
            let lease = try await fixture.lease(1, .seconds(3600))[0]
            func reap() async throws -> Int {
                try await fixture.schedule.reap(queue: fixture.queue, limit: 10, length: .milliseconds(200)).1
                    .count
            }
            #expect(try await reap() == 0)
            try await eventually("it has expired") { try await reap() == 1 }
            #expect(try await fixture.settle([lease]) == [false])
        }
    }
}
