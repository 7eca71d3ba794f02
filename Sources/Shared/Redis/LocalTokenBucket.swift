// The same bucket in this process alone, for callers that must go on while Redis is away.

import Synchronization

/// Token buckets of this process, for a bounded number of keys: the least recently used are forgotten, which makes
/// their buckets full again.
package final class LocalTokenBucket: Sendable {
    /// Two generations instead of an exact order: a key that was used since the last half of the keys came stays.
    private struct Buckets {
        var young: [String: ContinuousClock.Instant] = [:]
        var old: [String: ContinuousClock.Instant] = [:]
    }

    private let keysMax: Int
    private let buckets = Mutex(Buckets())

    /// Remembers at most `keysMax` keys.
    package init(keysMax: Int = 10_000) { self.keysMax = max(keysMax, 2) }

    /// Takes tokens of one bucket; times are the monotonic clock's.
    package func take(
        key: String,
        ratePerSecond: Double,
        burst: Int,
        tokens: Int = 1,
        at now: ContinuousClock.Instant = .now
    ) -> TokenBucketAnswer {
        let interval = Duration.seconds(1 / max(ratePerSecond, tokenRateMin))
        let capacity = interval * max(burst, 1)
        return buckets.withLock { buckets in
            let full = max(buckets.young[key] ?? buckets.old[key] ?? now, now)
            let wait = full + interval * max(tokens, 0) - now - capacity
            let allowed = wait <= .zero
            let after = allowed ? full + interval * max(tokens, 0) : full
            remember(key, after, in: &buckets)
            return TokenBucketAnswer(
                allowed: allowed,
                // The quotient of two durations is a Double, which may fall a hair short of the whole.
                remaining: max(0, Int((capacity - (after - now)) / interval + 1e-9)),
                retryAfter: allowed ? .zero : wait,
                resetAfter: after - now
            )
        }
    }

    /// Keys that are remembered.
    package var count: Int { buckets.withLock { $0.young.count + $0.old.count } }

    private func remember(_ key: String, _ full: ContinuousClock.Instant, in buckets: inout Buckets) {
        buckets.old[key] = nil
        if buckets.young[key] == nil, buckets.young.count >= keysMax / 2 {
            buckets.old = buckets.young
            buckets.young = [:]
        }
        buckets.young[key] = full
    }
}
