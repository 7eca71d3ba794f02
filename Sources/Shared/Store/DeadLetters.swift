// Jobs that an operator lets run again, drops or takes out: what their end wrote about the mail is undone, or written.
//
// A batch a transaction, so that a million of them hold no lock for long and show how far they are.

import Database
import Platform
package import Queue

extension Store {
    /// Dead letters or waiting jobs that one transaction changes at most.
    package static let jobsPerBatch = 1000

    /// Replays dead letters; `progress` is told after each batch how many run again so far.
    ///
    /// The burial of a `send` or a `validate-recipients` gave its recipients up, so they are opened again in the same transaction.
    package func replayDead(
        _ filter: DeadLetterFilter,
        progress: (Int) -> Void = { _ in }
    ) async throws -> Int {
        try await eachBatch(of: filter, progress) { transaction, dead in
            let replayed = try await transaction.query(Jobs.replay(dead)).map { try JobKey($0) }
            guard !replayed.isEmpty else { return 0 }
            try await transaction.query(
                """
                UPDATE recipients r SET state = 'queued', updated_at = now()
                FROM jobs j JOIN unnest(\(replayed.map(\.org))::uuid[], \(replayed.map(\.id))::uuid[]) AS w (org_id, id)
                    ON j.org_id = w.org_id AND j.id = w.id
                WHERE j.queue IN (\(QueueName.send), \(QueueName.validateRecipients)) AND r.org_id = j.org_id
                    AND r.message_id = (j.payload ->> 'message')::uuid
                    AND r.domain = j.payload ->> 'domain' AND r.state = 'failed'
                    AND (j.payload ->> 'recipient' IS NULL
                        OR r.ordinal = (j.payload ->> 'recipient')::smallint)
                """
            )
            return replayed.count
        }
    }

    /// Deletes dead letters; `progress` is told after each batch how many are gone so far.
    package func dropDead(
        _ filter: DeadLetterFilter,
        progress: (Int) -> Void = { _ in }
    ) async throws -> Int {
        try await eachBatch(of: filter, progress) { transaction, dead in
            try await transaction.query(Jobs.drop(dead)).count
        }
    }

    private func eachBatch(
        of filter: DeadLetterFilter,
        _ progress: (Int) -> Void,
        _ change: @Sendable (Transaction, [JobKey]) async throws -> Int
    ) async throws -> Int {
        var total = 0
        var cursor: DeadLetterCursor?
        while true {
            let start = cursor
            let (seen, changed, last) = try await database.transaction(.worker) { transaction in
                let rows = try await transaction.query(
                    Jobs.dead(filter, after: start, limit: Self.jobsPerBatch)
                )
                let dead = try rows.map { try JobKey($0) }
                let last = try rows.last.map { try DeadLetterCursor($0) }
                return (dead.count, dead.isEmpty ? 0 : try await change(transaction, dead), last)
            }
            total += changed
            if changed > 0 { progress(total) }
            guard filter.id == nil, seen == Self.jobsPerBatch, let last else { return total }
            cursor = last
        }
    }
}
