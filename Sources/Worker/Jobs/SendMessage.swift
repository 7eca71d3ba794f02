// The work of `send`: one message to the recipients of one domain. Load, compose, hand over, record each one's fate.
//
// A recipient whose fate is recorded is not tried again; what was sent without a final answer is sent again, for a
// lost answer must not lose mail.

import Database
import Logging
import Mail
import Platform
import Queue
import Store

struct SendMessage: Work {
    let queue = QueueName.send
    let deadline = Duration.seconds(20 * 60)
    // mail.md, "Retries": 0, 2 m, 5 m, 15 m, 30 m, 1 h, 2 h, then every 4 h.
    let backoff = Backoff.steps(
        [
            .seconds(120), .seconds(300), .seconds(900), .seconds(1800), .seconds(3600), .seconds(7200),
            .seconds(14_400),
        ],
        jitter: 0.1
    )

    let store: Store
    let loader: MessageLoader
    let composer: MessageComposer
    var files: AttachedFiles
    let delivery: Delivery
    let logger: Logger
    /// How long a message is tried before we give up.
    var lifetime: Duration = .seconds(5 * 86_400)

    func attempt(_ job: ClaimedJob, _ progress: Progress) async throws -> Completion {
        let payload: SendPayload
        do {
            payload = try job.decode(SendPayload.self)
        } catch {
            throw WorkFault.undecodable("\(error)")
        }
        let loaded: OutboundMessage?
        do {
            loaded = try await loader.message(payload, org: job.org)
        } catch DatabaseError.decoding(let reason) {
            throw WorkFault.hopeless("The stored message cannot be read: \(reason)")
        }
        guard let message = loaded else {
            return Completion(outcome: .succeeded)  // deleted meanwhile: there is nothing to send
        }
        let open = message.recipients.filter(\.state.isOpen)
        let wanted = open.filter { !$0.isSuppressed }
        let suppressed = message.recordingFailure(DeliveryFate.suppressed(open.filter(\.isSuppressed)))
        guard !wanted.isEmpty else {
            return Completion(outcome: .succeeded, effects: .statements(suppressed))
        }
        do {
            let ended = try await files.with(filesOf: message) { files in
                let parcel = try await composer.parcel(
                    message,
                    with: files,
                    to: wanted,
                    domain: payload.domain
                )
                let outcomes = await delivery.attempt(parcel, onFinalDot: { progress.passPointOfNoReturn() })
                let fate = DeliveryFate(
                    message,
                    zip(wanted, outcomes).map { ($0, $1) },
                    // After the last attempt nothing would end these recipients' waiting any more.
                    isLast: Timestamp.now - message.createdAt > lifetime || job.attempt >= job.attemptsMax,
                    attempt: job.attempt
                )
                return completion(of: job, fate, suppressed)
            }
            let noRoom = Outcome.snooze(after: .seconds(5), reason: "Other attachments fill the memory.")
            return ended ?? Completion(outcome: noRoom, effects: .statements(suppressed))
        } catch let fault as MessageComposer.Unsendable {
            let failed = message.recordingFailure(DeliveryFate.failed(wanted, fault.reason))
            return Completion(outcome: .succeeded, effects: .statements(suppressed + failed))
        }
    }

    func burial(payload: String, org: OrgID, reason: String) async throws -> [Statement] {
        try await store.burial(of: queue, payload: payload, org: org, reason: reason)
    }

    private func completion(
        of job: ClaimedJob,
        _ fate: DeliveryFate,
        _ suppressed: [Statement]
    ) -> Completion {
        if fate.isPaced {
            // Without a time to wait for, it is this worker that stops: another one may take the job at once.
            let outcome = fate.pause.map { Outcome.snooze(after: $0.after, reason: $0.reason) } ?? .released
            return Completion(outcome: outcome, effects: .statements(suppressed))
        }
        log(fate)
        var generator = SystemRandomNumberGenerator()
        let outcome: Outcome =
            if let reason = fate.openReason {
                .retry(after: backoff.delay(attempt: job.attempt, using: &generator), error: reason)
            } else {
                .succeeded
            }
        let statements = suppressed + fate.message.recording(fate.results)
        let following = fate.suppressions
        guard !following.isEmpty else {
            return Completion(outcome: outcome, effects: .statements(statements))
        }
        // Rows that other jobs write too: in a transaction with others, two workers could wait for each other.
        return Completion(
            outcome: outcome,
            effects: .transaction { transaction in
                try await transaction.batch(statements + following)
            }
        )
    }

    private func log(_ fate: DeliveryFate) {
        for result in fate.results {
            logger.info(
                "A delivery was tried.",
                metadata: [
                    "message.id": "\(fate.message.id)", "recipient": "\(result.ordinal)",
                    "state": "\(result.state.rawValue)",
                    "mx": "\(result.remoteMX ?? "-")",
                ]
            )
        }
    }
}
