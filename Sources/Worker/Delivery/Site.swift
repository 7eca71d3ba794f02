// A site: the servers that share one pace and one set of connections.

import DNS
import Mail
import Platform

/// The sorted MX set of a domain, or a configured server; all Google-hosted domains are one site.
struct Site: Sendable, Hashable {
    /// By what route mail goes there.
    enum Way: Sendable, Hashable {
        case configured(Route)
        /// Host names in the order in which they are tried. Their addresses are filtered.
        case exchangers([String])
        /// There is no MX: the domain's own address (RFC 5321 §5.1).
        case itself(String)
    }

    /// What makes two sites the same.
    let key: String
    let way: Way

    init(_ route: Route) {
        var key = "route:\(route.server)"
        if let credentials = route.credentials { key += " \(credentials.user)" }
        if route.isEncryptedFromStart || route.tls != .opportunistic { key += " \(route.tls)" }
        self.key = key
        way = .configured(route)
    }

    init(exchangers hosts: [String]) {
        key = hosts.sorted().joined(separator: ",")
        way = .exchangers(hosts)
    }

    init(itself domain: String) {
        key = domain
        way = .itself(domain)
    }

    /// For logs: without a user's name.
    var name: String {
        if case .configured(let route) = way { "\(route.server)" } else { String(key.prefix(200)) }
    }

    var isConfigured: Bool { if case .configured = way { true } else { false } }

    // Order is chance where preferences are equal, and a password may change: the key alone decides.
    static func == (a: Site, b: Site) -> Bool { a.key == b.key }

    func hash(into hasher: inout Hasher) { hasher.combine(key) }
}
