// A connection lent to one interactive transaction: its owner thread serves this mailbox until the end.

import Synchronization

/// The mailbox of a lent connection.
final class Lease: Sendable {
    enum Act: Sendable {
        /// Statements inside the transaction, which begins with the first of them.
        case exchange([Statement])
        case script(String)
        case commit
        case rollback
    }

    struct Errand: Sendable {
        let act: Act
        let continuation: CheckedContinuation<Request.Answer, Never>
    }

    private struct State {
        var errands: [Errand] = []
        var bell: Bell?
        var ended = false
    }

    let access: Access
    let timeout: Duration
    private let state = Mutex(State())

    init(access: Access, timeout: Duration) {
        self.access = access
        self.timeout = timeout
    }

    /// Called by the owner thread before it tells the borrower.
    func attach(_ bell: Bell) {
        state.withLock { $0.bell = bell }
    }

    /// Has the owner thread do something; errands of several tasks are done one after the other.
    func perform(_ act: Act) async -> Request.Answer {
        await withCheckedContinuation { continuation in
            let bell: Bell? = state.withLock { state in
                guard !state.ended else { return nil }
                switch act {
                case .commit, .rollback: state.ended = true
                case .exchange, .script: break
                }
                state.errands.append(Errand(act: act, continuation: continuation))
                return state.bell
            }
            if let bell {
                bell.ring()
            } else {
                continuation.resume(
                    returning: .failure(.failed(sqlstate: "25P01", message: "the transaction is over"))
                )
            }
        }
    }

    /// The next errand, for the owner thread.
    func next() -> Errand? {
        state.withLock { $0.errands.isEmpty ? nil : $0.errands.removeFirst() }
    }
}
