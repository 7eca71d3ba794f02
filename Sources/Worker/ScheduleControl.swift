// Sets the schedule up after it was lost: flushed, restarted empty, or failed over to an empty node.
//
// The epoch, pauses and limits first, then what this process runs; the feeder brings the rest. Every worker that finds
// the schedule missing does this, and doing it twice is harmless. Nothing is leased before all living workers have said
// what they run (`awaited` in the scripts), so that caps hold through it.

import Logging
import Platform
import Queue
import Store

/// Puts schedules back up.
struct ScheduleControl: Sendable {
    private static let adoptedPerCall = 500

    private let worker: WorkerID
    private let control: QueueControl
    private let schedule: Schedule
    private let logger: Logger

    init(
        worker: WorkerID,
        _ control: QueueControl,
        _ schedule: Schedule,
        logger: Logger
    ) {
        self.worker = worker
        self.control = control
        self.schedule = schedule
        self.logger = logger
    }

    /// Applies pauses and limits again, in case the schedule was not there when they were set.
    func refresh(_ queue: String, slots: Int) async throws {
        try await control.apply(queue, defaults: .of(queue), slots: slots)
    }

    /// Sets up the schedule of a queue and registers all that runs here; nobody may claim for `running` meanwhile.
    func setUp(_ queue: String, slots: Int, adopting running: Running, leaseLength: Duration) async {
        do {
            try await control.apply(queue, defaults: .of(queue), slots: slots)
            let adopted = try await register(
                running.all.map(\.job),
                running,
                queue,
                leaseLength,
                areAll: true
            )
            logger.notice(
                "The schedule in Redis was set up.",
                metadata: ["queue": "\(queue)", "running": "\(adopted)"]
            )
        } catch {
            logger.warning(
                "The schedule in Redis could not be set up yet.",
                metadata: ["queue": "\(queue)", "error": "\(error)"]
            )
        }
    }

    /// Registers all that runs here with a schedule that somebody else has set up, if one has; nobody may claim for
    /// `running` meanwhile.
    func registerAll(_ queue: String, slots: Int, _ running: Running, leaseLength: Duration) async {
        do {
            try await register(running.all.map(\.job), running, queue, leaseLength, areAll: true)
        } catch is Schedule.NotStanding {
            await setUp(queue, slots: slots, adopting: running, leaseLength: leaseLength)
        } catch {
            // Redis is away again; its return asks again.
            logger.debug(
                "What runs here could not be registered yet.",
                metadata: ["queue": "\(queue)", "error": "\(error)"]
            )
        }
    }

    /// Registers running jobs that the schedule does not know; returns how many it took.
    @discardableResult
    func register(
        _ jobs: [ClaimedJob],
        _ running: Running,
        _ queue: String,
        _ leaseLength: Duration,
        areAll: Bool = false
    ) async throws -> Int {
        var rest = jobs.compactMap { job in running.tokenForAdoption(of: job).map { (job: job, token: $0) } }
        var adopted: [(job: ClaimedJob, token: String)] = []
        repeat {
            let some = Array(rest.prefix(Self.adoptedPerCall))
            rest.removeFirst(some.count)
            let taken = try await schedule.adopt(
                some,
                queue: queue,
                length: leaseLength,
                all: areAll && rest.isEmpty ? worker : nil
            )
            adopted += zip(some, taken).filter(\.1).map(\.0)
        } while !rest.isEmpty
        // What ended meanwhile could not settle a lease that there was not yet.
        let ended = adopted.filter { !running.contains($0.job) }
        try await schedule.settle(ended.map { ($0.job.id, $0.token, .done) }, queue: queue)
        return adopted.count
    }
}
