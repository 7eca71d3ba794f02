// Where a domain's mail goes: its configured route, our own inbound server, the route of all others, its MX (RFC 5321
// §5.1, RFC 7505), or nowhere.

import DNS
import Mail

/// The answer to where.
enum Destination: Sendable {
    case site(Site)
    /// Decided without asking any server.
    case settled(Attempt)
}

/// Our own inbound server, and whose mail goes there.
struct OwnInbound: Sendable {
    let route: Route
    let domains: OwnDomains
}

/// Decides by routes first, then by the DNS.
struct Destinations: Sendable {
    /// Hosts of an MX set beyond these are never tried.
    static let hostsMax = 10

    private let routes: [Route: Site]
    private let configured: Routes
    private let own: OwnInbound?
    private let resolver: any Resolver

    init(_ routes: Routes, own: OwnInbound?, resolver: any Resolver) {
        configured = routes
        self.own = own
        self.routes = Dictionary((routes.all + [own?.route].compactMap { $0 }).map { ($0, Site($0)) }) {
            first,
            _ in first
        }
        self.resolver = resolver
    }

    func destination(of domain: String) async -> Destination {
        if let route = configured.own(of: domain) { return site(route) }
        if let own {
            switch await own.domains.contains(domain) {
            case true: return site(own.route)
            case nil: return .settled(.deferred(.ownDomainsUnknown))
            default: break
            }
        }
        if let route = configured[domain] { return site(route) }
        if domain.hasPrefix("[") { return .settled(.bounced(.addressLiteralRefused)) }
        switch await resolver.exchangers(of: domain) {
        case .hosts(let exchangers, _):
            return .site(Site(exchangers: Self.hosts(exchangers)))
        case .implicit(let domain): return .site(Site(itself: domain))
        case .nullMX: return .settled(.bounced(.nullMX))
        case .noSuchDomain: return .settled(.bounced(.noSuchDomain))
        case .temporary(let reason): return .settled(.deferred(.lookupFailed(domain, reason)))
        }
    }

    private func site(_ route: Route) -> Destination { .site(routes[route] ?? Site(route)) }

    private static func hosts(_ exchangers: [Exchanger]) -> [String] {
        var hosts: [String] = []
        for exchanger in exchangers where !hosts.contains(exchanger.host) && hosts.count < hostsMax {
            hosts.append(exchanger.host)
        }
        return hosts
    }
}

extension Reply {
    /// What our client says of a domain without asking a server of it.
    static let noSuchDomain = Reply(550, EnhancedStatus(5, 1, 2), "The domain does not exist")
    static let noAddress = Reply(
        550,
        EnhancedStatus(5, 1, 2),
        "The domain exists, but has no mail server and no address"
    )
    static let addressLiteralRefused = Reply(
        550,
        EnhancedStatus(5, 1, 2),
        "Mail to address literals is not delivered"
    )
    static let noUsableExchanger = Reply(
        550,
        EnhancedStatus(5, 4, 4),
        "None of the domain's mail servers has an address"
    )
    static let privateExchangers = Reply(
        550,
        EnhancedStatus(5, 4, 4),
        "All mail servers of the domain have private or reserved addresses, to which nothing is delivered"
    )
    static let ownExchangers = Reply(
        550,
        EnhancedStatus(5, 4, 6),
        "The domain's mail server is this machine itself; without COMMUNE_INBOUND_DELIVERY or a route its mail would loop"
    )
    static let ownDomainsUnknown = Reply(
        451,
        EnhancedStatus(4, 4, 3),
        "Whether the domain is one of this installation's own cannot be told at the moment"
    )
    static func lookupFailed(_ name: String, _ reason: String) -> Reply {
        Reply(451, EnhancedStatus(4, 4, 3), "Looking up \(name) failed for now: \(reason)")
    }
    static func noConnection(_ reason: String) -> Reply {
        Reply(451, EnhancedStatus(4, 4, 1), reason)
    }
    /// A turn that did not come.
    static func paced(_ reason: String) -> Reply {
        Reply(451, EnhancedStatus(4, 4, 5), reason)
    }
}
