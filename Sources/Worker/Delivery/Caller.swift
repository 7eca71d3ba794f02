// Calling a site: its addresses in order, a connection to the first that answers, a session, perhaps a second.

import DNS
import Mail
import Metrics
import NIOCore
import NIOPosix
import NIOSSL
import Platform

/// Makes connections to sites.
struct Caller: Sendable {
    /// How a call ended.
    enum Outcome: Sendable {
        /// A session got as far as offering the message.
        case answered(SMTPConnection, TransactionResult, DeliveryRecord)
        /// None did.
        case unanswered(RecipientOutcome, DeliveryRecord, Pace.End)
    }

    /// What is known of a call on its way.
    private struct Progress {
        var record: DeliveryRecord
        var addresses = 0
        var sessions = 0
        /// The fate that a session's failure before the message gives; one that may pass weighs more.
        var refusal: RecipientOutcome?
        var connectFault: RecipientOutcome?
        var lookupFault: Reply?
        var sawNotPublic = false
        var sawOurOwn = false
        var end: Pace.End = .unused

        mutating func refused(_ outcome: RecipientOutcome, _ end: Pace.End) {
            if case .deferred? = refusal?.attempt, case .bounced = outcome.attempt { return }
            refusal = outcome
            self.end = end
        }
    }

    private let configuration: Delivery.Configuration
    private let resolver: any DNS.Resolver
    private let group: any EventLoopGroup
    private let sites: Sites
    private let clock: any DeliveryClock
    private let tls: TLSContexts
    private let addressGuard: AddressGuard

    init(
        _ configuration: Delivery.Configuration,
        resolver: any DNS.Resolver,
        group: any EventLoopGroup,
        sites: Sites,
        clock: any DeliveryClock
    ) {
        self.configuration = configuration
        self.resolver = resolver
        self.group = group
        self.sites = sites
        self.clock = clock
        tls = TLSContexts(certificatesFile: configuration.certificatesFile)
        addressGuard = AddressGuard(configuration.allowed)
    }

    func call(
        _ site: Site,
        _ offer: Offer,
        _ record: DeliveryRecord
    ) async -> Outcome {
        var progress = Progress(record: record)
        let (hosts, port) = hosts(of: site)
        for host in hosts {
            let addresses = await addresses(of: host, site, &progress)
            let isOnlyOne = hosts.count == 1 && addresses.count == 1
            let timeout = isOnlyOne ? configuration.connectTimeout : configuration.connectTimeoutOfSeveral
            for address in addresses {
                guard progress.addresses < configuration.addressesMax,
                    progress.sessions < configuration.sessionsMax
                else { return unanswered(progress, site) }
                if Task.isCancelled { return cancelled(progress) }
                if clock.now >= offer.dotBy { return unanswered(progress, site) }
                let place = Place(site: site, host: host, address: address, port: port, timeout: timeout)
                if let outcome = await talk(at: place, offer, &progress) { return outcome }
            }
        }
        return unanswered(progress, site)
    }

    // MARK: Where

    private func hosts(of site: Site) -> (hosts: [String], port: Int) {
        switch site.way {
        case .configured(let route): ([route.server.host], route.server.port)
        case .exchangers(let hosts): (hosts, configuration.exchangerPort)
        case .itself(let domain): ([domain], configuration.exchangerPort)
        }
    }

    private func addresses(of host: String, _ site: Site, _ progress: inout Progress) async -> [IPAddress] {
        if site.isConfigured { return await configuredAddresses(of: host, &progress) }
        let found: [IPAddress]
        do throws(DNSFault) {
            found = try await resolver.addresses(of: host)
        } catch {
            progress.record.note("\(host): \(error)")
            if error.isTransient { progress.lookupFault = .lookupFailed(host, error.description) }
            return []
        }
        if found.isEmpty { progress.record.note("\(host): no address") }
        return found.filter { address in
            switch addressGuard.verdict(on: address) {
            case .allowed: return true
            case .notPublic:
                progress.sawNotPublic = true
                progress.record.note("\(host) [\(address)]: passed over, not a public address")
            case .ourOwn:
                progress.sawOurOwn = true
                progress.record.note("\(host) [\(address)]: passed over, this machine itself")
            }
            return false
        }
    }

    // The operator's word needs no guard, and may be a name that only this machine knows.
    private func configuredAddresses(of host: String, _ progress: inout Progress) async -> [IPAddress] {
        if let address = IPAddress(host) { return [address] }
        let known = await SystemNames.addresses(of: host)
        if !known.isEmpty { return known }
        do throws(DNSFault) {
            return try await resolver.addresses(of: host)
        } catch {
            // A mistake of ours is no fault of the recipients'.
            progress.lookupFault = .lookupFailed(host, error.description)
            return []
        }
    }

    // MARK: Sessions

    /// An address to be called.
    private struct Place {
        let site: Site
        let host: String
        let address: IPAddress
        let port: Int
        let timeout: Duration
        var description: String { "\(host) [\(address)]:\(port)" }
    }

    /// Nil when another address should be tried.
    private func talk(
        at place: Place,
        _ offer: Offer,
        _ progress: inout Progress
    ) async -> Outcome? {
        progress.addresses += 1
        var usesTLS = true
        while progress.sessions < configuration.sessionsMax {
            let connection: SMTPConnection
            do {
                connection = try await connect(place, usesTLS: usesTLS)
            } catch {
                let reason =
                    "Connecting to \(place.description) failed: \(NetworkFault.description(of: error))"
                progress.record.note(reason)
                var outcome = RecipientOutcome(attempt: .deferred(.noConnection(reason)))
                outcome.remoteMX = place.host
                progress.connectFault = outcome
                return nil
            }
            Metric.connected.increment()
            progress.sessions += 1
            progress.record.note("Connected to \(place.description)")
            let result = await connection.deliver(offer)
            guard let failure = result.failure, failure.precedesTransaction, !result.wasCancelled else {
                return .answered(connection, result, progress.record)
            }
            note(failure, result, connection, &progress)
            // RFC 7435: no clear text in a session after a failed handshake, but in a new one where TLS is a bonus.
            guard failure.stage == .tlsHandshake, usesTLS, policy(of: place.site) == .opportunistic,
                !startsEncrypted(place.site)
            else { return nil }
            Metric.clearTextAfterTLS.increment()
            usesTLS = false
        }
        return nil
    }

    private func note(
        _ failure: ClientSession.Failure,
        _ result: TransactionResult,
        _ connection: SMTPConnection,
        _ progress: inout Progress
    ) {
        progress.record.setAside(result.transcript)
        var outcome = RecipientOutcome(attempt: failure.attempt)
        outcome.remoteMX = connection.host
        outcome.tls = result.tls
        let end: Pace.End =
            if failure.attempt.asksForSlowness, failure.stage != .authentication {
                .slowedDown
            } else if case .bounced = failure.attempt {
                .answered
            } else {
                .unreachable
            }
        progress.refused(outcome, end)
    }

    private func connect(_ place: Place, usesTLS: Bool) async throws -> SMTPConnection {
        let plan = plan(for: place, usesTLS: usesTLS)
        let address = try SocketAddress(ipAddress: place.address.description, port: place.port)
        let loop = group.any()
        let sites = sites
        return try await ClientBootstrap(group: loop)
            .connectTimeout(TimeAmount(place.timeout))
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(SMTPHandler(plan))
                }
            }
            .connect(to: address)
            .flatMapThrowing { channel in
                let handler = try channel.pipeline.syncOperations.handler(type: SMTPHandler.self)
                let connection = SMTPConnection(
                    handler: handler,
                    host: place.host,
                    site: place.site,
                    loop: loop
                )
                handler.idled = { sites.release(connection) }
                handler.ended = {
                    connection.markClosed()
                    _ = sites.release(connection)
                }
                if handler.hasEnded { connection.markClosed() }
                return connection
            }
            .get()
    }

    private func plan(for place: Place, usesTLS: Bool) -> SMTPHandler.Plan {
        var session = ClientSession.Configuration(
            heloName: configuration.hostname,
            timeouts: configuration.timeouts
        )
        var context = tls.opportunistic
        if case .configured(let route) = place.site.way {
            session.tls = route.tls
            session.credentials = route.credentials
            session.allowsClearTextAuthentication = route.allowsClearTextAuthentication
            session.isEncryptedFromStart = route.isEncryptedFromStart
            if route.verifiesCertificate { context = tls.verifying }
        }
        if !usesTLS { session.tls = .none }
        return SMTPHandler.Plan(
            session: session,
            tls: context,
            // An address cannot be a TLS server name; its certificate is then checked against the address.
            tlsName: IPAddress(place.host) == nil ? place.host : nil,
            idle: configuration.idle,
            transactionsMax: configuration.messagesPerConnectionMax,
            clock: clock
        )
    }

    private func policy(of site: Site) -> ClientSession.TLSPolicy {
        if case .configured(let route) = site.way { route.tls } else { .opportunistic }
    }

    private func startsEncrypted(_ site: Site) -> Bool {
        if case .configured(let route) = site.way { route.isEncryptedFromStart } else { false }
    }

    // MARK: The end

    private func cancelled(_ progress: Progress) -> Outcome {
        var outcome = RecipientOutcome(attempt: .deferred(.paced("The worker is stopping")))
        outcome.isPaced = true
        return .unanswered(outcome, progress.record, .unused)
    }

    // What may pass comes before what is final, and what a server said before what the network did.
    private func unanswered(_ progress: Progress, _ site: Site) -> Outcome {
        if let refusal = progress.refusal {
            return .unanswered(refusal, progress.record, progress.end)
        }
        if let fault = progress.connectFault { return .unanswered(fault, progress.record, .unreachable) }
        let attempt: Attempt =
            if let reply = progress.lookupFault {
                .deferred(reply)
            } else if progress.sawNotPublic {
                .bounced(.privateExchangers)
            } else if progress.sawOurOwn {
                .bounced(.ownExchangers)
            } else if case .itself = site.way {
                .bounced(.noAddress)
            } else {
                .bounced(.noUsableExchanger)
            }
        return .unanswered(RecipientOutcome(attempt: attempt), progress.record, .unused)
    }
}
