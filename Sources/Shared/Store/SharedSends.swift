// Sends of one organization that come at the same moment share a transaction, and with it its round trips, its
// statements and its wait for the disk. Each is still all or nothing, and durable before it is answered.

import Database
import Mail
import Platform
import Queue

/// The convoy of sends through one door to the database.
final class SharedSends: Sendable {
    private let database: Database
    private let convoy: Convoy<OrgID, Submission, AcceptedSubmission>

    /// Sends through the store's own door.
    init(_ store: Store) {
        database = store.database
        convoy = Convoy { org, submissions in await store.acceptTogether(submissions, org: org) }
    }

    /// Whether it goes through this very door: one that shows less, or is in a transaction already, is not for sharing.
    func serve(_ database: Database) -> Bool { database === self.database }

    /// Writes a submission together with those that come at the same moment.
    func accept(_ submission: Submission, org: OrgID) async throws -> AcceptedSubmission {
        let bytes = (submission.text?.utf8.count ?? 0) + (submission.html?.utf8.count ?? 0)
        return try await convoy.go(org, submission, weight: bytes)
    }
}

extension Store {
    /// Writes submissions of one organization, none an answer, in one transaction; what is wrong with one of them is its
    /// own affair.
    func acceptTogether(
        _ submissions: [Submission],
        org: OrgID
    ) async -> [Result<AcceptedSubmission, any Error>] {
        guard submissions.count > 1 else { return await acceptApart(submissions, org: org) }
        do {
            let messages = try await messages(of: submissions, org: org)
            let valid = messages.compactMap { try? $0.get() }
            if !valid.isEmpty {
                try await database.batch(
                    .tenant(org),
                    NewMessage.statements(valid.map(\.message), org) + [Jobs.insert(valid.flatMap(\.jobs))]
                )
            }
            return messages.map { message in message.map { $0.message.accepted($0.jobs) } }
        } catch DatabaseError.unique, DatabaseError.constraint, DatabaseError.failed, DatabaseError.decoding {
            // One of them is refused. The others must not suffer from it, and nothing was written.
            return await acceptApart(submissions, org: org)
        } catch {
            return submissions.map { _ in .failure(error) }
        }
    }

    private func acceptApart(
        _ submissions: [Submission],
        org: OrgID
    ) async -> [Result<AcceptedSubmission, any Error>] {
        var answers: [Result<AcceptedSubmission, any Error>] = []
        for submission in submissions {
            do {
                answers.append(.success(try await acceptAlone(submission, org: org)))
            } catch {
                answers.append(.failure(error))
            }
        }
        return answers
    }

    /// The rows to write, or why a submission cannot be sent; each inbox is looked up once.
    private func messages(
        of submissions: [Submission],
        org: OrgID
    ) async throws -> [Result<(message: NewMessage, jobs: [NewJob]), any Error>] {
        var places: [SenderKey: Int] = [:]
        var lookups: [Statement] = []
        for submission in submissions where places[SenderKey(submission)] == nil {
            guard let statement = try? senderStatement(submission, org) else { continue }
            places[SenderKey(submission)] = lookups.count
            lookups.append(statement)
        }
        let keys = Set(submissions.flatMap { $0.recipients.map(\.mailbox.address.key) })
        let found = try await database.batch(
            .tenant(org),
            lookups + [Suppression.active(Array(keys), org: org)]
        )
        let suppressions = try Suppression.reasons(found[lookups.count])
        return submissions.map { submission in
            Result {
                // Throws for one that names no sender; the others have their place.
                _ = try senderStatement(submission, org)
                let rows = places[SenderKey(submission)].map { found[$0] } ?? Rows()
                let message = try NewMessage(
                    submission,
                    from: try sender(rows, of: submission),
                    org: org,
                    answering: nil,
                    suppressed: suppressions,
                    secrets: secrets
                )
                return (message, try message.jobs(org))
            }
        }
    }

    /// By what a submission names its inbox.
    private struct SenderKey: Hashable {
        let address: String?
        let inbox: InboxID?

        init(_ submission: Submission) {
            address = submission.from?.address.key
            inbox = submission.from == nil ? submission.inbox : nil
        }
    }
}
