// Dead letters that are let run again: what their end wrote about the mail is undone with it.

import Database
package import Platform
import Queue

extension Store {
    /// Replays one dead letter of a queue, or all; returns how many.
    ///
    /// The burial of a `send` gave its recipients up, so they are opened again in the same transaction.
    package func replayDead(_ queue: String, _ id: JobID?) async throws -> Int {
        let reopen: Statement = """
            UPDATE recipients r SET state = 'queued', updated_at = now() FROM jobs j
            WHERE j.queue = \(QueueName.send) AND j.queue = \(queue) AND j.state = 'dead'
                AND (\(id)::uuid IS NULL OR j.id = \(id))
                AND r.org_id = j.org_id AND r.message_id = (j.payload ->> 'message')::uuid
                AND r.domain = j.payload ->> 'domain' AND r.state = 'failed'
                AND (j.payload ->> 'recipient' IS NULL OR r.ordinal = (j.payload ->> 'recipient')::smallint)
            """
        return try await database.batch(.worker, [reopen, Jobs.replay(queue, id)])[1].count
    }
}
