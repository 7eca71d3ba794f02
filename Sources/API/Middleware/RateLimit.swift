// Requests a minute for each key, and sends a minute for each organization: token buckets in Redis, shared by all
// copies; while Redis is away, bounded ones in memory.

import HTTPTypes
import Hummingbird
import Logging
import Platform
import Redis
import Store
import Synchronization

/// What is left of a rate, as the headers say it.
struct RateState: Sendable {
    let limit: Int
    let remaining: Int
    let resetSeconds: Int

    func write(to headers: inout HTTPFields) {
        for prefix in ["RateLimit", "X-RateLimit"] {
            headers[.other("\(prefix)-Limit")] = String(limit)
            headers[.other("\(prefix)-Remaining")] = String(remaining)
            headers[.other("\(prefix)-Reset")] = String(resetSeconds)
        }
    }
}

/// Lets requests through at the rates of their key and of their organization.
final class RateLimiter: Sendable {
    static let burst = 100

    private let requestsPerMinute: Int
    private let sendsPerMinute: Int
    private let shared: TokenBucket
    private let local = LocalTokenBucket()
    private let logger: Logger
    private let isLocal = Atomic(false)

    /// Takes the rates; 0 turns one off.
    init(requestsPerMinute: Int, sendsPerMinute: Int, shared: TokenBucket, logger: Logger) {
        self.requestsPerMinute = requestsPerMinute
        self.sendsPerMinute = sendsPerMinute
        self.shared = shared
        self.logger = logger
    }

    private struct Bucket {
        let key: String
        let perMinute: Int

        var ratePerSecond: Double { Double(perMinute) / 60 }
        var burst: Int { min(RateLimiter.burst, perMinute) }
    }

    /// Takes one request from the key's bucket, and for a send one from the organization's, or of neither and throws
    /// 429.
    ///
    /// Answers with what is left in the tighter bucket; nil when both rates are off.
    func admit(_ caller: Caller, sends: Bool) async throws -> RateState? {
        // One hash tag, so that a cluster keeps both buckets on one node.
        var buckets: [Bucket] = []
        if requestsPerMinute > 0 {
            buckets.append(
                Bucket(key: "commune:rate:{\(caller.org)}:key:\(caller.key)", perMinute: requestsPerMinute)
            )
        }
        if sends, sendsPerMinute > 0 {
            buckets.append(Bucket(key: "commune:rate:{\(caller.org)}:send", perMinute: sendsPerMinute))
        }
        guard !buckets.isEmpty else { return nil }
        let answers = Array(zip(buckets, await take(of: buckets)))
        let refusing = answers.filter { !$0.1.allowed }.max { $0.1.retryAfter < $1.1.retryAfter }
        guard let (bucket, answer) = refusing ?? answers.min(by: { $0.1.remaining < $1.1.remaining }) else {
            return nil
        }
        let state = RateState(
            limit: bucket.perMinute,
            remaining: answer.remaining,
            resetSeconds: Int(answer.resetAfter.inSeconds.rounded(.up))
        )
        guard answer.allowed else {
            var error = APIError.rateLimited(
                retryAfterSeconds: max(1, Int(answer.retryAfter.inSeconds.rounded(.up)))
            )
            state.write(to: &error.headers)
            throw error
        }
        return state
    }

    private func take(of buckets: [Bucket]) async -> [TokenBucketAnswer] {
        do {
            let answers = try await shared.take(
                buckets.map { .init(key: $0.key, ratePerSecond: $0.ratePerSecond, burst: $0.burst) }
            )
            if isLocal.exchange(false, ordering: .relaxed) {
                logger.notice("Rates are limited over all copies again.")
            }
            return answers
        } catch {
            if !isLocal.exchange(true, ordering: .relaxed) {
                logger.warning(
                    "Redis is away: this process limits rates by itself.",
                    metadata: ["error": "\(error)"]
                )
            }
            return buckets.map { local.take(key: $0.key, ratePerSecond: $0.ratePerSecond, burst: $0.burst) }
        }
    }
}
