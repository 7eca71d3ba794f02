// Brings waiting jobs from PostgreSQL into the schedule: what never reached Redis, what did not fit its window, and
// what is due soon. Pushing is idempotent, so that the feeder need not know which of these a job is.

import Database
import Logging
import Platform
import Queue
import ServiceLifecycle
import Synchronization

/// Feeds the schedule of one queue.
final class Feeder: Service {
    /// Of each lane and priority, one more than its window holds, so that a full window is known to have more behind it.
    private static let window = 501
    private static let lanesPerSweep = 200
    private static let hungryMax = 100
    private static let pushMax = 500

    /// Notified when a lane's window ran low.
    let hungry = Signal()
    private let queue: String
    private let database: Database
    private let schedule: Schedule
    private let horizon: Duration
    private let cursor = Mutex<LaneCursor?>(nil)

    init(queue: String, database: Database, schedule: Schedule, horizon: Duration = .seconds(60)) {
        self.queue = queue
        self.database = database
        self.schedule = schedule
        self.horizon = horizon
    }

    /// Refills windows as they run low; the sweep is a chore.
    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await self.hungry.wait(atMost: .seconds(5))
                // What cannot be done now, Redis or PostgreSQL being away, the sweep does later.
                try? await self.refill()
            }
        }
    }

    /// Walks some lanes further, from the first again when the last was reached.
    func sweep() async throws {
        let rows = try await database.query(
            .worker,
            Jobs.waiting(
                queue: queue,
                after: cursor.withLock { $0 },
                lanes: Self.lanesPerSweep,
                window: Self.window,
                horizon: horizon
            )
        )
        var lanes = 0
        var last: LaneCursor?
        for row in rows {
            let lane = LaneCursor(org: try row("org_id"), lane: try row("lane"))
            if lane != last { lanes += 1 }
            last = lane
        }
        let next = lanes < Self.lanesPerSweep ? nil : last
        cursor.withLock { $0 = next }
        try await push(try rows.compactMap(Jobs.ticket))
    }

    /// Refills lanes whose window ran low.
    func refill() async throws {
        let hungry = try await schedule.counts(queue: queue, hungry: Self.hungryMax).hungry
        guard !hungry.isEmpty else { return }
        let results = try await database.batch(
            .worker,
            hungry.map {
                Jobs.waiting(queue: queue, org: $0.org, lane: $0.lane, window: Self.window, horizon: horizon)
            }
        )
        try await push(try results.flatMap { try $0.compactMap(Jobs.ticket) })
    }

    private func push(_ tickets: [Ticket]) async throws {
        for start in stride(from: 0, to: tickets.count, by: Self.pushMax) {
            try await schedule.push(
                Array(tickets[start..<min(start + Self.pushMax, tickets.count)]),
                queue: queue
            )
        }
    }
}
