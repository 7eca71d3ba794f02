// commune-inbound: the SMTP front, the API's twin for mail. Stateless; any number of copies may run. 250 means committed.

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

@main
struct InboundProgram {
    static func main() async throws {
        var settings = Settings()
        bootstrapLogging(reading: &settings)
        let configuration = InboundConfiguration(reading: &settings)
        settings.exitOnFaults()
        guard let configuration else { return }
        let logger = Logger(label: "commune-inbound")
        let redis = Redis(configuration.redis, logger: logger)
        await EvictingRedis.refuse(redis, logger: logger)
        let database = Database(configuration.database, logger: logger)
        let pusher = Pusher(Schedule(redis), logger: logger)
        let listener = SMTPListener(
            configuration.listener,
            store: Store(database, secrets: configuration.secrets),
            pusher: pusher,
            logger: logger
        )
        let group = ServiceGroup(
            configuration: .init(
                services: ([database, redis, pusher, listener, SecondSignal(logger: logger)] as [any Service])
                    .map { .init(service: $0) },
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger
            )
        )
        do {
            try await group.run()
        } catch {
            logger.critical("Inbound mail cannot be served on \(configuration.listener.listen): \(error)")
            exit(1)
        }
        await database.close()
        await redis.close()
    }
}

/// What the inbound front reads from the environment.
struct InboundConfiguration: Sendable {
    let database: Database.Configuration
    let redis: Redis.Configuration
    let secrets: SecretBox
    let listener: SMTPListener.Configuration

    init?(reading settings: inout Settings) {
        database = Database.Configuration(reading: &settings)
        let redis = Redis.Configuration(reading: &settings)
        let secrets = SecretBox(reading: &settings)
        listener = SMTPListener.Configuration(reading: &settings)
        guard let redis, let secrets else { return nil }
        self.redis = redis
        self.secrets = secrets
    }
}
