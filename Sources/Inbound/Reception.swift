// What all ports and connections of this process share, and how it is set.

import DNS
import Foundation
import Logging
import Mail
import NIOCore
import Platform
import Queue
import Store

/// The means by which mail is received.
struct Reception: Sendable {
    struct Configuration: Sendable {
        /// Our name in the banner and in Received fields.
        let hostname: String
        /// Connections at a time; more hear 421.
        let connectionsMax: Int
        let patience: Patience.Limits
        /// How long a client is watched before it is greeted: who talks meanwhile hears nothing at all.
        let greetingDelay: Duration
        let clients: ClientLimits.Configuration
        let certificates: Certificates.Files?
        /// Networks of load balancers; a connection from there begins with a PROXY header.
        let proxies: [Network]
        /// Where large messages wait until they are whole.
        let spoolFolder: String

        init(reading settings: inout Settings) {
            let name = settings.text("COMMUNE_MAIL_HOST")
            if let name, (try? DomainName(name)) == nil {
                settings.fault("COMMUNE_MAIL_HOST", "must be a host name such as mail.example.com.")
            }
            hostname = name ?? ProcessInfo.processInfo.hostName
            connectionsMax = settings.integer("COMMUNE_SMTP_CONNECTIONS", in: 1...100_000, default: 2_000)
            let idle = settings.seconds("COMMUNE_SMTP_IDLE_SECONDS", in: 1...3600, default: .seconds(300))
            patience = Patience.Limits(
                idle: .nanoseconds(idle.microseconds * 1000),
                idleOverloaded: min(.seconds(10), .nanoseconds(idle.microseconds * 1000))
            )
            let delay = settings.integer("COMMUNE_SMTP_GREETING_DELAY_MS", in: 0...30_000, default: 100)
            greetingDelay = .milliseconds(delay)
            clients = ClientLimits.Configuration(reading: &settings)
            certificates = Certificates.Files(reading: &settings)
            proxies = AddressFilter(allowing: "COMMUNE_PROXY_FROM", reading: &settings).allowed
            spoolFolder = settings.text("COMMUNE_SPOOL") ?? "/var/tmp"
        }
    }

    let hostname: String
    let patience: Patience.Limits
    let greetingDelay: Duration
    let load: Load
    let clients: ClientLimits
    let certificates: Certificates?
    let proxies: [Network]
    let spoolFolder: String
    let store: Store
    let intake: InboundIntake
    let pusher: Pusher
    let logger: Logger

    init(_ configuration: Configuration, store: Store, pusher: Pusher, logger: Logger) throws {
        hostname = configuration.hostname
        patience = configuration.patience
        greetingDelay = configuration.greetingDelay
        intake = InboundIntake(store)
        load = Load(connectionsMax: configuration.connectionsMax, intake)
        clients = ClientLimits(configuration.clients)
        certificates = try configuration.certificates.map { try Certificates($0, logger: logger) }
        proxies = configuration.proxies
        spoolFolder = configuration.spoolFolder
        self.store = store
        self.pusher = pusher
        self.logger = logger
    }
}
