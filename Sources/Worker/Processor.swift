// Runs the jobs of one queue: lease, claim, attempt, finish.
//
// It listens before it looks: the subscription to the queue's wake channel stands before the first lease is asked for,
// and every loss and return of it counts as a wake-up, so none is missed. It looks again at the latest after a second.
//
// Everything goes in batches: one lease, one claim and one end for as many jobs as there are slots to fill.

import Database
import Logging
import Platform
import Queue
import Redis
import ServiceLifecycle
import Store
import Synchronization

/// The processor of one queue in this process.
final class Processor: Service {
    struct Settings: Sendable {
        /// Attempts at a time.
        var concurrency = 64
        /// A lease that is not renewed for this long is reaped.
        var leaseLength: Duration = .seconds(30)
        /// Running jobs get this long at shutdown.
        var grace: Duration = .seconds(30)
        static let leaseBatchMax = 256
        /// With fewer free slots than this, and jobs running, some more are waited for, so that a call is worth it.
        var leaseBatchMin: Int { min(concurrency / 4, 64) }
        static let batchWait: Duration = .milliseconds(1)
        static let lookAtLatest: Duration = .seconds(1)
        static let lookWithoutSchedule: Duration = .milliseconds(250)
    }

    let work: any Work
    let running = Running()
    let wake = Signal()
    private let worker: WorkerID
    private let database: Database
    private let schedule: Schedule
    private let control: ScheduleControl
    private let finisher: Finisher
    let settings: Settings
    private let logger: Logger
    private let mustRegisterAll = Atomic<Bool>(false)
    private let rateShare = Mutex(RateShare())

    init(
        _ work: any Work,
        worker: WorkerID,
        database: Database,
        schedule: Schedule,
        control: ScheduleControl,
        pusher: Pusher,
        settings: Settings,
        logger: Logger
    ) {
        self.work = work
        self.worker = worker
        self.database = database
        self.schedule = schedule
        self.control = control
        self.settings = settings
        var logger = logger
        logger[metadataKey: "queue"] = "\(work.queue)"
        self.logger = logger
        finisher = Finisher(
            queue: work.queue,
            database: database,
            schedule: schedule,
            pusher: pusher,
            logger: logger
        )
    }

    func run() async throws {
        await withGracefulShutdownHandler {
            while !Task.isShuttingDownGracefully, !Task.isCancelled {
                await registerIfAsked()
                let wait = await fillSlots()
                if wait > .zero { await wake.wait(atMost: wait) }
            }
        } onGracefulShutdown: {
            self.wake.notify()
        }
        await endRunning()
    }

    /// The schedule was set up anew: what runs here is to be registered before anybody leases again.
    ///
    /// The loop does it, between two claims, so that no job is claimed and not registered.
    func mustRegister() {
        mustRegisterAll.store(true, ordering: .releasing)
        wake.notify()
    }

    private func registerIfAsked() async {
        guard mustRegisterAll.exchange(false, ordering: .acquiringAndReleasing) else { return }
        await control.registerAll(
            work.queue,
            slots: settings.concurrency,
            running,
            leaseLength: settings.leaseLength
        )
    }

    /// Takes jobs for the free slots; returns how long to wait before looking again.
    private func fillSlots() async -> Duration {
        var free = settings.concurrency - running.count
        // A job's end wakes the loop.
        guard free > 0 else { return Settings.lookAtLatest }
        if free < settings.leaseBatchMin {
            // Ends come many at a time, for they are committed so.
            try? await Task.sleep(for: Settings.batchWait)
            free = settings.concurrency - running.count
        }
        do {
            let taken = try await schedule.lease(
                queue: work.queue,
                limit: min(free, Settings.leaseBatchMax),
                length: settings.leaseLength,
                worker: worker
            )
            if taken.leases.isEmpty {
                return min(taken.nextDue ?? Settings.lookAtLatest, Settings.lookAtLatest)
            }
            FailPoint.afterLease.reach()
            try await claim(taken.leases)
            return .zero
        } catch is Schedule.NotStanding {
            await control.setUp(
                work.queue,
                slots: settings.concurrency,
                adopting: running,
                leaseLength: settings.leaseLength
            )
            return .milliseconds(50)
        } catch let error as RedisError where error.meansAway {
            return await claimWithoutSchedule(min(free, Settings.leaseBatchMax))
        } catch {
            // PostgreSQL away, most likely: nothing runs without the truth. Its pool has told; the leases expire.
            logger.debug("No jobs could be taken.", metadata: ["error": "\(error)"])
            return Settings.lookAtLatest
        }
    }

    private func claim(_ leases: [Lease]) async throws {
        let rows = try await database.query(.worker, Jobs.claim(leases, worker: worker))
        let tokens = Dictionary(leases.map { ($0.id, $0.token) }, uniquingKeysWith: { first, _ in first })
        if !rows.isEmpty { FailPoint.afterClaim.reach() }
        var claimed: Set<JobID> = []
        for row in rows {
            let job = try Jobs.claimed(row)
            claimed.insert(job.id)
            start(job, token: tokens[job.id])
        }
        // Finished, cancelled, or claimed elsewhere: the schedule was behind, and forgets them.
        let stale = leases.filter { !claimed.contains($0.id) }
        try await schedule.settle(stale.map { ($0.id, $0.token, .done) }, queue: work.queue)
    }

    private func claimWithoutSchedule(_ limit: Int) async -> Duration {
        let queue = work.queue
        do {
            var rates: [ControlScope: Double] = [:]
            for row in try await database.query(.worker, Jobs.rates(queue: queue)) {
                guard let scope = try ControlScope(row) else { continue }
                rates[scope] = try row("rate_per_second") as Double
            }
            // As with a schedule, one organization must leave room for the next; here of this process' slots alone.
            let greedy = running.countByOrg.filter { $0.value >= max(1, settings.concurrency * 3 / 4) }.keys
            let exhausted = rateShare.withLock { share in
                share.setRates(rates, defaults: .of(queue))
                return share.exhausted()
            }
            let claimed = try await database.batch(
                .worker,
                [
                    Jobs.claimingWithoutSchedule(queue: queue),
                    Jobs.walking,
                    Jobs.claimWithoutSchedule(
                        queue: queue,
                        limit: limit,
                        worker: worker,
                        defaults: .of(queue),
                        skipping: exhausted.union(greedy.map { .org($0) })
                    ),
                ]
            )[2].map(Jobs.claimed)
            if !claimed.isEmpty { FailPoint.afterClaim.reach() }
            for job in claimed {
                rateShare.withLock { $0.take(org: job.org, lane: job.lane) }
                start(job, token: nil)
            }
            guard claimed.isEmpty else { return .zero }
            let opening = rateShare.withLock { $0.nextOpening() } ?? Settings.lookWithoutSchedule
            return max(.milliseconds(1), min(opening, Settings.lookWithoutSchedule))
        } catch {
            logger.debug("No jobs could be taken.", metadata: ["error": "\(error)"])
            return Settings.lookAtLatest
        }
    }

    private func start(_ job: ClaimedJob, token: String?) {
        let progress = Progress()
        running.insert(RunningJob(job: job, token: token, progress: progress, startedAt: .now))
        // Unstructured, and known to `running`: a lost lease cancels this attempt alone, and one that waits behind
        // its final dot does not hold the process up at shutdown.
        let task = Task {
            await self.attempt(job, progress)
            self.running.remove(job)
            self.wake.notify()
        }
        running.setTask(task, of: job)
    }

    private func attempt(_ job: ClaimedJob, _ progress: Progress) async {
        let completion: Completion
        do {
            completion = job.kind == work.queue ? try await work.attempt(job, progress) : notKnown(job)
        } catch {
            completion = await failure(of: job, error)
        }
        // The lease may have been renewed under another token since the schedule was rebuilt.
        await finisher.finish(job, token: running.token(of: job), completion)
    }

    /// Written by a newer version: a worker of that version shall have it.
    private func notKnown(_ job: ClaimedJob) -> Completion {
        Completion(
            outcome: .snooze(
                after: .seconds(30),
                reason: "This worker does not know jobs of kind \(job.kind)."
            )
        )
    }

    private func failure(of job: ClaimedJob, _ error: any Error) async -> Completion {
        if Task.isCancelled { return Completion(outcome: .released) }
        var generator = SystemRandomNumberGenerator()
        let outcome: Outcome =
            switch error {
            case WorkFault.undecodable(let reason): .dead(reason: "The payload cannot be read: \(reason)")
            case WorkFault.hopeless(let reason): .dead(reason: reason)
            default:
                .retry(after: work.backoff.delay(attempt: job.attempt, using: &generator), error: "\(error)")
            }
        let ending = Ending(job, outcome)
        logger.warning(
            ending.state == .dead ? "A job failed for good." : "A job failed and will be tried again.",
            metadata: ["job.id": "\(job.id)", "attempt": "\(job.attempt)", "error": "\(error)"]
        )
        guard ending.state == .dead else { return Completion(outcome: outcome) }
        do {
            let effects = try await work.burial(
                payload: job.payload,
                org: job.org,
                reason: ending.error ?? ""
            )
            return Completion(outcome: outcome, effects: .statements(effects))
        } catch DatabaseError.decoding(let fault) {
            // No later try reads it either, and a job that cannot die would come back for ever.
            logger.error(
                "A job died of which nobody can say whose mail it was about.",
                metadata: ["job.id": "\(job.id)", "error": "\(fault)"]
            )
            return Completion(outcome: outcome)
        } catch {
            // Dead without its effects would leave recipients waiting for ever: the end is tried again.
            return Completion(
                outcome: .snooze(after: .seconds(60), reason: "Its end could not be written: \(error)")
            )
        }
    }

    /// Shutdown: what ends within the grace ends; the rest is handed back, but for attempts that may have had their
    /// effect, which are left to their leases.
    private func endRunning() async {
        await waitForRunning(atMost: settings.grace) { _ in true }
        for job in running.all where !job.progress.isIrrevocable { job.task?.cancel() }
        await waitForRunning(atMost: .seconds(5)) { !$0.progress.isIrrevocable }
    }

    private func waitForRunning(atMost limit: Duration, where isAwaited: (RunningJob) -> Bool) async {
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline, running.all.contains(where: isAwaited) {
            await registerIfAsked()
            await wake.wait(atMost: .milliseconds(200))
        }
    }
}
