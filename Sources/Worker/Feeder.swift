// Brings waiting jobs from PostgreSQL into the schedule: what never reached Redis, what did not fit its window, and
// what is due soon. Pushing is idempotent, so that the feeder need not know which of these a job is.
//
// Three looks, each cheap when there is nothing to bring:
// - by time: what comes within the horizon since the last look, by an index, whatever its lane. A delayed job is never
//   late because a walk over many lanes takes long.
// - by lane: the next few jobs of each lane, some lanes a second. Where one of them was missing in the schedule, the lane
//   is filled to its window.
// - by call: a lane whose window runs low while rows wait behind it asks for more.

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
    /// Of each lane and priority, to see whether anything is missing.
    private static let head = 5
    private static let lanesPerPage = 1000
    private static let duePerPage = 5000
    private static let hungryMax = 100
    private static let pushMax = 500
    /// A look that finds work to do goes on with the next page for this long.
    private static let sweepAtMost: Duration = .milliseconds(500)

    private struct Position {
        var lane: LaneCursor?
        /// Up to here all that is delayed was pushed; nil before the first look.
        var due: DueCursor?
    }

    /// Notified when a lane's window ran low.
    let hungry = Signal()
    private let queue: String
    private let database: Database
    private let schedule: Schedule
    private let horizon: Duration
    private let position = Mutex(Position())

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
                while (try? await self.refill()) == true {}
            }
        }
    }

    /// Looks by time, and walks some lanes further; on and on for a while where there is something to bring.
    func sweep() async throws {
        let end = ContinuousClock.now + Self.sweepAtMost
        while try await bringDue(), ContinuousClock.now < end {}
        while try await walk(), ContinuousClock.now < end {}
    }

    /// Pushes what has come within the horizon since the last look; true when there is more.
    private func bringDue() async throws -> Bool {
        let rows = try await rows(
            Jobs.delayed(
                queue: queue,
                after: position.withLock { $0.due },
                limit: Self.duePerPage,
                horizon: horizon
            )
        )
        // Of one lane no more than fits, and one that does not, so that the lane is known to have more.
        var seen: [String: Int] = [:]
        let tickets = try rows.compactMap(Jobs.ticket).filter { ticket in
            seen["\(ticket.priority.rawValue)\(ticket.lane)", default: 0] += 1
            return seen["\(ticket.priority.rawValue)\(ticket.lane)", default: 0] <= Self.window
        }
        try await push(tickets)
        // Only now: what was not pushed is looked at again.
        if let last = try rows.last.map(DueCursor.init) { position.withLock { $0.due = last } }
        return rows.count == Self.duePerPage
    }

    /// Looks at the heads of some lanes, from the first again when the last was reached; true when anything was missing.
    private func walk() async throws -> Bool {
        let rows = try await rows(
            Jobs.waiting(
                queue: queue,
                after: position.withLock { $0.lane },
                lanes: Self.lanesPerPage,
                window: Self.head,
                horizon: horizon
            )
        )
        var tickets: [Ticket] = []
        var lanes = 0
        var last: LaneCursor?
        for row in rows {
            let lane = LaneCursor(org: try row("org_id"), lane: try row("lane"))
            if lane != last { lanes += 1 }
            last = lane
            if let ticket = try Jobs.ticket(row) { tickets.append(ticket) }
        }
        let pushed = try await push(tickets)
        try await fill(Self.lanesToFill(zip(tickets, pushed)))
        position.withLock { $0.lane = lanes < Self.lanesPerPage ? nil : last }
        return lanes == Self.lanesPerPage && pushed.contains(.taken)
    }

    private struct Level: Hashable {
        let lane: LaneCursor
        let priority: Priority
    }

    /// Lanes of which something was missing, and of which there may be more than their head.
    private static func lanesToFill(_ pushed: some Sequence<(Ticket, Schedule.Pushed)>) -> [LaneCursor] {
        var heads: [Level: (count: Int, missing: Bool)] = [:]
        for (ticket, answer) in pushed {
            let level = Level(lane: LaneCursor(org: ticket.org, lane: ticket.lane), priority: ticket.priority)
            heads[level, default: (0, false)].count += 1
            if answer == .taken { heads[level]?.missing = true }
        }
        return Array(Set(heads.filter { $0.value.missing && $0.value.count == head }.keys.map(\.lane)))
    }

    /// Refills lanes whose window ran low; true when there may be others.
    func refill() async throws -> Bool {
        let hungry = try await schedule.counts(queue: queue, hungry: Self.hungryMax).hungry
        try await fill(hungry)
        return hungry.count == Self.hungryMax
    }

    private func fill(_ lanes: [LaneCursor]) async throws {
        for start in stride(from: 0, to: lanes.count, by: Self.hungryMax) {
            let results = try await database.batch(
                .worker,
                [Jobs.walking]
                    + lanes[start..<min(start + Self.hungryMax, lanes.count)].map {
                        Jobs.waiting(
                            queue: queue,
                            org: $0.org,
                            lane: $0.lane,
                            window: Self.window,
                            horizon: horizon
                        )
                    }
            )
            try await push(try results.dropFirst().flatMap { try $0.compactMap(Jobs.ticket) })
        }
    }

    private func rows(_ statement: Statement) async throws -> Rows {
        try await database.batch(.worker, [Jobs.walking, statement])[1]
    }

    @discardableResult
    private func push(_ tickets: [Ticket]) async throws -> [Schedule.Pushed] {
        var answers: [Schedule.Pushed] = []
        answers.reserveCapacity(tickets.count)
        for start in stride(from: 0, to: tickets.count, by: Self.pushMax) {
            answers += try await schedule.push(
                Array(tickets[start..<min(start + Self.pushMax, tickets.count)]),
                queue: queue
            )
        }
        return answers
    }
}
