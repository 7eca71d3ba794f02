// One try to deliver a message to the recipients of one domain: from its name to a fate for each recipient.
//
//   destination (route or MX) ─► turn at the site ─► kept or new connection ─► session ─► fates
//
// At most `addressesMax` addresses and `sessionsMax` sessions; a second session only when the first ended before
// it offered the message, so that no recipient is asked for twice.

import DNS
import Logging
import Mail
import Metrics
import NIOCore
import Redis

/// Delivers mail: routes, paces, keeps connections.
struct Delivery: Sendable {
    private let destinations: Destinations
    private let sites: Sites
    private let caller: Caller
    private let limiter: SiteLimiter
    private let clock: any DeliveryClock
    private let beforeDot: Duration
    private let logger: Logger

    /// `ownDomains` is asked where `configuration.inbound` is set, `buckets` where there are rates.
    init(
        _ configuration: Configuration,
        resolver: any Resolver,
        ownDomains: OwnDomains? = nil,
        buckets: TokenBucket? = nil,
        eventLoopGroup: any EventLoopGroup,
        logger: Logger,
        clock: any DeliveryClock = EventLoopClock()
    ) {
        var own: OwnInbound?
        if let route = configuration.inbound, let ownDomains {
            own = OwnInbound(route: route, domains: ownDomains)
        }
        destinations = Destinations(configuration.routes, own: own, resolver: resolver)
        limiter = SiteLimiter(configuration.rates, shared: buckets)
        sites = Sites(limits: configuration.sites, clock: clock, group: eventLoopGroup)
        caller = Caller(configuration, resolver: resolver, group: eventLoopGroup, sites: sites, clock: clock)
        self.clock = clock
        beforeDot = configuration.beforeDot
        self.logger = logger
    }

    /// Tries once: an outcome for each recipient, in their order, whatever happens.
    ///
    /// `onFinalDot` is called just before the message's end is written; from there the remote may have it.
    /// Cancelled before, the try ends at once; after, it waits for the answer.
    func attempt(
        _ parcel: Parcel,
        onFinalDot: (@Sendable () -> Void)? = nil
    ) async -> [RecipientOutcome] {
        let count = parcel.recipients.count
        guard count > 0 else { return [] }
        guard let transaction = ClientSession.Transaction(parcel) else {
            return Array(repeating: RecipientOutcome(attempt: .bounced(.badSenderAddress)), count: count)
        }
        let site: Site
        switch await destinations.destination(of: parcel.domain) {
        case .settled(let attempt):
            // What the DNS says of a domain it says of each address in it.
            let outcome = RecipientOutcome(attempt: attempt, isAboutRecipient: true)
            return Array(repeating: outcome, count: count)
        case .site(let found): site = found
        }
        switch await sites.turn(at: site) {
        case .granted(let turn):
            if let wait = await limiter.wait(for: site) {
                sites.end(turn, .unused, keeping: turn.kept)
                return paced("The site gets no more messages a second", retryAfter: wait, count)
            }
            let dotBy = clock.now + beforeDot
            return await deliver(Offer(transaction: transaction, dotBy: dotBy, onFinalDot: onFinalDot), turn)
        case .busy:
            return paced("The site is busy with other messages", retryAfter: .seconds(10), count)
        case .resting(let time):
            let seconds = time.components.seconds + 1
            let reason = "The site did not answer lately; it is left alone for \(seconds) s"
            return paced(reason, retryAfter: .seconds(seconds), count)
        case .cancelled: return paced("The worker is stopping", retryAfter: nil, count)
        }
    }

    /// Takes no more work and says goodbye to idle connections; tries under way go on.
    func close() async { sites.close() }

    private func paced(_ reason: String, retryAfter: Duration?, _ count: Int) -> [RecipientOutcome] {
        Metric.paced.increment()
        var outcome = RecipientOutcome(attempt: .deferred(.paced(reason)))
        outcome.isPaced = true
        outcome.retryAfter = retryAfter
        return Array(repeating: outcome, count: count)
    }

    private func deliver(_ offer: Offer, _ turn: Sites.Turn) async -> [RecipientOutcome] {
        var record = DeliveryRecord()
        if let kept = turn.kept {
            let result = await kept.deliver(offer)
            guard result.isStale else { return settle(turn, kept, result, record) }
            record.note("A kept connection to \(kept.host) had ended; a new one is made")
        }
        let call = await caller.call(turn.site, offer, record)
        switch call {
        case .answered(let connection, let result, let record):
            return settle(turn, connection, result, record)
        case .unanswered(var outcome, let record, let end):
            sites.end(turn, end, keeping: nil)
            outcome.record = record
            if end == .unreachable {
                Metric.unreachable.increment()
                logger.info(
                    "No mail server of a site could be used: \(outcome.detail)",
                    metadata: ["site": "\(turn.site.name)"]
                )
            }
            return Array(repeating: outcome, count: offer.transaction.recipients.count)
        }
    }

    private func settle(
        _ turn: Sites.Turn,
        _ connection: SMTPConnection,
        _ result: TransactionResult,
        _ record: DeliveryRecord
    ) -> [RecipientOutcome] {
        sites.end(turn, result.end, keeping: result.isReusable ? connection : nil)
        if !result.isReusable, !connection.isClosed { connection.quit() }
        var record = record
        record.session = result.transcript
        return result.attempts.enumerated().map { index, attempt in
            var outcome = RecipientOutcome(attempt: attempt)
            outcome.isAboutRecipient = result.answeredByName.contains(index)
            outcome.remoteMX = connection.host
            outcome.tls = result.tls
            outcome.record = record
            if result.wasCancelled, case .deferred = attempt { outcome.isPaced = true }
            return outcome
        }
    }
}

/// What is counted here; fates of recipients are counted by the job.
enum Metric {
    static let connected = Counter(label: "commune_smtp_connections_total")
    static let unreachable = Counter(label: "commune_smtp_unreachable_total")
    static let clearTextAfterTLS = Counter(label: "commune_smtp_tls_failed_total")
    static let paced = Counter(label: "commune_delivery_paced_total")
}

extension ClientSession.Transaction {
    /// Nil when the reverse-path is no address.
    init?(_ parcel: Parcel) {
        var sender: EmailAddress?
        if !parcel.sender.isEmpty {
            guard let address = try? EmailAddress(parcel.sender) else { return nil }
            sender = address
        }
        self.init(
            sender: sender,
            recipients: parcel.recipients,
            message: parcel.message,
            needsSMTPUTF8: parcel.needsSMTPUTF8
        )
    }
}

extension TransactionResult {
    /// What the site's pace learns from it.
    var end: Pace.End {
        if wasCancelled { return .unused }
        var end = Pace.End.answered
        for attempt in attempts {
            if attempt.asksForSlowness { return .slowedDown }
            if case .delivered = attempt { end = .succeeded }
        }
        return failure == nil ? end : .slowedDown
    }
}

extension Attempt {
    /// 421 and 4.7.x: less, please.
    var asksForSlowness: Bool {
        guard case .deferred(let reply) = self else { return false }
        return reply.code == 421 || reply.status.map { $0.class == 4 && $0.subject == 7 } == true
    }
}
