// Takes back the jobs of workers that stopped renewing: killed, hung, or cut off.
//
// PostgreSQL decides first, behind the fence of the attempt; then the schedule follows. Two reapers at once, or one that
// dies half-way, do no harm: the row changes once, and the lease expires again.

import Database
import Logging
import Platform
import Queue
import Synchronization

/// The reaper of one queue.
final class Reaper: Sendable {
    private static let limit = 100

    let work: any Work
    let database: Database
    let schedule: Schedule
    let leaseLength: Duration
    /// A worker whose heartbeat in PostgreSQL is no older than this lives, whatever its leases say.
    let freshHeartbeat: Duration
    let logger: Logger
    /// Redis' time at an instant of this process, to tell whether its clock has jumped since.
    private let clock = Mutex<(redis: Timestamp, here: ContinuousClock.Instant)?>(nil)

    init(
        work: any Work,
        database: Database,
        schedule: Schedule,
        leaseLength: Duration,
        freshHeartbeat: Duration,
        logger: Logger
    ) {
        self.work = work
        self.database = database
        self.schedule = schedule
        self.leaseLength = leaseLength
        self.freshHeartbeat = freshHeartbeat
        self.logger = logger
    }

    /// Reaps leases that have expired.
    ///
    /// They also expire when Redis was away for longer than a lease. What a living worker still runs is then only
    /// forgotten here, and registered again by that worker's next heartbeat.
    func reapExpired() async throws {
        while true {
            let expired = try await takeExpired()
            if !expired.isEmpty { try await takeBack(expired) }
            if expired.count < Self.limit { return }
        }
    }

    /// Expired leases; none when Redis' clock has jumped, for then every lease may look so: the tick is left out, and
    /// living workers renew theirs before the next.
    private func takeExpired() async throws -> [ExpiredLease] {
        let before = ContinuousClock.now
        let expected = clock.withLock { $0.map { $0.redis + (before - $0.here) } }
        let (now, expired) = try await schedule.reap(
            queue: work.queue,
            limit: Self.limit,
            length: leaseLength,
            expecting: expected
        )
        clock.withLock { $0 = (now, before) }
        if let expected, abs((now - expected).inSeconds) > Schedule.clockTolerance.inSeconds {
            logger.warning(
                "Redis' clock has jumped; expired leases are left alone for one round.",
                metadata: ["queue": "\(work.queue)", "seconds": "\((now - expected).inSeconds)"]
            )
        }
        return expired
    }

    private func takeBack(_ expired: [ExpiredLease]) async throws {
        try await database.transaction(.worker) { transaction in
            let reaped = try await transaction.query(Jobs.reap(expired, sparing: freshHeartbeat))
            try await bury(reaped, transaction)
        }
        // As the rows stand now, whoever changed them: waiting ones run again, the others are forgotten.
        let rows = try await database.query(.worker, Jobs.tickets(of: expired.map { ($0.org, $0.id) }))
        var standing: [JobID: (state: JobState, ticket: Ticket)] = [:]
        for row in rows {
            guard let ticket = try Jobs.ticket(row) else { continue }
            standing[ticket.id] = (try row("state"), ticket)
        }
        let settlements = expired.map { lease -> (id: JobID, token: String, settlement: Settlement) in
            guard let (state, ticket) = standing[lease.id], state == .queued else {
                return (lease.id, lease.token, .done)
            }
            return (lease.id, lease.token, .again(generation: ticket.generation, due: ticket.due))
        }
        try await schedule.settle(settlements, queue: work.queue)
    }

    /// Reaps running rows that no living worker answers for, where Redis lost the lease; the feeder brings them back.
    func reapOrphans(heartbeatMax: Duration) async throws {
        try await database.transaction(.worker) { transaction in
            let rows = try await transaction.query(
                Jobs.reapOrphans(queue: work.queue, heartbeatMax: heartbeatMax, limit: Self.limit)
            )
            try await bury(rows, transaction)
        }
    }

    /// Writes what belongs to the end of those that crashed too often.
    private func bury(_ reaped: Rows, _ transaction: Transaction) async throws {
        for row in reaped {
            let (id, org, state): (JobID, OrgID, JobState) = (
                try row("id"), try row("org_id"), try row("state")
            )
            let crashes: Int = try row("crash_count")
            logger.warning(
                state == .dead
                    ? "A job crashed its workers too often and is a dead letter now."
                    : "A job was taken back from a worker that stopped or hung.",
                metadata: ["job.id": "\(id)", "queue": "\(work.queue)", "crashes": "\(crashes)"]
            )
            guard state == .dead else { continue }
            let reason = "Its worker stopped or hung \(crashes) times."
            do {
                let effects = try await work.burial(payload: try row("payload"), org: org, reason: reason)
                if !effects.isEmpty { try await write(effects, transaction) }
            } catch let error as DatabaseError where error.isRefusal {
                // The others of the batch must not suffer from it, and it must not be tried for ever.
                logger.error(
                    "A job died, and what that means for its mail could not be written.",
                    metadata: ["job.id": "\(id)", "queue": "\(work.queue)", "error": "\(error)"]
                )
            }
        }
    }

    /// Writes statements that, refused, undo nothing but themselves.
    private func write(_ effects: [Statement], _ transaction: Transaction) async throws {
        try await transaction.query("SAVEPOINT burial")
        do {
            try await transaction.batch(effects)
        } catch {
            if error.isRefusal { try await transaction.query("ROLLBACK TO SAVEPOINT burial") }
            throw error
        }
        try await transaction.query("RELEASE SAVEPOINT burial")
    }
}

extension DatabaseError {
    /// The same call would be refused again: it is the call that is wrong, and not the moment.
    fileprivate var isRefusal: Bool {
        switch self {
        case .unique, .constraint, .failed, .decoding: true
        default: false
        }
    }
}
