// The parts of a worker process and how they are wired.

import Blobs
import DNS
import Database
import Logging
import NIOPosix
import Platform
import Queue
import Redis
import ServiceLifecycle
import Store
import Validation

/// A worker process: its clients, its processors, and the chores it takes turns in.
struct Worker {
    let database: Database
    let redis: Redis
    let delivery: Delivery
    let services: [any Service]

    init(
        _ configuration: WorkerConfiguration,
        queues: [String],
        concurrency: Concurrency,
        logger: Logger
    ) throws {
        let database = Database(configuration.database, logger: logger)
        let redis = Redis(configuration.redis, logger: logger)
        let schedule = Schedule(redis)
        let store = Store(database, secrets: configuration.secrets, s3: configuration.s3)
        let resolver = try UnboundResolver(configuration.resolver, logger: logger)
        let delivery = Delivery(
            configuration.delivery,
            resolver: resolver,
            ownDomains: OwnDomains { try await store.platformDomainNames() },
            buckets: TokenBucket(redis),
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            logger: logger
        )
        self.database = database
        self.redis = redis
        self.delivery = delivery

        let works: [any Work] = [
            SendMessage(
                store: store,
                loader: MessageLoader(store),
                composer: MessageComposer(signers: SignerCache(store), secrets: configuration.secrets),
                files: AttachedFiles(store),
                delivery: delivery,
                logger: logger
            ),
            ValidateRecipients(
                store: store,
                verdicts: DomainVerdicts(
                    resolver: resolver,
                    redis: redis,
                    routed: configuration.routed,
                    hosted: { try await store.hostedDomains(among: $0) }
                ),
                logger: logger
            ),
            ProcessInbound(store: store, resolver: resolver, logger: logger),
            VerifyDomain(store: store, resolver: resolver, logger: logger),
            Probe(),
        ].filter { queues.contains($0.queue) }

        let id = WorkerID()
        let pusher = Pusher(schedule, logger: logger)
        let control = ScheduleControl(
            worker: id,
            QueueControl(database, schedule),
            schedule,
            logger: logger
        )
        let processors = works.map { work in
            var settings = Processor.Settings()
            settings.concurrency = concurrency.slots(of: work.queue)
            settings.leaseLength = configuration.leaseLength
            settings.grace = configuration.grace
            return Processor(
                work,
                worker: id,
                database: database,
                schedule: schedule,
                control: control,
                pusher: pusher,
                settings: settings,
                logger: logger
            )
        }
        let feeders = Dictionary(
            uniqueKeysWithValues: works.map {
                ($0.queue, Feeder(queue: $0.queue, database: database, schedule: schedule))
            }
        )
        let chores = works.flatMap { work in
            Self.chores(
                of: work,
                feeder: feeders[work.queue],
                Reaper(
                    work: work,
                    database: database,
                    schedule: schedule,
                    leaseLength: configuration.leaseLength,
                    // Some beats may be late. Shorter than a lease, so that a killed worker's jobs wait no longer for it.
                    freshHeartbeat: min(configuration.rowInterval * 3, configuration.leaseLength / 2),
                    logger: logger
                ),
                control,
                slots: concurrency.slots(of: work.queue),
                configuration
            )
        }
        // Shut down in reverse, one after the other: processors first, then what they need to end well.
        services =
            [
                database, redis, pusher,
                Heartbeat(
                    worker: id,
                    processors: processors,
                    database: database,
                    schedule: schedule,
                    control: control,
                    leaseLength: configuration.leaseLength,
                    rowInterval: configuration.rowInterval,
                    logger: logger
                ),
                Chores(
                    chores: chores + [
                        Self.purge(database), Self.dueDomains(store, pusher), Self.sweep(store.blobs),
                        Self.countEvents(store), Self.judgeAlerts(store),
                    ],
                    database: database,
                    logger: logger
                ),
                Waker(redis: redis, schedule: schedule, processors: processors, feeders: feeders),
            ] + Array(feeders.values) + [Processors(processors: processors)]
    }

    private static func chores(
        of work: any Work,
        feeder: Feeder?,
        _ reaper: Reaper,
        _ control: ScheduleControl,
        slots: Int,
        _ configuration: WorkerConfiguration
    ) -> [Chore] {
        [
            Chore(name: "control/\(work.queue)", interval: .seconds(5)) {
                try await control.refresh(work.queue, slots: slots)
            },
            Chore(name: "feed/\(work.queue)", interval: .seconds(1)) { try await feeder?.sweep() },
            Chore(name: "reap/\(work.queue)", interval: configuration.scanInterval) {
                try await reaper.reapExpired()
            },
            Chore(name: "audit/\(work.queue)", interval: configuration.scanInterval * 2) {
                try await reaper.reapOrphans(heartbeatMax: configuration.leaseLength)
            },
        ]
    }

    private static func dueDomains(_ store: Store, _ pusher: Pusher) -> Chore {
        Chore(name: "due-domains", interval: .seconds(10)) {
            pusher.push(try await store.startDueVerifications(limit: 500))
        }
    }

    /// Bytes of attachments that nobody refers to; where there are many, the next turn goes on.
    private static func sweep(_ blobs: Blobs) -> Chore {
        Chore(name: "sweep-blobs", interval: .seconds(30)) { try await blobs.sweep() }
    }

    /// What metrics read; they count what came since by themselves.
    private static func countEvents(_ store: Store) -> Chore {
        Chore(name: "count-events", interval: .seconds(10)) {
            while try await !store.countEvents(), !Task.isCancelled {}
        }
    }

    private static func judgeAlerts(_ store: Store) -> Chore {
        Chore(name: "judge-alerts", interval: .seconds(60)) { try await store.judgeAlerts() }
    }

    private static let purgedPerBatch = 5_000

    private static func purge(_ database: Database) -> Chore {
        let interval = Duration.seconds(10)
        return Chore(name: "purge", interval: interval) {
            try await database.query(.worker, "DELETE FROM workers WHERE seen_at < now() - interval '1 hour'")
            try await database.query(.worker, Store.purgeIdempotentAnswers(limit: purgedPerBatch))
            // As many as there are, however fast they come, a batch a transaction; the rest has its turn with the next.
            let end = ContinuousClock.now + interval * 0.8
            while ContinuousClock.now < end {
                let purged = try await database.query(
                    .worker,
                    Jobs.purgeFinished(olderThan: .seconds(3600), limit: purgedPerBatch)
                )
                if purged.affected < purgedPerBatch { break }
            }
        }
    }
}

/// All processors as one service: at shutdown every queue stops leasing at once, and their graces run together.
private struct Processors: Service {
    let processors: [Processor]

    func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for processor in processors { group.addTask { try await processor.run() } }
            try await group.waitForAll()
        }
    }
}
