// Pauses and limits from their rows to the schedule.

import Database
import Platform
import Queue
import TestSupport
import Testing

@Suite("Control")
struct ControlTests {
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
