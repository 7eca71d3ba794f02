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
                    processor.mustRegister()
                    break
                }
                let of = { (wanted: Schedule.Renewal) in
                    zip(some, renewals).filter { $0.1 == wanted }.map(\.0.job)
                }
                await cancelThose(of: of(.lost))
                try await control.register(
                    of(.unknown).map(\.job),
                    processor.running,
                    processor.work.queue,
                    leaseLength
                )
            }
            // Claimed while Redis was away, or while it forgot: now it may know of them.
            let unleased = renewed.filter { $0.token == nil }.map(\.job)
            if !unleased.isEmpty {
                try await control.register(unleased, processor.running, processor.work.queue, leaseLength)
            }
            for job in processor.running.all where now - job.startedAt >= processor.work.deadline {
                job.task?.cancel()
            }
        }
    }

    /// A lost lease: if somebody else may run the job now, nothing this attempt does would count.
    ///
    /// PostgreSQL decides that. A reaper that took the lease and died, or found that this worker lives, has left the row
    /// as it was; and when PostgreSQL cannot be asked the attempt goes on, for its end stands behind the fence.
    private func cancelThose(of lost: [RunningJob]) async {
        guard !lost.isEmpty else { return }
        let jobs = lost.map(\.job)
        guard let rows = try? await database.query(.worker, Jobs.stillOurs(jobs)),
            let ours = try? Set(rows.map { try $0("id") as JobID })
        else { return }
        for job in lost where !ours.contains(job.job.id) { job.task?.cancel() }
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
            INSERT INTO workers (id, host, process, queues, slots, running)
            VALUES (\(worker), \(ProcessInfo.processInfo.hostName), \(Int(ProcessInfo.processInfo.processIdentifier)),
                \(processors.map(\.work.queue)), \(processors.map(\.settings.concurrency)), \(running))
            ON CONFLICT (id) DO UPDATE SET running = excluded.running, seen_at = now()
            """
        )
    }
}
