// One call on its way to a connection. The caller leaves it at the first of: done, timed out waiting, cancelled.

import Synchronization

/// What a caller waits for.
final class Request: Sendable {
    enum Work: Sendable {
        /// Statements in one transaction and one round trip.
        case batch(Access, [Statement], timeout: Duration)
        /// SQL text of any number of statements, by the simple protocol and outside a transaction.
        case script(String, timeout: Duration)
        /// The connection itself, for an interactive transaction.
        case lease(Lease)
    }

    typealias Answer = Result<[Rows], DatabaseError>

    private enum Phase {
        case new
        case waiting(CheckedContinuation<Answer, Never>)
        case claimed
    }

    let work: Work
    /// Until when it may wait for a connection.
    let deadline: ContinuousClock.Instant
    private let phase = Mutex(Phase.new)

    init(_ work: Work, deadline: ContinuousClock.Instant) {
        self.work = work
        self.deadline = deadline
    }

    /// Waits for the answer; `submit` passes the request on once it can be answered.
    func answer(_ submit: () -> Void) async -> Answer {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let gone = phase.withLock { phase in
                    if case .claimed = phase { return true }
                    phase = .waiting(continuation)
                    return false
                }
                if gone {
                    continuation.resume(returning: .failure(.cancelled))
                } else {
                    submit()
                }
            }
        } onCancel: {
            refuse(.cancelled)
        }
    }

    var isWaiting: Bool {
        phase.withLock { if case .waiting = $0 { true } else { false } }
    }

    /// Takes the duty to answer; nil when somebody else has taken it.
    ///
    /// From here on cancelling has no effect.
    func claim() -> CheckedContinuation<Answer, Never>? {
        phase.withLock { phase in
            defer { phase = .claimed }
            guard case .waiting(let continuation) = phase else { return nil }
            return continuation
        }
    }

    /// Answers with an error, unless it is answered or running already.
    func refuse(_ error: DatabaseError) {
        claim()?.resume(returning: .failure(error))
    }
}
