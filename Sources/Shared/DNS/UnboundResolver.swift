// The resolver on libunbound: caching, validating, and asking whom the configuration says.

import Glibc
package import Logging
package import Platform
import Synchronization

/// Asks the DNS through libunbound.
package final class UnboundResolver: Resolver {
    /// Whom to ask, and the limits.
    package struct Configuration: Sendable {
        /// The server that is asked for everything; nil means the system's servers, or the root's without those.
        package var server: HostPort?
        /// How long a look-up may take.
        package var timeout: Duration
        /// Look-ups under way at once; more wait their turn.
        package var concurrentMax: Int
        /// Look-ups that may wait their turn.
        package var waitingMax = 10_000
        /// A file with DNSSEC trust anchors; without one nothing is `secure`.
        package var trustAnchorFile: String?
        /// How a domain's own nameservers are asked where its newest word counts; nil means never.
        package var nameservers: Nameservers?

        /// Which nameservers of strangers' domains may be asked, and where.
        package struct Nameservers: Sendable {
            /// Test labs have other ports.
            package var port: Int
            package var allowed: AddressFilter

            /// Public addresses at port 53, unless said otherwise.
            package init(port: Int = 53, allowed: AddressFilter = AddressFilter()) {
                self.port = port
                self.allowed = allowed
            }
        }

        /// Asks this server, or the system's.
        package init(server: HostPort? = nil, timeout: Duration = .seconds(5), concurrentMax: Int = 256) {
            self.server = server
            self.timeout = timeout
            self.concurrentMax = concurrentMax
        }

        /// Reads `COMMUNE_DNS_SERVER`, `COMMUNE_DNS_TIMEOUT_SECONDS`, `COMMUNE_DNS_CONCURRENT_MAX` and
        /// `COMMUNE_DNS_TRUST_ANCHOR`.
        package init(reading settings: inout Settings) {
            let server = settings.hostPort("COMMUNE_DNS_SERVER")
            if let server, IPAddress(server.host) == nil {
                settings.fault("COMMUNE_DNS_SERVER", "must name the server by its address.")
            }
            self.init(
                server: server,
                timeout: settings.seconds("COMMUNE_DNS_TIMEOUT_SECONDS", in: 0.1...60, default: .seconds(5)),
                concurrentMax: settings.integer("COMMUNE_DNS_CONCURRENT_MAX", in: 1...1000, default: 256)
            )
            // A chosen server is the one that is asked, for everything.
            nameservers = server == nil ? Nameservers() : nil
            trustAnchorFile = settings.text("COMMUNE_DNS_TRUST_ANCHOR")
            if let trustAnchorFile, access(trustAnchorFile, R_OK) != 0 {
                settings.fault("COMMUNE_DNS_TRUST_ANCHOR", "names a file that cannot be read.")
            }
        }
    }

    /// Fresh look-ups under way at once; each has a context and two threads of its own.
    package static let freshMax = 8

    let configuration: Configuration
    private let logger: Logger
    private let cached: UnboundContext
    private let freshUnderWay = Mutex(0)

    /// Makes the context with its cache and its thread.
    package init(_ configuration: Configuration, logger: Logger) throws(DNSFault) {
        self.configuration = configuration
        self.logger = logger
        cached = try UnboundContext(configuration)
    }

    deinit { cached.close() }

    package func lookup(
        _ name: String,
        _ type: RecordType,
        options: LookupOptions
    ) async throws(DNSFault) -> DNSAnswer {
        guard let question = DomainName.question(name) else {
            throw .malformed("“\(name.prefix(80))” is not a domain name")
        }
        let timeout = options.timeout ?? configuration.timeout
        guard options.fresh else { return try await cached.lookup(question, type, timeout: timeout) }
        let deadline = ContinuousClock.now + timeout
        try await takeFreshPlace(until: deadline)
        defer { leaveFreshPlace() }
        // A new context knows nothing yet. libunbound has no look-up that passes over its cache, and a cache of no
        // size breaks the walk down from the root.
        let fresh = try UnboundContext(configuration)
        defer { fresh.close() }
        return try await fresh.lookup(question, type, timeout: ContinuousClock.now.duration(to: deadline))
    }

    /// Waits for a place among the fresh contexts.
    func takeFreshPlace(until deadline: ContinuousClock.Instant) async throws(DNSFault) {
        while !takesFreshPlace() {
            guard ContinuousClock.now < deadline else { throw .timedOut }
            if Task.isCancelled { throw .cancelled }
            // Rare enough to look again instead of keeping a list of who waits; cancellation is looked for above.
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    func leaveFreshPlace() { freshUnderWay.withLock { $0 -= 1 } }

    private func takesFreshPlace() -> Bool {
        freshUnderWay.withLock { count in
            guard count < Self.freshMax else { return false }
            count += 1
            return true
        }
    }
}
