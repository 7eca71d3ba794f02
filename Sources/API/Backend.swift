// What routes work with.

import DNS
import Database
import Logging
import Platform
import Queue
import Redis
import Store

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

    init(_ configuration: APIConfiguration, database: Database, redis: Redis, pusher: Pusher, logger: Logger)
    {
        store = Store(database, secrets: configuration.secrets, s3: configuration.s3)
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
