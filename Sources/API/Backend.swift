// What routes work with.

import DNS
import Database
import Logging
import Mail
import Platform
import Queue
import Redis
import Store
import Validation

/// The stores and limits behind the routes; the same for every request.
struct Backend: Sendable {
    /// Of every organization and without a key's limits: routes use the one of their `Call`.
    let store: Store
    let redis: Redis
    let pusher: Pusher
    let limiter: RateLimiter
    let keys = KnownKeys()
    let guesses = WrongKeys()
    let proxies: Proxies
    let defaultDomain: String
    /// Who sends what names no sender; nil when nobody does.
    let defaultFrom: Mailbox?
    /// Whether recipients' domains take mail.
    let judge: RecipientJudge
    /// Where people reach this API, without a slash behind; nil when that is not known.
    let publicURL: String?
    let mailHosts: [Region: MailHosts]
    /// Which addresses webhooks may lead to.
    let webhookFilter: AddressFilter
    /// The same where a guess is better than nothing: links that the caller itself follows.
    let linkBase: String
    let uploads: Uploads
    /// Wakes requests that wait for events.
    let bell: EventBell
    let logger: Logger

    init(
        _ configuration: APIConfiguration,
        database: Database,
        redis: Redis,
        pusher: Pusher,
        logger: Logger
    ) throws {
        let store = Store(database, secrets: configuration.secrets, s3: configuration.s3)
        self.store = store
        self.redis = redis
        self.pusher = pusher
        limiter = RateLimiter(
            requestsPerMinute: configuration.rateLimitPerMinute,
            sendsPerMinute: configuration.sendLimitPerMinute,
            shared: TokenBucket(redis),
            logger: logger
        )
        proxies = configuration.proxies
        defaultDomain = configuration.defaultDomain
        defaultFrom = configuration.defaultFrom
        judge = RecipientJudge(
            verdicts: DomainVerdicts(
                resolver: try UnboundResolver(configuration.resolver, logger: logger),
                redis: redis,
                routed: configuration.routed,
                hosted: { try await store.hostedDomains(among: $0) }
            ),
            disposable: configuration.disposable
        )
        publicURL = configuration.publicURL
        mailHosts = configuration.mailHosts
        webhookFilter = configuration.webhookFilter
        linkBase = configuration.publicURL ?? "http://localhost:\(configuration.listen.port)"
        uploads = Uploads(
            folder: configuration.spoolFolder,
            databaseConnections: configuration.database.connectionsMax
        )
        bell = EventBell(store, logger: logger)
        self.logger = logger
    }
}
