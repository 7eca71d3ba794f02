// The work of `send`: one message to the recipients of one domain. Compose, sign, hand over, record each one's fate.
//
// Composing is deterministic, so every try sends the same bytes under the same Message-ID. A recipient whose fate is
// recorded is not tried again; what was sent without a final answer is sent again, for a lost answer must not lose mail.

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
    let signers: SignerCache
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
        guard let message = try await store.outboundMessage(payload, org: job.org) else {
            return Completion(outcome: .succeeded)  // deleted meanwhile: there is nothing to send
        }
        let open = message.recipients.filter(\.state.isOpen)
        guard !open.isEmpty else { return Completion(outcome: .succeeded) }
        let parcel: Parcel
        do {
            parcel = try await self.parcel(message, to: open, domain: payload.domain)
        } catch let fault as Unsendable {
            return Completion(
                outcome: .succeeded,
                effects: .statements(message.recordingFailure(fail(open, fault.reason)))
            )
        }
        let outcomes = await delivery.attempt(parcel, onFinalDot: { progress.passPointOfNoReturn() })
        return completion(of: job, message, zip(open, outcomes).map { ($0, $1) })
    }

    func burial(payload: String, org: OrgID, reason: String) async throws -> [Statement] {
        try await store.burial(of: queue, payload: payload, org: org, reason: reason)
    }

    // MARK: Composing

    /// A message that no try can send.
    private struct Unsendable: Error {
        let reason: String
    }

    private func parcel(
        _ message: OutboundMessage,
        to open: [Recipient],
        domain: String
    ) async throws -> Parcel {
        let composition = message.composition
        let draft = Draft(
            from: composition.from,
            to: composition.to,
            cc: composition.cc,
            replyTo: composition.replyTo,
            subject: message.subject,
            text: composition.text ?? message.html.map(HTMLText.text(from:)),
            html: message.html,
            headers: composition.headers,
            messageID: message.rfcMessageID,
            date: message.createdAt.date,
            inReplyTo: composition.inReplyTo,
            references: composition.references,
            attachments: [],
            boundarySeed: message.id.description
        )
        let body = draft.compose()
        guard
            let signers = try await signers.signers(domain: composition.from.address.domain, org: message.org)
        else {
            throw Unsendable(reason: "The sending domain has no signing keys any more.")
        }
        let signature = try DKIM.sign(body, signers: signers, at: message.createdAt.date)
        return Parcel(
            sender: composition.from.address.description,
            recipients: try open.map { try EmailAddress($0.address) },
            domain: domain,
            message: signature + body,
            needsSMTPUTF8: draft.needsSMTPUTF8
        )
    }

    // MARK: Fate

    private func completion(
        of job: ClaimedJob,
        _ message: OutboundMessage,
        _ outcomes: [(recipient: Recipient, outcome: RecipientOutcome)]
    ) -> Completion {
        if outcomes.allSatisfy(\.outcome.isPaced) {
            // Without a time to wait for, it is this worker that stops: another one may take the job at once.
            guard let wait = outcomes.compactMap(\.outcome.retryAfter).max() else {
                return Completion(outcome: .released)
            }
            return Completion(outcome: .snooze(after: wait, reason: outcomes.first?.outcome.detail ?? ""))
        }
        // After the last attempt nothing would end these recipients' waiting any more.
        let isExpired = Timestamp.now - message.createdAt > lifetime || job.attempt >= job.attemptsMax
        let results = outcomes.map { recipient, outcome in
            DeliveryResult(
                recipient,
                state: state(after: outcome, isExpired: isExpired),
                detail: isExpired
                    ? "Given up after \(job.attempt) tries. Last answer: \(outcome.detail)"
                    : outcome.detail,
                remoteMX: outcome.remoteMX,
                tls: outcome.tls
            )
        }
        for result in results {
            logger.info(
                "A delivery was tried.",
                metadata: [
                    "message.id": "\(message.id)", "recipient": "\(result.ordinal)",
                    "state": "\(result.state.rawValue)",
                    "mx": "\(result.remoteMX ?? "-")",
                ]
            )
        }
        var generator = SystemRandomNumberGenerator()
        let isOpen = results.contains { $0.state.isOpen }
        return Completion(
            outcome: isOpen
                ? .retry(
                    after: backoff.delay(attempt: job.attempt, using: &generator),
                    error: results.first { $0.state.isOpen }?.detail ?? ""
                ) : .succeeded,
            effects: .statements(message.recording(results))
        )
    }

    private func state(after outcome: RecipientOutcome, isExpired: Bool) -> Recipient.State {
        switch outcome.attempt {
        case .delivered: .delivered
        case .bounced: .bounced
        case .deferred where isExpired: .failed
        case .deferred: outcome.isOutcomeUnknown ? .sent : .deferred
        }
    }

    private func fail(_ recipients: [Recipient], _ reason: String) -> [DeliveryResult] {
        recipients.map { DeliveryResult($0, state: .failed, detail: reason) }
    }
}
