// A Redis that evicts keys would lose parts of the schedule at random, and nobody would notice: programs refuse it.

import Foundation
package import Logging
package import Redis

/// The refusal of a Redis that evicts.
package enum EvictingRedis {
    /// Ends the program with status 78 (`EX_CONFIG`) when the server may evict keys.
    ///
    /// One that is out of reach refuses no start: the programs do without it until it comes.
    package static func refuse(_ redis: Redis, logger: Logger) async {
        guard let policy = try? await redis.memoryPolicy(), policy != "noeviction" else { return }
        logger.critical(
            """
            REDIS_URL names a server with maxmemory-policy \(policy), which may throw parts of the queue away. Set it to \
            noeviction.
            """
        )
        await redis.close()
        exit(78)
    }
}
