// Configured routes: where mail goes by the operator's word and not by the DNS.
//
// COMMUNE_SMTP_ROUTES=example.com=10.0.0.5:25,*=smtps://user:p%40ss@relay.example.net:465
//
// A domain's own route comes before `*`, of several for one domain the last one counts. User and password are
// percent-encoded; a comma in them is %2C.

import DNS
import Foundation
import Mail
import Platform

/// A server that takes mail by configuration.
struct Route: Sendable, Hashable {
    let server: HostPort
    /// TLS from the first byte (`smtps`).
    var isEncryptedFromStart = false
    var tls = ClientSession.TLSPolicy.opportunistic
    var credentials: ClientSession.Credentials?

    /// A password goes into clear text only where the operator said so by `tls=none`.
    var allowsClearTextAuthentication: Bool { credentials != nil && tls == .none }
    /// Whose certificate it is matters where TLS is required.
    var verifiesCertificate: Bool { tls == .required }
}

/// All configured routes.
struct Routes: Sendable, Equatable {
    private var byDomain: [String: Route] = [:]
    private var fallback: Route?

    init() {}

    /// The route of a domain; nil means by MX.
    subscript(domain: String) -> Route? { byDomain[domain] ?? fallback }

    /// The route that names the domain.
    func own(of domain: String) -> Route? { byDomain[domain] }

    /// Every route, for what is made once for each.
    var all: [Route] { Array(byDomain.values) + (fallback.map { [$0] } ?? []) }

    /// Reads the variable and notes every fault.
    ///
    /// A fault never shows what may be a password.
    init(reading variable: String, of settings: inout Settings) {
        for (index, entry) in settings.list(variable).enumerated() {
            do throws(RouteFault) {
                try add(entry)
            } catch {
                settings.fault(variable, "entry \(index + 1) (\(Self.shown(entry))) \(error.message).")
            }
        }
    }

    private mutating func add(_ entry: String) throws(RouteFault) {
        guard let equals = entry.firstIndex(of: "=") else { throw .notAnEntry }
        let name = entry[..<equals].trimmingCharacters(in: .whitespaces)
        let target = entry[entry.index(after: equals)...].trimmingCharacters(in: .whitespaces)
        let route = try Route(target)
        if name == "*" {
            fallback = route
        } else {
            guard let domain = try? DomainName(name) else { throw .badDomain }
            byDomain[domain.ascii] = route
        }
    }

    private static func shown(_ entry: String) -> String {
        let name = entry.prefix { $0 != "=" }
        return name.contains("://") || name.contains("@") ? "…" : "\(name.prefix(80))=…"
    }
}

/// What is wrong with an entry of the routes.
enum RouteFault: Error, Equatable {
    case notAnEntry, badDomain, badScheme, badServer, badCredentials, badOption, contradictory

    var message: String {
        switch self {
        case .notAnEntry: "is not of the form domain=host:port"
        case .badDomain: "names no domain before the equals sign"
        case .badScheme: "must begin with smtp:// or smtps://, or be host:port alone"
        case .badServer: "names no server as host:port"
        case .badCredentials: "needs user:password before the @, percent-encoded"
        case .badOption: "knows the option tls=require, tls=opportunistic or tls=none, and no other"
        case .contradictory: "asks for smtps and tls=none at once"
        }
    }
}

extension Route {
    /// Reads `host:port` or `smtp[s]://user:pass@host:port?tls=…`.
    init(_ text: String) throws(RouteFault) {
        guard let schemeEnd = text.range(of: "://") else {
            self.init(server: try Self.server(text, defaultPort: 25))
            return
        }
        let scheme = text[..<schemeEnd.lowerBound].lowercased()
        guard scheme == "smtp" || scheme == "smtps" else { throw .badScheme }
        var rest = text[schemeEnd.upperBound...]
        var policy: ClientSession.TLSPolicy?
        if let question = rest.lastIndex(of: "?") {
            policy = try Self.policy(rest[rest.index(after: question)...])
            rest = rest[..<question]
        }
        var credentials: ClientSession.Credentials?
        if let at = rest.lastIndex(of: "@") {
            credentials = try Self.credentials(rest[..<at])
            rest = rest[rest.index(after: at)...]
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        let isEncrypted = scheme == "smtps"
        if isEncrypted, policy == ClientSession.TLSPolicy.none { throw .contradictory }
        self.init(
            server: try Self.server(String(rest), defaultPort: isEncrypted ? 465 : 25),
            isEncryptedFromStart: isEncrypted,
            // A password must not be given to whoever answers.
            tls: policy ?? (isEncrypted || credentials != nil ? .required : .opportunistic),
            credentials: credentials
        )
    }

    private static func server(_ text: String, defaultPort: Int) throws(RouteFault) -> HostPort {
        guard let server = HostPort(text, defaultPort: defaultPort) else { throw .badServer }
        guard AddressFilter.host(server.host) != .refused else { throw .badServer }
        return server
    }

    private static func credentials(_ text: Substring) throws(RouteFault) -> ClientSession.Credentials {
        guard let colon = text.firstIndex(of: ":") else { throw .badCredentials }
        guard let user = text[..<colon].removingPercentEncoding,
            let password = text[text.index(after: colon)...].removingPercentEncoding,
            // RFC 4616: NUL separates the two.
            !user.isEmpty, !(user + password).utf8.contains(0)
        else { throw .badCredentials }
        return ClientSession.Credentials(user: user, password: password)
    }

    private static func policy(_ query: Substring) throws(RouteFault) -> ClientSession.TLSPolicy {
        switch query {
        case "tls=require": .required
        case "tls=opportunistic": .opportunistic
        case "tls=none": ClientSession.TLSPolicy.none
        default: throw .badOption
        }
    }
}
