// commune-inbound: the SMTP front, the API's twin for mail. Stateless; any number of copies may run. 250 means committed.

import Database
import Foundation
import Logging
import Mail
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
        Descriptors.raise(for: configuration.reception.connectionsMax, logger: logger)
        let redis = Redis(configuration.redis, logger: logger)
        await EvictingRedis.refuse(redis, logger: logger)
        let database = Database(configuration.database, logger: logger)
        let pusher = Pusher(Schedule(redis), logger: logger)
        let reception = try Reception(
            configuration.reception,
            store: Store(database, secrets: configuration.secrets),
            pusher: pusher,
            logger: logger
        )
        var listeners = [SMTPListener(configuration.smtp, .smtp, reception)]
        if let lmtp = configuration.lmtp { listeners.append(SMTPListener(lmtp, .lmtp, reception)) }
        let group = ServiceGroup(
            configuration: .init(
                services: ([database, redis, pusher] as [any Service] + listeners + [
                    SecondSignal(logger: logger)
                ])
                .map { .init(service: $0) },
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger
            )
        )
        do {
            try await group.run()
        } catch {
            logger.critical("Inbound mail cannot be served on \(configuration.smtp): \(error)")
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
    let reception: Reception.Configuration
    let smtp: HostPort
    /// nil where LMTP is not served.
    let lmtp: HostPort?

    init?(reading settings: inout Settings) {
        database = Database.Configuration(reading: &settings)
        let redis = Redis.Configuration(reading: &settings)
        let secrets = SecretBox(reading: &settings)
        reception = Reception.Configuration(reading: &settings)
        let host = settings.text("COMMUNE_SMTP_HOST") ?? "0.0.0.0"
        smtp = HostPort(
            host: host,
            port: settings.integer("COMMUNE_SMTP_PORT", in: 1...65_535, default: 25)
        )
        let lmtpPort = settings.integer("COMMUNE_LMTP_PORT", in: 0...65_535, default: 0)
        lmtp = lmtpPort == 0 ? nil : HostPort(host: host, port: lmtpPort)
        guard let redis, let secrets else { return nil }
        self.redis = redis
        self.secrets = secrets
    }
}
