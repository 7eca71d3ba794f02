// Says that this process lives and what it runs: renews leases in Redis, and its row in PostgreSQL for the case that
// Redis is gone.

import Database
import Foundation
import Logging
import Platform
import Queue
import ServiceLifecycle

/// The heartbeat of one worker process.
struct Heartbeat: Service {
    let worker: WorkerID
    let processors: [Processor]
    let database: Database
    let schedule: Schedule
    let control: ScheduleControl
    let leaseLength: Duration
    let rowInterval: Duration
    let logger: Logger

    /// Beats until it is told to stop, which is after the processors have ended, and then takes its row away.
    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    await self.beat(every: self.leaseLength / 3) { try await self.renewLeases() }
                }
                group.addTask { await self.beat(every: self.rowInterval) { try await self.renewRow() } }
                await group.waitForAll()
            }
        }
        // Best effort: an old row is swept.
        _ = try? await database.query(.worker, "DELETE FROM workers WHERE id = \(worker)")
    }

    private func beat(every interval: Duration, _ body: () async throws -> Void) async {
        while !Task.isCancelled {
            do {
                try await body()
            } catch {
                logger.debug("A heartbeat was missed.", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: interval)  // ends early when cancelled, and so does the loop
        }
    }

    private func renewLeases() async throws {
        for processor in processors {
            let now = ContinuousClock.now
            // An attempt past its deadline is not renewed: it is reaped like that of a dead process.
            let renewed = processor.running.all.filter { now - $0.startedAt < processor.work.deadline }
            let leased = renewed.compactMap { job in job.token.map { (job: job, token: $0) } }
            for start in stride(from: 0, to: leased.count, by: 500) {
                let some = leased[start..<min(start + 500, leased.count)]
                let renewals: [Schedule.Renewal]
                do {
                    renewals = try await schedule.extend(
                        some.map { ($0.job.job.id, $0.token) },
                        queue: processor.work.queue,
                        length: leaseLength
                    )
                } catch is Schedule.NotStanding {
                    // A processor without a free slot does not look, and would not notice.
                    await control.setUp(
                        processor.work.queue,
                        adopting: processor.running,
                        leaseLength: leaseLength
                    )
                    break
                }
                // A lost lease: somebody else runs the job now, and nothing this attempt does would count.
                for (job, renewal) in zip(some, renewals) where renewal == .lost { job.job.task?.cancel() }
                let unknown = zip(some, renewals).filter { $0.1 == .unknown }.map {
                    ($0.0.job.job, $0.0.token)
                }
                try await schedule.adopt(unknown, queue: processor.work.queue, length: leaseLength)
            }
            for job in processor.running.all where now - job.startedAt >= processor.work.deadline {
                job.task?.cancel()
            }
        }
    }

    private func renewRow() async throws {
        let now = ContinuousClock.now
        // Past its deadline an attempt counts as hung, here as for the leases.
        let running = processors.flatMap { processor in
            processor.running.all.filter { now - $0.startedAt < processor.work.deadline }.map(\.job.id)
        }
        try await database.query(
            .worker,
            """
            INSERT INTO workers (id, host, process, queues, running)
            VALUES (\(worker), \(ProcessInfo.processInfo.hostName), \(Int(ProcessInfo.processInfo.processIdentifier)),
                \(processors.map(\.work.queue)), \(running))
            ON CONFLICT (id) DO UPDATE SET running = excluded.running, seen_at = now()
            """
        )
    }
}
