// A site: the servers that share one pace and one set of connections.

import DNS
import Mail
import NIOCore

/// The sorted MX set of a domain, or a configured server; all Google-hosted domains are one site.
struct Site: Sendable, Hashable {
    /// By what route mail goes there.
    enum Way: Sendable, Hashable {
        case configured(Route)
        /// Host names in the order in which they are tried. Their addresses are filtered.
        case exchangers([String])
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

    var isConfigured: Bool { if case .configured = way { true } else { false } }

    // Order is chance where preferences are equal, and a password may change: the key alone decides.
    static func == (a: Site, b: Site) -> Bool { a.key == b.key }

    func hash(into hasher: inout Hasher) { hasher.combine(key) }
}
