// Sets the schedule up after it was lost: flushed, restarted empty, or failed over to an empty node.
//
// The epoch, pauses and limits first, then what this process runs; the feeder brings the rest. Every worker that finds
// the schedule missing does this, and doing it twice is harmless.

import Logging
import Platform
import Queue
import Store

/// Puts schedules back up.
struct ScheduleControl: Sendable {
    private let control: QueueControl
    private let schedule: Schedule
    private let logger: Logger

    init(
        _ control: QueueControl,
        _ schedule: Schedule,
        logger: Logger
    ) {
        self.control = control
        self.schedule = schedule
        self.logger = logger
    }

    /// Applies pauses and limits again, in case the schedule was not there when they were set.
    func refresh(_ queue: String) async throws {
        try await control.apply(queue, defaults: .of(queue))
    }

    /// Sets up the schedule of a queue and registers what runs here.
    func setUp(_ queue: String, adopting running: Running, leaseLength: Duration) async {
        do {
            try await control.apply(queue, defaults: .of(queue))
            let adopted = running.all.map { job -> (job: ClaimedJob, token: String) in
                let token = job.token ?? [UInt8].random(count: 12).base64URL
                running.setToken(token, of: job.job)
                return (job.job, token)
            }
            try await schedule.adopt(adopted, queue: queue, length: leaseLength)
            logger.notice(
                "The schedule in Redis was set up.",
                metadata: ["queue": "\(queue)", "running": "\(adopted.count)"]
            )
        } catch {
            logger.warning(
                "The schedule in Redis could not be set up yet.",
                metadata: ["queue": "\(queue)", "error": "\(error)"]
            )
        }
    }
}
