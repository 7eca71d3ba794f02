// What a try means: each recipient's state, the next try, and what follows for their addresses.
//
// A value without clock, database or network; `SendMessage` gives it what it needs and writes what it says.

import Database
import Mail
import Platform
import Queue
import Store

/// The judgement on one try of a send job.
struct DeliveryFate: Sendable {
    let message: OutboundMessage
    let results: [DeliveryResult]
    /// All of it was put off on our side, without a word of the remote's.
    let isPaced: Bool
    private let outcomes: [(recipient: Recipient, outcome: RecipientOutcome)]

    /// Judges a try; `isLast` says that no other may follow.
    init(
        _ message: OutboundMessage,
        _ outcomes: [(recipient: Recipient, outcome: RecipientOutcome)],
        isLast: Bool,
        attempt: Int
    ) {
        self.message = message
        self.outcomes = outcomes
        // A worker that stops says nothing about the message, however old it is.
        isPaced =
            outcomes.allSatisfy(\.outcome.isPaced)
            && (!isLast || outcomes.allSatisfy { $0.outcome.retryAfter == nil })
        results = outcomes.map { recipient, outcome in
            DeliveryResult(
                recipient,
                state: Self.state(after: outcome, isLast: isLast),
                detail: isLast && outcome.isOpen
                    ? "Given up after \(attempt) tries. Last answer: \(outcome.detail)" : outcome.detail,
                remoteMX: outcome.remoteMX,
                tls: outcome.tls,
                transcript: outcome.transcript
            )
        }
    }

    /// Recipients to whom nothing is sent, in the words of their events.
    static func suppressed(_ recipients: [Recipient]) -> [DeliveryResult] {
        recipients.map {
            DeliveryResult(
                $0,
                state: .suppressed,
                detail: "The address was suppressed after the message was accepted."
            )
        }
    }

    /// Recipients that are given up without a try.
    static func failed(_ recipients: [Recipient], _ reason: String) -> [DeliveryResult] {
        recipients.map { DeliveryResult($0, state: .failed, detail: reason) }
    }

    /// How long a paced job waits, and why; nil when the worker stops.
    var pause: (after: Duration, reason: String)? {
        outcomes.compactMap(\.outcome.retryAfter).max().map { ($0, outcomes.first?.outcome.detail ?? "") }
    }

    /// What is still open, in the words of the last answer; nil when every recipient's fate is decided.
    var openReason: String? { results.first { $0.state.isOpen }?.detail }

    /// What follows for addresses (mail.md, "Fate"); none of it concerns other messages of this transaction.
    var suppressions: [Statement] {
        var hard: [(key: String, detail: String)] = []
        var soft: [(key: String, detail: String)] = []
        var forgiven: [String] = []
        for ((recipient, outcome), result) in zip(outcomes, results) {
            guard let key = recipient.key else { continue }
            switch result.state {
            case .delivered: if recipient.hasSoftBounces { forgiven.append(key) }
            case .bounced, .failed:
                switch outcome.consequence {
                case .suppressNow: hard.append((key, outcome.detail))
                case .soft: soft.append((key, outcome.detail))
                case .aboutUs, .other: break
                }
            default: break
            }
        }
        var statements: [Statement] = []
        if !hard.isEmpty {
            statements.append(
                Suppression.insert(
                    hard.map(\.key),
                    reason: .hardBounce,
                    details: hard.map(\.detail),
                    source: message.source,
                    org: message.org
                )
            )
        }
        if !soft.isEmpty {
            statements += Suppression.countSoftBounces(
                soft.map(\.key),
                details: soft.map(\.detail),
                source: message.source,
                org: message.org
            )
        }
        if !forgiven.isEmpty {
            statements += Suppression.forgiveSoftBounces(forgiven, message: message.id, org: message.org)
        }
        return statements
    }

    private static func state(after outcome: RecipientOutcome, isLast: Bool) -> Recipient.State {
        switch outcome.attempt {
        case .delivered: .delivered
        case .bounced: .bounced
        case .deferred where isLast: .failed
        case .deferred: outcome.isOutcomeUnknown ? .sent : .deferred
        }
    }
}

extension RecipientOutcome {
    /// Neither taken nor refused for good.
    fileprivate var isOpen: Bool {
        if case .deferred = attempt { true } else { false }
    }

    /// What the answer means for the address; nothing when it was given to the sender or the session.
    fileprivate var consequence: Bounce.Consequence {
        isAboutRecipient ? Bounce(attempt.reply).consequence : .other
    }
}
