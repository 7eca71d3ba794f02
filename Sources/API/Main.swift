// commune-api: the HTTP front. Stateless; any number of copies may run.

import Blobs
import DNS
import Database
import Foundation
import Hummingbird
import Logging
import Mail
import Platform
import Queue
import Redis
import ServiceLifecycle
import Store
import UnixSignals
import Validation

@main
struct APIProgram {
    static func main() async throws {
        var settings = Settings()
        bootstrapLogging(reading: &settings)
        let configuration = APIConfiguration(reading: &settings)
        settings.exitOnFaults()
        guard let configuration else { return }
        let logger = Logger(label: "commune-api")
        let redis = Redis(configuration.redis, logger: logger)
        await EvictingRedis.refuse(redis, logger: logger)
        let database = Database(configuration.database, logger: logger)
        let pusher = Pusher(Schedule(redis), logger: logger)
        let backend = try Backend(
            configuration,
            database: database,
            redis: redis,
            pusher: pusher,
            logger: logger
        )
        let changes = KeyChanges(keys: backend.keys, redis: redis)
        try await serve(backend, configuration, services: [database, redis, pusher, changes], logger: logger)
        await database.close()
        await redis.close()
    }

    private static func serve(
        _ backend: Backend,
        _ configuration: APIConfiguration,
        services: [any Service],
        logger: Logger
    ) async throws {
        // Hummingbird's own log repeats ours on every start and stop.
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        var application = makeApplication(backend, configuration, logger: quiet)
        application.addServices(services)
        let group = ServiceGroup(
            configuration: .init(
                services: ([application, SecondSignal(logger: logger)] as [any Service]).map {
                    .init(service: $0)
                },
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: quiet
            )
        )
        do {
            try await group.run()
        } catch {
            logger.critical("The API cannot serve on \(configuration.listen): \(error)")
            exit(1)
        }
    }
}

/// What the API reads from the environment.
struct APIConfiguration: Sendable {
    let database: Database.Configuration
    let redis: Redis.Configuration
    let secrets: SecretBox
    let listen: HostPort
    let defaultDomain: String
    let mailHosts: [Region: MailHosts]
    let webhookFilter: AddressFilter
    /// Reverse proxies that say who calls.
    let proxies: Proxies
    let rateLimitPerMinute: Int
    let publicURL: String?
    /// Where uploads wait until they are stored.
    let spoolFolder: String
    let s3: S3Configuration?
    let sendLimitPerMinute: Int
    let defaultFrom: Mailbox?
    let resolver: UnboundResolver.Configuration
    /// Domains whose mail goes by the operator's word, of which the DNS need not be asked.
    let routed: RoutedDomains
    let disposable: DisposableDomains

    init?(reading settings: inout Settings) {
        database = Database.Configuration(reading: &settings)
        let redis = Redis.Configuration(reading: &settings)
        let secrets = SecretBox(reading: &settings)
        listen = HostPort(
            host: settings.text("COMMUNE_HOST") ?? "0.0.0.0",
            port: settings.integer("PORT", in: 1...65_535, default: 8080)
        )
        defaultDomain = Store.defaultDomain(reading: &settings) ?? ""
        // The default domain has the SPF record of the addresses that we send from.
        mailHosts = MailHosts.byRegion(reading: &settings, spfDefault: defaultDomain)
        webhookFilter = AddressFilter(allowing: "COMMUNE_WEBHOOK_ALLOW", reading: &settings)
        proxies = Proxies(trusted: settings.networks("COMMUNE_FORWARDED_FROM"))
        rateLimitPerMinute = settings.integer(
            "COMMUNE_RATE_LIMIT_PER_MINUTE",
            in: 0...1_000_000,
            default: 600
        )
        publicURL = Self.publicURL(reading: &settings)
        spoolFolder = settings.text("COMMUNE_SPOOL") ?? "/var/tmp"
        s3 = S3Configuration(reading: &settings)
        Self.checkSpool(spoolFolder, &settings)
        sendLimitPerMinute = settings.integer(
            "COMMUNE_SEND_LIMIT_PER_MINUTE",
            in: 0...1_000_000,
            default: 300
        )
        defaultFrom = Self.defaultFrom(reading: &settings, on: defaultDomain)
        resolver = UnboundResolver.Configuration(reading: &settings)
        routed = RoutedDomains(reading: settings)
        disposable = DisposableDomains(reading: &settings)
        guard let redis, let secrets, !defaultDomain.isEmpty else { return nil }
        self.redis = redis
        self.secrets = secrets
    }

    /// `COMMUNE_PUBLIC_URL`, for links in mail and to attachments.
    private static func publicURL(reading settings: inout Settings) -> String? {
        let variable = "COMMUNE_PUBLIC_URL"
        guard let text = settings.text(variable) else { return nil }
        let base = text.hasSuffix("/") ? String(text.dropLast()) : text
        // It stands in a header between angle brackets, so it must be plain.
        guard let url = URL(string: base), ["http", "https"].contains(url.scheme?.lowercased()),
            url.host()?.isEmpty == false, url.query() == nil, url.fragment() == nil, base.utf8.count <= 200,
            base.utf8.allSatisfy({
                $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "<") && $0 != UInt8(ascii: ">")
            })
        else {
            settings.fault(
                variable,
                "must be a plain address such as https://mail.example.com, without a query."
            )
            return nil
        }
        return base
    }

    /// `COMMUNE_DEFAULT_FROM`: every organization sends from it, so it must be an address that none of them can have.
    private static func defaultFrom(reading settings: inout Settings, on domain: String) -> Mailbox? {
        let variable = "COMMUNE_DEFAULT_FROM"
        guard let text = settings.text(variable) else { return nil }
        guard let mailbox = try? Mailbox(text), mailbox.address.domain == domain,
            Store.reservedLocalParts.contains(mailbox.address.local.lowercased())
        else {
            let names = Store.reservedLocalParts.sorted().joined(separator: ", ")
            settings.fault(
                variable,
                "must be an address on COMMUNE_DEFAULT_DOMAIN that no inbox can take, such as agent@\(domain). These are: \(names)."
            )
            return nil
        }
        return mailbox
    }

    private static func checkSpool(_ folder: String, _ settings: inout Settings) {
        do {
            _ = try SpoolFile(in: folder)
        } catch {
            settings.fault("COMMUNE_SPOOL", "names \(folder), in which no file can be made. \(error)")
        }
    }
}
