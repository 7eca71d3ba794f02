// Ends attempts: fence, outcome and effects in one transaction, many attempts together; then Redis is told.
//
// Killed before the commit: the lease expires and the job runs again. Killed after it: the row is final, the lease
// expires, and the reaper finds nothing to take back.

import Database
import Foundation
import Logging
import Platform
import Queue
import Synchronization

/// Collects completions of one queue and commits them in batches.
final class Finisher: Sendable {
    private static let batchMax = 500
    /// Batches under way at a time: while one waits for the disk the next is on its way.
    private static let flushesMax = 2
    /// A second batch is begun beside the first only when as many wait, for small ones cost more than they gain.
    private static let worthASecond = 32

    private struct Waiting {
        let job: ClaimedJob
        let token: String?
        let completion: Completion
        let done: CheckedContinuation<Void, Never>
    }

    private struct State {
        var waiting: [Waiting] = []
        var flushes = 0
    }

    private let queue: String
    private let database: Database
    private let schedule: Schedule
    private let pusher: Pusher
    private let logger: Logger
    private let state = Mutex(State())

    init(queue: String, database: Database, schedule: Schedule, pusher: Pusher, logger: Logger) {
        self.queue = queue
        self.database = database
        self.schedule = schedule
        self.pusher = pusher
        self.logger = logger
    }

    /// Returns when the end of the attempt is committed, refused by its fence, or could not be written.
    ///
    /// The first to come flushes for all that come while it does; when many do, a second one as well.
    func finish(_ job: ClaimedJob, token: String?, _ completion: Completion) async {
        if case .transaction(let effects) = completion.effects {
            // In a task of its own: a cancelled attempt must still be able to say how it ended.
            await Task { await self.flush([(job, token, completion)], alone: effects) }.value
            return
        }
        await withCheckedContinuation { done in
            let shouldFlush = state.withLock { state in
                state.waiting.append(Waiting(job: job, token: token, completion: completion, done: done))
                guard
                    state.flushes == 0
                        || state.flushes < Self.flushesMax && state.waiting.count >= Self.worthASecond
                else { return false }
                state.flushes += 1
                return true
            }
            // Unstructured because it outlives the attempt that starts it: it serves those that come meanwhile.
            if shouldFlush { Task { await self.flushWaiting() } }
        }
    }

    private func flushWaiting() async {
        while true {
            let batch = state.withLock { state -> [Waiting] in
                let batch = Array(state.waiting.prefix(Self.batchMax))
                state.waiting.removeFirst(batch.count)
                if batch.isEmpty { state.flushes -= 1 }
                return batch
            }
            if batch.isEmpty { return }
            await flush(batch.map { ($0.job, $0.token, $0.completion) }, alone: nil)
            for waiting in batch { waiting.done.resume() }
        }
    }

    private func flush(
        _ batch: [(job: ClaimedJob, token: String?, completion: Completion)],
        alone effects: (@Sendable (Transaction) async throws -> Void)?
    ) async {
        // Sorted, so that two workers that end jobs of the same organizations cannot deadlock.
        let batch = batch.sorted {
            $0.job.org == $1.job.org ? $0.job.id.uuid < $1.job.id.uuid : $0.job.org.uuid < $1.job.org.uuid
        }
        do {
            let ended = try await commit(batch, alone: effects)
            FailPoint.afterFinish.reach()
            pusher.push(batch.filter { ended[$0.job.id] != nil }.flatMap(\.completion.tickets))
            try await settle(batch, ended)
        } catch is Schedule.NotStanding {
            logger.debug("The schedule was lost; ended jobs are forgotten with it.")
        } catch let error as DatabaseError where !error.isTransient {
            await flushApart(batch, after: error)
        } catch {
            // Nothing was committed, or Redis was not told: the leases expire, and the reaper puts it right.
            logger.error(
                "Could not end jobs; they run again when their leases expire.",
                metadata: ["queue": "\(queue)", "jobs": "\(batch.count)", "error": "\(error)"]
            )
        }
    }

    /// PostgreSQL refused what one of them wrote: the others must not suffer, and that one must not try for ever.
    private func flushApart(
        _ batch: [(job: ClaimedJob, token: String?, completion: Completion)],
        after error: DatabaseError
    ) async {
        guard batch.count == 1, let item = batch.first else {
            for item in batch { await flush([item], alone: nil) }
            return
        }
        logger.error(
            "The end of a job was refused; the attempt counts as failed.",
            metadata: ["queue": "\(queue)", "job.id": "\(item.job.id)", "error": "\(error)"]
        )
        // If that cannot be written either, the lease expires, and crashes are counted.
        if item.completion.isRefusal { return }
        let failed = Completion(outcome: .retry(after: .seconds(60), error: "\(error)"), isRefusal: true)
        await flush([(item.job, item.token, failed)], alone: nil)
    }

    private struct Ended {
        let state: JobState
        let generation: Int
        let runAt: Timestamp
    }

    private func commit(
        _ batch: [(job: ClaimedJob, token: String?, completion: Completion)],
        alone effects: (@Sendable (Transaction) async throws -> Void)?
    ) async throws -> [JobID: Ended] {
        let finish = Jobs.finish(batch.map { Ending($0.job, $0.completion.outcome) })
        if effects == nil, batch.allSatisfy(\.completion.hasNoEffects) {
            // One round trip in place of three.
            FailPoint.afterEffect.reach()
            return try Self.ended(try await database.query(.worker, finish))
        }
        return try await database.transaction(.worker) { transaction in
            let ended = try Self.ended(try await transaction.query(finish))
            let statements = batch.flatMap { item -> [Statement] in
                guard ended[item.job.id] != nil, case .statements(let own) = item.completion.effects else {
                    return []
                }
                return own
            }
            if !statements.isEmpty { try await transaction.batch(statements) }
            if let effects, !ended.isEmpty { try await effects(transaction) }
            FailPoint.afterEffect.reach()
            return ended
        }
    }

    private static func ended(_ rows: Rows) throws -> [JobID: Ended] {
        var ended: [JobID: Ended] = [:]
        for row in rows {
            ended[try row("id")] = Ended(
                state: try row("state"),
                generation: try row("gen"),
                runAt: try row("run_at")
            )
        }
        return ended
    }

    private func settle(
        _ batch: [(job: ClaimedJob, token: String?, completion: Completion)],
        _ ended: [JobID: Ended]
    ) async throws {
        let settlements = batch.compactMap { item -> (id: JobID, token: String, settlement: Settlement)? in
            guard let token = item.token else { return nil }
            guard let end = ended[item.job.id], end.state == .queued else {
                return (item.job.id, token, .done)
            }
            if case .released = item.completion.outcome {
                return (item.job.id, token, .back(generation: end.generation))
            }
            return (item.job.id, token, .again(generation: end.generation, due: end.runAt))
        }
        try await schedule.settle(settlements, queue: queue)
    }
}
