// The work of `validate-recipients`: whether a domain takes mail at all, asked with patience, for recipients of whom the
// send could not be told in time. Then their send jobs are made, or they have failed.
//
// One transaction ends the job and writes what follows, so it follows once. A DNS that stays silent rejects nobody: in
// the end the send finds out for itself, over days if it must.

import Database
import Logging
import Platform
import Queue
import Store
import Validation

struct ValidateRecipients: Work {
    let queue = QueueName.validateRecipients
    let deadline = Duration.seconds(30)
    let backoff = Backoff.steps([.seconds(2), .seconds(10), .seconds(30), .seconds(60)], jitter: 0.2)

    let store: Store
    let verdicts: DomainVerdicts
    let logger: Logger
    /// How long the DNS is waited for in a try.
    var patience = Duration.seconds(10)

    func attempt(_ job: ClaimedJob, _ progress: Progress) async throws -> Completion {
        let payload: ValidateRecipientsPayload
        do {
            payload = try job.decode(ValidateRecipientsPayload.self)
        } catch {
            throw WorkFault.undecodable("\(error)")
        }
        guard let recipients = try await store.unjudgedRecipients(payload, org: job.org) else {
            return Completion(outcome: .succeeded)  // deleted meanwhile: there is nobody to judge
        }
        let verdict = await verdicts.verdicts(on: [payload.domain], within: patience)[payload.domain]
        if Task.isCancelled { return Completion(outcome: .released) }
        if let reason = verdict?.rejection {
            logger.info(
                "Recipients were rejected before the send.",
                metadata: ["message.id": "\(payload.message)", "reason": "\(reason)"]
            )
            return Completion(outcome: .succeeded, effects: .statements(recipients.rejection(reason)))
        }
        if verdict != .takesMail, job.attempt < job.attemptsMax {
            var generator = SystemRandomNumberGenerator()
            return Completion(
                outcome: .retry(
                    after: backoff.delay(attempt: job.attempt, using: &generator),
                    error: "The DNS does not say whether the domain takes mail."
                )
            )
        }
        let jobs = try recipients.jobs()
        guard !jobs.isEmpty else { return Completion(outcome: .succeeded) }
        return Completion(
            outcome: .succeeded,
            effects: .statements([Jobs.insert(jobs)]),
            tickets: jobs.map(\.ticket)
        )
    }

    func burial(payload: String, org: OrgID, reason: String) async throws -> [Statement] {
        try await store.burial(of: queue, payload: payload, org: org, reason: reason)
    }
}
