// Buckets give exactly what they hold and gain, and no more, however many ask at once.

import Foundation
import Redis
import TestSupport
import Testing

@Suite("Token buckets")
struct TokenBucketTests {
    @Test("of many takes at once exactly the burst is allowed")
    func exactBurst() async throws {
        try await withRedis { redis, prefix in
            let bucket = TokenBucket(redis)
            // One token in a thousand seconds: none comes back while the test runs.
            let answers = try await withThrowingTaskGroup(of: TokenBucketAnswer.self) { group in
                for _ in 0..<200 {
                    group.addTask {
                        try await bucket.take(key: "\(prefix)b", ratePerSecond: 0.001, burst: 50)
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let allowed = answers.filter(\.allowed)
            #expect(allowed.count == 50)
            #expect(Set(allowed.map(\.remaining)) == Set(0..<50))
            #expect(allowed.allSatisfy { $0.retryAfter == .zero })
            let refused = answers.filter { !$0.allowed }
            #expect(refused.allSatisfy { $0.remaining == 0 && $0.retryAfter > .seconds(990) })
            #expect(
                refused.allSatisfy { $0.retryAfter <= .seconds(1000) && $0.resetAfter > .seconds(49_990) }
            )
        }
    }

    @Test("tokens come back at the rate, on Redis' clock")
    func refill() async throws {
        try await withRedis { redis, prefix in
            let bucket = TokenBucket(redis)
            func time() async throws -> Int {
                let parts = try await redis.command("TIME").array?.compactMap(\.int) ?? []
                return parts[0] * 1_000_000 + parts[1]
            }
            func allowedOfMany() async throws -> Int {
                try await withThrowingTaskGroup(of: Bool.self) { group in
                    for _ in 0..<300 {
                        group.addTask {
                            try await bucket.take(key: "\(prefix)r", ratePerSecond: 100, burst: 1000).allowed
                        }
                    }
                    return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
                }
            }
            let before = try await time()
            let empty = try await bucket.take(
                key: "\(prefix)r",
                ratePerSecond: 100,
                burst: 1000,
                tokens: 1000
            )
            #expect(empty.allowed && empty.remaining == 0)
            let start = try await time()
            // The very time that is under test.
            try await Task.sleep(for: .milliseconds(300))
            let waited = try await time() - start
            let allowed = try await allowedOfMany()
            let all = try await time() - before
            #expect(allowed >= min(300, waited / 10_000))
            #expect(allowed <= all / 10_000)
        }
    }

    @Test("a refused take says when it will be allowed, and then it is")
    func retryAfter() async throws {
        try await withRedis { redis, prefix in
            let bucket = TokenBucket(redis)
            let key = "\(prefix)w"
            #expect(try await bucket.take(key: key, ratePerSecond: 1, burst: 5, tokens: 5).allowed)
            let refused = try await bucket.take(key: key, ratePerSecond: 1, burst: 5, tokens: 2)
            #expect(!refused.allowed)
            #expect(refused.retryAfter > .zero && refused.retryAfter <= .seconds(2))
            // The very time that is under test.
            try await Task.sleep(for: refused.retryAfter)
            #expect(try await bucket.take(key: key, ratePerSecond: 1, burst: 5, tokens: 2).allowed)
        }
    }

    @Test("more than the burst is never allowed, and nothing is taken by asking or by a refusal")
    func overBurst() async throws {
        try await withRedis { redis, prefix in
            let bucket = TokenBucket(redis)
            let key = "\(prefix)o"
            var answers: [TokenBucketAnswer] = []
            for tokens in [6, 0, 5] {
                answers.append(
                    try await bucket.take(key: key, ratePerSecond: 0.001, burst: 5, tokens: tokens)
                )
            }
            #expect(answers.map(\.allowed) == [false, true, true])
            #expect(answers.map(\.remaining) == [5, 5, 0])
        }
    }

    @Test("several buckets give all or none")
    func several() async throws {
        try await withRedis { redis, prefix in
            let bucket = TokenBucket(redis)
            let wide = TokenBucket.Take(key: "\(prefix)wide", ratePerSecond: 0.001, burst: 10)
            let narrow = TokenBucket.Take(key: "\(prefix)narrow", ratePerSecond: 0.001, burst: 2)
            for round in 0..<7 {
                let answers = try await bucket.take([wide, narrow])
                #expect(answers.map(\.allowed) == [true, round < 2])
            }
            let answers = try await bucket.take([wide])
            #expect(answers.map(\.remaining) == [7])
        }
    }

    @Test("a key lives no longer than its bucket takes to fill")
    func expiry() async throws {
        try await withRedis { redis, prefix in
            let key = "\(prefix)x"
            _ = try await TokenBucket(redis).take(key: key, ratePerSecond: 0.01, burst: 10, tokens: 3)
            let life = try #require(try await redis.command("PTTL", "\(key)").int)
            #expect(life > 240_000 && life <= 300_001)
        }
    }

    @Test("the local bucket is as exact")
    func local() {
        let bucket = LocalTokenBucket()
        let start = ContinuousClock.now
        let burst = (0..<20).map { _ in bucket.take(key: "a", ratePerSecond: 3, burst: 10, at: start) }
        #expect(
            burst.map(\.allowed) == Array(repeating: true, count: 10) + Array(repeating: false, count: 10)
        )
        #expect(burst.prefix(10).map(\.remaining) == Array((0..<10).reversed()))
        let refused = bucket.take(key: "a", ratePerSecond: 3, burst: 10, at: start)
        #expect(
            !bucket.take(
                key: "a",
                ratePerSecond: 3,
                burst: 10,
                at: start + refused.retryAfter - .nanoseconds(1)
            ).allowed
        )
        #expect(bucket.take(key: "a", ratePerSecond: 3, burst: 10, at: start + refused.retryAfter).allowed)
        // A thousand seconds of asking ten times a second: 10 at once and 3 a second.
        let allowed = (0...10_000).count { tenth in
            let now = start + .seconds(100) + .milliseconds(100 * tenth)
            return bucket.take(key: "b", ratePerSecond: 3, burst: 10, at: now).allowed
        }
        #expect(allowed == 10 + 3000)
    }

    @Test("the local bucket forgets the least recently used and never grows over its bound")
    func localBound() {
        let bucket = LocalTokenBucket(keysMax: 100)
        let start = ContinuousClock.now
        for number in 0..<2000 {
            _ = bucket.take(key: "\(number)", ratePerSecond: 0.001, burst: 1, at: start)
            let kept = bucket.take(key: "kept", ratePerSecond: 0.001, burst: 1, at: start)
            #expect(kept.allowed == (number == 0))
            #expect(bucket.count <= 100)
        }
        #expect(bucket.take(key: "0", ratePerSecond: 0.001, burst: 1, at: start).allowed)
    }
}
