// Jobs that end without being run: buried as dead letters, or cancelled by an operator before they ran.

package import Database
import Foundation
import Mail
package import Platform
package import Queue

extension Store {
    /// What has to be written about the mail when a job ends without having done its work.
    ///
    /// Of a `send` or a `validate-recipients`, the recipients that nobody has decided about yet have failed. Other kinds
    /// leave nothing open.
    package func burial(
        of queue: String,
        payload: String,
        org: OrgID,
        reason: String
    ) async throws -> [Statement] {
        guard queue == QueueName.send || queue == QueueName.validateRecipients else { return [] }
        // Both name their recipients alike. Where it cannot be read nobody knows whose end this is; the job's error says
        // so. The message itself is not read: that may be what it died of.
        guard let payload = try? JSONDecoder().decode(SendPayload.self, from: Data(payload.utf8)),
            let message = try await addressedMessage(payload, org: org)
        else { return [] }
        return message.givingUp(reason)
    }

    /// Cancels jobs that wait, with what that means for their mail, in one transaction.
    ///
    /// Returns those that were waiting; one that a worker claimed meanwhile is left alone.
    package func cancel(_ jobs: [JobKey], queue: String, reason: String) async throws -> [JobKey] {
        try await database.transaction(.worker) { transaction in
            try await end(jobs, queue: queue, reason: reason, transaction)
        }
    }

    /// Cancels all jobs of one organization that wait now; `batch` is told of each batch that is.
    package func cancelWaiting(
        of org: OrgID,
        queue: String,
        reason: String,
        batch: ([JobKey]) async throws -> Void
    ) async throws -> Int {
        let rows = try await database.query(.worker, "SELECT clock_timestamp() AS now")
        guard let row = rows.first else { return 0 }
        let begun: Timestamp = try row("now")
        var total = 0
        while true {
            let cancelled = try await database.transaction(.worker) { transaction in
                let waiting = try await transaction.query(
                    Jobs.waiting(queue: queue, org: org, until: begun, limit: Self.cancelledPerBatch)
                ).map { try JobKey($0) }
                return try await end(waiting, queue: queue, reason: reason, transaction)
            }
            if cancelled.isEmpty { return total }
            total += cancelled.count
            try await batch(cancelled)
        }
    }

    // Fewer than dead letters, because each reads the message it belongs to.
    private static let cancelledPerBatch = 200

    private func end(
        _ jobs: [JobKey],
        queue: String,
        reason: String,
        _ transaction: Transaction
    ) async throws -> [JobKey] {
        guard !jobs.isEmpty else { return [] }
        let rows = try await transaction.query(Jobs.cancel(jobs, reason: reason))
        var statements: [Statement] = []
        for row in rows {
            statements += try await burial(
                of: queue,
                payload: try row("payload"),
                org: try row("org_id"),
                reason: reason
            )
        }
        if !statements.isEmpty { try await transaction.batch(statements) }
        return try rows.map { try JobKey($0) }
    }
}
