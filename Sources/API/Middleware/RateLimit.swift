// Requests a minute for each key: a token bucket in Redis, shared by all copies; while Redis is away, one in memory.

import HTTPTypes
import Hummingbird
import Logging
import Platform
import Redis

/// What is left of a key's rate, as the headers say it.
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

/// Lets requests of a key through at its rate.
struct RateLimiter: Sendable {
    static let burst = 100

    let perMinute: Int
    let shared: TokenBucket
    let local = LocalTokenBucket()

    /// Takes one request from the key's bucket, or throws 429.
    func admit(_ key: KeyID) async throws -> RateState {
        let name = "commune:rate:key:\(key)"
        let rate = Double(perMinute) / 60
        let burst = min(Self.burst, perMinute)
        let answer: TokenBucketAnswer
        do {
            answer = try await shared.take(key: name, ratePerSecond: rate, burst: burst)
        } catch {
            // Redis tells its own absence in the log.
            answer = local.take(key: name, ratePerSecond: rate, burst: burst)
        }
        let state = RateState(
            limit: perMinute,
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
}
