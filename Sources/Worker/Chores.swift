// Periodic work without a leader: every worker asks at every tick, and PostgreSQL lets one have the turn.

import Database
import Logging
import Platform
import Queue
import ServiceLifecycle

/// Something done every so often by one worker of all.
struct Chore: Sendable {
    let name: String
    let interval: Duration
    let run: @Sendable () async throws -> Void
}

/// Runs chores when it is this process' turn.
struct Chores: Service {
    let chores: [Chore]
    let database: Database
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                for chore in chores {
                    group.addTask { await self.keepDoing(chore) }
                }
            }
        }
    }

    private func keepDoing(_ chore: Chore) async {
        var isFailing = false
        while !Task.isCancelled {
            do {
                if try await takeTurn(chore) { try await chore.run() }
                isFailing = false
            } catch is Schedule.NotStanding {
                // A processor sets it up as soon as it looks; there is nothing to do before.
            } catch {
                // Told once; the next turn tries again, here or elsewhere.
                if !isFailing, !Task.isCancelled {
                    logger.warning(
                        "A chore failed.",
                        metadata: ["chore": "\(chore.name)", "error": "\(error)"]
                    )
                }
                isFailing = true
            }
            try? await Task.sleep(for: chore.interval)  // ends early when cancelled, and so does the loop
        }
    }

    private func takeTurn(_ chore: Chore) async throws -> Bool {
        let interval = chore.interval.microseconds
        let rows = try await database.query(
            .worker,
            """
            INSERT INTO chores AS c (name, next_at) VALUES (\(chore.name), now() + \(interval) * interval '1 microsecond')
            ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at WHERE c.next_at <= now() + interval '20 ms'
            RETURNING name
            """
        )
        return !rows.isEmpty
    }
}
