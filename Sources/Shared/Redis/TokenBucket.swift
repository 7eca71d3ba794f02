// A token bucket that all processes share, on Redis' clock. One number a key: the time at which the bucket will be
// full again (the “theoretical arrival time” of the generic cell rate algorithm), so nothing has to refill it.

/// What a bucket answered.
package struct TokenBucketAnswer: Sendable, Equatable {
    /// Whether the tokens were taken.
    package let allowed: Bool
    /// Whole tokens left.
    package let remaining: Int
    /// How long until the same take would be allowed; zero when it was.
    package let retryAfter: Duration
    /// How long until the bucket is full.
    package let resetAfter: Duration
}

/// Token buckets in Redis.
package struct TokenBucket: Sendable {
    /// One bucket and how much of it.
    package struct Take: Sendable {
        let key: String
        let ratePerSecond: Double
        let burst: Int
        let tokens: Int

        /// Takes `tokens` of the bucket `key`, which holds `burst` and gains `ratePerSecond`.
        ///
        /// More tokens than `burst` are never allowed.
        package init(key: String, ratePerSecond: Double, burst: Int, tokens: Int = 1) {
            self.key = key
            self.ratePerSecond = max(ratePerSecond, tokenRateMin)
            self.burst = max(burst, 1)
            self.tokens = max(tokens, 0)
        }
    }

    private let redis: Redis

    /// Buckets of this server.
    package init(_ redis: Redis) { self.redis = redis }

    /// Takes tokens of one bucket.
    package func take(
        key: String,
        ratePerSecond: Double,
        burst: Int,
        tokens: Int = 1
    ) async throws(RedisError) -> TokenBucketAnswer {
        let take = Take(key: key, ratePerSecond: ratePerSecond, burst: burst, tokens: tokens)
        guard let answer = try await self.take([take]).first else { throw .server("no answer of the bucket") }
        return answer
    }

    /// Takes of every bucket, or of none when one of them refuses; `allowed` then says which did.
    ///
    /// On a cluster the keys need one hash tag.
    package func take(_ takes: [Take]) async throws(RedisError) -> [TokenBucketAnswer] {
        var arguments: [RedisArgument] = []
        for take in takes {
            arguments.append(RedisArgument(1_000_000 / take.ratePerSecond))
            arguments.append(RedisArgument(take.burst))
            arguments.append(RedisArgument(take.tokens))
        }
        let reply = try await redis.run(Self.script, keys: takes.map(\.key), arguments: arguments)
        let numbers = (reply.array ?? []).compactMap(\.int)
        guard numbers.count == takes.count * 4 else {
            throw .server("malformed answer of \(Self.script.name)")
        }
        return takes.indices.map { index in
            let answer = numbers[(index * 4)..<(index * 4 + 4)].map { $0 }
            return TokenBucketAnswer(
                allowed: answer[0] == 1,
                remaining: answer[1],
                retryAfter: .microseconds(answer[2]),
                resetAfter: .microseconds(answer[3])
            )
        }
    }

    /// Times in microseconds.
    ///
    /// Half a microsecond of slack swallows the rounding of doubles at today's date.
    private static let script = Script(
        name: "token-bucket",
        source: """
            local time = redis.call('TIME')
            local now = time[1] * 1000000 + time[2]
            local after, answers, refused = {}, {}, false
            for i, key in ipairs(KEYS) do
                local interval, burst, tokens = ARGV[i*3-2] + 0, ARGV[i*3-1] + 0, ARGV[i*3] + 0
                local full = math.max(tonumber(redis.call('GET', key) or now), now)
                local wait = full + tokens * interval - now - burst * interval
                local allowed = wait <= 0.5
                if allowed then full = full + tokens * interval else refused = true end
                after[i] = full
                answers[#answers + 1] = allowed and 1 or 0
                answers[#answers + 1] = math.max(0, math.floor((burst * interval - (full - now) + 0.5) / interval))
                answers[#answers + 1] = allowed and 0 or math.ceil(wait)
                answers[#answers + 1] = math.ceil(full - now)
            end
            if not refused then
                for i, key in ipairs(KEYS) do
                    local life = math.ceil((after[i] - now) / 1000)
                    if life > 0 then redis.call('SET', key, string.format('%.2f', after[i]), 'PX', life) end
                end
            end
            return answers
            """
    )
}

/// The slowest rate, one token in about eleven days: keeps all times within what a double counts exactly.
let tokenRateMin = 1e-6
