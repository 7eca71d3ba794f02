// Who calls: the bearer key, looked up by its hash.

import DNS
import Hummingbird
import Platform
import Redis
import Store

extension Backend {
    /// The key's caller; 401 without a key, and with one that is unknown, revoked or expired.
    func authenticate(_ request: Request, from address: @autoclosure () -> IPAddress?) async throws -> Caller
    {
        guard let header = request.headers[.authorization] else { throw APIError.noKey }
        let parts = header.split(separator: " ", omittingEmptySubsequences: true)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { throw APIError.noKey }
        // Keys have one form; anything else is not worth a look-up.
        guard APIKey.isWellFormed(parts[1]) else { throw APIError.badKey }
        // From here on only the hash is looked at, so no comparison's time tells anything of a key.
        let hash = APIKey.hash(parts[1])
        let known = keys.look(hash)
        switch known.verdict {
        case .good(let caller): return caller
        case .wrong: throw APIError.badKey
        case .unknown(let wasGood):
            if !wasGood { try guesses.check(address()) }
        }
        guard let caller = try await store.caller(hash: hash) else {
            keys.rememberWrong(hash)
            guesses.failed(address())
            throw APIError.badKey
        }
        keys.remember(caller, hash, lookedAt: known.generation)
        return caller
    }

    /// Has every copy of the API forget a key, now that its end is committed.
    func forget(_ key: KeyID) async {
        keys.forget(key)
        // Where Redis is away nobody remembers keys; the rest is bounded by `KnownKeys.secondsMax`.
        _ = try? await redis.command("PUBLISH", RedisArgument(KeyChanges.channel), RedisArgument("\(key)"))
    }
}
