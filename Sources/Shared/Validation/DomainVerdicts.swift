// Verdicts on recipient domains, remembered: in this process for a moment, in Redis for all of them, and asked of the
// DNS only where neither knows. Nothing here is precious; a lost verdict is asked for again.

package import DNS
package import Redis
import Synchronization

/// The shared cache in front of the DNS.
package final class DomainVerdicts: Sendable {
    /// What a domain says of itself is kept for an hour; that it takes no mail for ten minutes, since that is mended.
    private static let goodSeconds = 3600
    private static let badSeconds = 600
    private static let domainsMax = 10_000
    private static let localFor = Duration.seconds(300)
    private static let keyPrefix = "commune:domain:"

    private struct Entry {
        let verdict: DomainVerdict
        let until: ContinuousClock.Instant
    }

    private let resolver: any Resolver
    private let redis: Redis
    private let routed: RoutedDomains
    private let entries = Mutex<[String: Entry]>([:])

    /// Verdicts of this resolver; domains with a configured route need none.
    package init(resolver: any Resolver, redis: Redis, routed: RoutedDomains) {
        self.resolver = resolver
        self.redis = redis
        self.routed = routed
    }

    /// The verdict on each of the domains, each waited for `limit` at most; those that took longer are `unknown`.
    package func verdicts(on domains: Set<String>, within limit: Duration) async -> [String: DomainVerdict] {
        var found: [String: DomainVerdict] = [:]
        for domain in domains { found[domain] = known(domain) }
        let missing = domains.subtracting(found.keys).sorted()
        guard !missing.isEmpty else { return found }
        for (domain, verdict) in await shared(missing) { found[domain] = verdict }
        let unasked = missing.filter { found[$0] == nil }
        await withTaskGroup(of: (String, DomainVerdict).self) { group in
            for domain in unasked {
                group.addTask { (domain, await self.ask(domain, within: limit)) }
            }
            for await (domain, verdict) in group { found[domain] = verdict }
        }
        return found
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
        let words = ["MGET"] + domains.map { RedisArgument(Self.keyPrefix + $0) }
        guard let replies = try? await redis.command(words).array else { return [] }
        return zip(domains, replies).compactMap { domain, reply in
            guard let verdict = reply.string.flatMap(DomainVerdict.init) else { return nil }
            remember(domain, verdict)
            return (domain, verdict)
        }
    }

    private func ask(_ domain: String, within limit: Duration) async -> DomainVerdict {
        let verdict = await resolver.verdict(on: domain, options: LookupOptions(timeout: limit))
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
        entries.withLock { entries in
            if entries.count >= Self.domainsMax { entries.removeAll() }
            entries[domain] = Entry(verdict: verdict, until: .now + Self.localFor)
        }
    }
}
