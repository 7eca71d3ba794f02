// commune-worker: runs jobs of the queues it is given. Any number of these may run.

import ArgumentParser
import Blobs
import DNS
import Database
import Foundation
import Logging
import NIOPosix
import Platform
import Queue
import Redis
import ServiceLifecycle
import Store
import UnixSignals
import Validation

@main
struct WorkerProgram: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "commune-worker",
        abstract: "Runs jobs: sending, reading received mail, and the rest.",
        discussion: """
            Settings come from the environment (docs/OPERATIONS.md lists them).

            Example: commune-worker --queues send,process-inbound --concurrency 64
            Example: commune-worker --concurrency 32,send=128
            """
    )

    @Option(help: "Queues to serve, separated by commas; all when left out.")
    var queues: String?

    @Option(
        help: ArgumentHelp(
            "Jobs at a time in each queue: a number for all (64), others for some.",
            valueName: "number|queue=number,…"
        ),
        transform: Concurrency.init(parsing:)
    )
    var concurrency = Concurrency()

    func validate() throws {
        for name in chosenQueues where !QueueName.all.contains(name) && name != QueueName.probe {
            throw ValidationError(
                "Unknown queue \(name). Queues are: \(QueueName.all.joined(separator: ", "))."
            )
        }
        if let idle = concurrency.queues.first(where: { !chosenQueues.contains($0) }) {
            throw ValidationError("--concurrency names \(idle), which --queues leaves out.")
        }
    }

    private var chosenQueues: [String] {
        queues.map { $0.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) } }
            ?? QueueName.all
    }

    func run() async throws {
        var settings = Settings()
        bootstrapLogging(reading: &settings)
        let configuration = WorkerConfiguration(reading: &settings)
        guard let configuration, settings.faults.isEmpty else {
            settings.exitOnFaults()
            throw ExitCode(78)
        }
        let logger = Logger(label: "commune-worker")
        let worker = try Worker(configuration, queues: chosenQueues, concurrency: concurrency, logger: logger)
        await EvictingRedis.refuse(worker.redis, logger: logger)
        logger.notice(
            "Running.",
            metadata: ["queues": "\(chosenQueues.joined(separator: ","))", "concurrency": "\(concurrency)"]
        )
        let group = ServiceGroup(
            configuration: .init(
                services: (worker.services + [SecondSignal(logger: logger)]).map {
                    .init(service: $0, successTerminationBehavior: .ignore)
                },
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger
            )
        )
        try await group.run()
        await worker.delivery.close()
        await worker.database.close()
        await worker.redis.close()
    }
}

/// What a worker reads from the environment.
struct WorkerConfiguration {
    let database: Database.Configuration
    let redis: Redis.Configuration
    let secrets: SecretBox
    let resolver: UnboundResolver.Configuration
    let delivery: Delivery.Configuration
    let routed: RoutedDomains
    let leaseLength: Duration
    let scanInterval: Duration
    let rowInterval: Duration
    let grace: Duration
    let s3: S3Configuration?

    init?(reading settings: inout Settings) {
        let database = Database.Configuration(reading: &settings)
        let redis = Redis.Configuration(reading: &settings)
        let secrets = SecretBox(reading: &settings)
        resolver = UnboundResolver.Configuration(reading: &settings)
        delivery = Delivery.Configuration(reading: &settings)
        routed = RoutedDomains(reading: settings)
        leaseLength = settings.seconds("COMMUNE_LEASE_SECONDS", in: 1...600, default: .seconds(30))
        scanInterval = settings.seconds("COMMUNE_REAP_INTERVAL_SECONDS", in: 0.1...60, default: .seconds(5))
        rowInterval = settings.seconds("COMMUNE_HEARTBEAT_SECONDS", in: 0.1...60, default: .seconds(5))
        grace = settings.seconds("COMMUNE_GRACE_SECONDS", in: 0...3600, default: .seconds(30))
        s3 = S3Configuration(reading: &settings)
        guard let redis, let secrets else { return nil }
        self.database = database
        self.redis = redis
        self.secrets = secrets
    }
}
