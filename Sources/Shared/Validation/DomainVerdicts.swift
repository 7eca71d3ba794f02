// Verdicts on recipient domains, remembered: in this process for a moment, in Redis for all of them, and asked of the
// DNS only where neither knows. Nothing here is precious; a lost verdict is asked for again.
//
// A domain with a configured route, and one whose mail comes to this installation, takes mail whatever the DNS says. The
// routes are asked first; the installation only where a domain would be rejected or is not known, which is seldom.

package import DNS
package import Redis
import Synchronization

/// The shared cache in front of the DNS.
package final class DomainVerdicts: Sendable {
    /// What a domain says of itself is kept for an hour; that it takes no mail for ten minutes, since that is mended.
    private static let goodSeconds = 3600
    private static let badSeconds = 600
    private static let domainsMax = 10_000
    private static let goodLocally = Duration.seconds(300)
    private static let badLocally = Duration.seconds(30)
    private static let keyPrefix = "commune:domain:"

    private struct Entry {
        let verdict: DomainVerdict
        let until: ContinuousClock.Instant
    }

    private let resolver: any Resolver
    private let redis: Redis
    private let routed: RoutedDomains
    private let hosted: @Sendable (Set<String>) async throws -> Set<String>
    private let entries = Mutex<[String: Entry]>([:])

    /// Verdicts of this resolver; domains with a route need none, nor those of which `hosted` says that they are ours.
    package init(
        resolver: any Resolver,
        redis: Redis,
        routed: RoutedDomains,
        hosted: @escaping @Sendable (Set<String>) async throws -> Set<String>
    ) {
        self.resolver = resolver
        self.redis = redis
        self.routed = routed
        self.hosted = hosted
    }

    /// The verdict on each of the domains, for which the DNS is waited for `limit` at most; those that took longer are
    /// `unknown`.
    package func verdicts(on domains: Set<String>, within limit: Duration) async -> [String: DomainVerdict] {
        var found: [String: DomainVerdict] = [:]
        for domain in domains { found[domain] = known(domain) }
        if found.count == domains.count, found.values.allSatisfy({ $0.rejection == nil }) { return found }
        for (domain, verdict) in await shared(domains.subtracting(found.keys).sorted()) {
            found[domain] = verdict
        }
        let doubtful = domains.filter { found[$0].map { $0.rejection != nil } ?? true }
        guard !doubtful.isEmpty else { return found }
        // Best effort: while the database is away nobody is rejected, and the send says so itself.
        let ours = try? await hosted(doubtful)
        for domain in ours ?? [] {
            found[domain] = .takesMail
            remember(domain, .takesMail)
        }
        for (domain, verdict) in await asked(domains.subtracting(found.keys), within: limit) {
            found[domain] = verdict
        }
        return ours == nil ? found.mapValues { $0.rejection == nil ? $0 : .unknown } : found
    }

    private func known(_ domain: String) -> DomainVerdict? {
        if routed.contains(domain) { return .takesMail }
        return entries.withLock { entries in
            guard let entry = entries[domain], entry.until > .now else { return nil }
            return entry.verdict
        }
    }

    /// What other processes have found; nothing while Redis is away.
    private func shared(_ domains: [String]) async -> [(String, DomainVerdict)] {
        guard !domains.isEmpty else { return [] }
        let words = ["MGET"] + domains.map { RedisArgument(Self.keyPrefix + $0) }
        guard let replies = try? await redis.command(words).array else { return [] }
        return zip(domains, replies).compactMap { domain, reply in
            guard let verdict = reply.string.flatMap(DomainVerdict.init) else { return nil }
            remember(domain, verdict)
            return (domain, verdict)
        }
    }

    private func asked(_ domains: Set<String>, within limit: Duration) async -> [(String, DomainVerdict)] {
        await withTaskGroup(of: (String, DomainVerdict).self) { group in
            for domain in domains {
                group.addTask { (domain, await self.ask(domain, within: limit)) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
    }

    private func ask(_ domain: String, within limit: Duration) async -> DomainVerdict {
        let verdict = await resolver.verdict(on: domain, within: limit)
        guard verdict != .unknown else { return verdict }
        remember(domain, verdict)
        let seconds = verdict == .takesMail ? Self.goodSeconds : Self.badSeconds
        // Best effort: another process then asks for itself.
        _ = try? await redis.command(
            "SET",
            RedisArgument(Self.keyPrefix + domain),
            RedisArgument(verdict.rawValue),
            "EX",
            RedisArgument(seconds)
        )
        return verdict
    }

    private func remember(_ domain: String, _ verdict: DomainVerdict) {
        let until = ContinuousClock.now + (verdict == .takesMail ? Self.goodLocally : Self.badLocally)
        entries.withLock { entries in
            if entries.count >= Self.domainsMax { entries.removeAll() }
            entries[domain] = Entry(verdict: verdict, until: until)
        }
    }
}
