// How many messages a second a site gets, over all workers, where the operator set a limit.
//
// COMMUNE_SITE_RATES=google.com=20,outlook.com=5,*=100
//
// A name counts for every server at or below it, and all of them share its limit; `*` gives each other MX site a limit
// of its own. The tokens are in Redis; while it is away each worker keeps to the rate by itself. Sites without a limit
// cost no round trip.

import Mail
import Platform
import Redis
import Synchronization

/// The configured limits.
struct SiteRates: Sendable, Equatable {
    /// Messages a second, by domain name of the servers.
    private(set) var byName: [String: Double] = [:]
    /// For each other MX site.
    private(set) var each: Double?

    init() {}

    /// Reads `name=rate` entries and notes every fault.
    init(reading variable: String, of settings: inout Settings) {
        for entry in settings.list(variable) {
            let parts = entry.split(separator: "=", omittingEmptySubsequences: false)
            guard parts.count == 2, let rate = Double(parts[1]), rate >= 0.001, rate <= 100_000 else {
                settings.fault(
                    variable,
                    "needs entries such as example.com=20, in messages a second from 0.001 to 100000, not “\(entry.prefix(80))”."
                )
                continue
            }
            if parts[0] == "*" {
                each = rate
            } else if let name = try? DomainName(String(parts[0])) {
                byName[name.ascii] = rate
            } else {
                settings.fault(variable, "names no domain in “\(entry.prefix(80))”.")
            }
        }
    }

    /// The limit of a site with the name of its bucket; nil when it has none.
    func limit(of site: Site) -> (bucket: String, perSecond: Double)? {
        guard !byName.isEmpty || each != nil else { return nil }
        let hosts: [String] =
            switch site.way {
            case .configured(let route): [route.server.host]
            case .exchangers(let hosts): hosts
            case .itself(let domain): [domain]
            }
        for host in hosts {
            // The longest name that fits, so that one part of a provider can have a limit of its own.
            var name = host[...]
            while true {
                if let rate = byName[String(name)] { return (String(name), rate) }
                guard let dot = name.firstIndex(of: ".") else { break }
                name = name[name.index(after: dot)...]
            }
        }
        guard let each, !site.isConfigured else { return nil }
        return ("mx:\(site.key.prefix(500))", each)
    }
}

/// Lets messages through at their sites' rates.
final class SiteLimiter: Sendable {
    /// Whoever has to wait longer asks again after this.
    static let waitMax = Duration.seconds(600)
    private static let bucketsMax = 10_000

    private let rates: SiteRates
    private let shared: TokenBucket?
    private let local = LocalTokenBucket()
    /// Until when places in the line of each bucket were given out.
    private let lines = Mutex<[String: ContinuousClock.Instant]>([:])

    init(_ rates: SiteRates, shared: TokenBucket?) {
        self.rates = rates
        self.shared = shared
    }

    /// Takes one message's token; else says when to come again.
    func wait(for site: Site) async -> Duration? {
        guard let (bucket, rate) = rates.limit(of: site) else { return nil }
        let key = "commune:rate:site:\(bucket)"
        let burst = max(1, Int(rate.rounded(.up)))
        let answer: TokenBucketAnswer
        do {
            guard let shared else { throw RedisError.away("not configured") }
            answer = try await shared.take(key: key, ratePerSecond: rate, burst: burst)
        } catch {
            // Redis tells its own absence in the log.
            answer = local.take(key: key, ratePerSecond: rate, burst: burst)
        }
        return answer.allowed ? nil : place(in: bucket, after: answer.retryAfter, rate)
    }

    /// A place behind those who were sent away before, so that a backlog does not come back all at once.
    private func place(in bucket: String, after wait: Duration, _ rate: Double) -> Duration {
        lines.withLock { lines in
            if lines.count >= Self.bucketsMax { lines = lines.filter { $0.value > .now } }
            if lines.count >= Self.bucketsMax { lines = [:] }
            let now = ContinuousClock.now
            let place = min(max(now + wait, lines[bucket] ?? now), now + Self.waitMax)
            lines[bucket] = place + .seconds(1 / rate)
            return max(place - now, .seconds(1))
        }
    }
}
