// What a kind of job is to the processor: an attempt that ends in a completion.

import Database
import Platform
import Queue
import Synchronization

/// The work of one queue.
protocol Work: Sendable {
    /// The queue whose jobs it runs.
    var queue: String { get }
    /// How long failed jobs wait.
    var backoff: Backoff { get }
    /// After this time an attempt is given up: its lease is no longer renewed, so that a hung one comes back.
    var deadline: Duration { get }

    /// Runs one attempt. What it throws counts as a failed try; `WorkFault` says more.
    func attempt(_ job: ClaimedJob, _ progress: Progress) async throws -> Completion

    /// What has to be written when a job ends as a dead letter, in the transaction that buries it.
    func burial(payload: String, org: OrgID, reason: String) async throws -> [Statement]
}

extension Work {
    func burial(payload: String, org: OrgID, reason: String) async throws -> [Statement] { [] }
}

/// How an attempt ended, and what is written in the transaction that says so.
struct Completion: Sendable {
    /// Rows that belong to the end of a job: written only if the job was still ours.
    enum Effects: Sendable {
        case statements([Statement])
        /// For effects that must read before they write; such a job ends in a transaction of its own.
        case transaction(@Sendable (Transaction) async throws -> Void)
    }

    let outcome: Outcome
    var effects: Effects = .statements([])
    /// Jobs that the effects insert, to be pushed after the commit.
    var tickets: [Ticket] = []
    /// It says that the effects of another completion were refused.
    var isRefusal = false

    /// Nothing is written but the end of the job.
    var hasNoEffects: Bool {
        if case .statements(let statements) = effects { statements.isEmpty } else { false }
    }
}

/// A failure that the processor must not answer with another try.
enum WorkFault: Error {
    /// The payload cannot be read; trying again cannot help.
    case undecodable(String)
    /// What the job is about can never be worked on; the sentence says why.
    case hopeless(String)
}

/// What an attempt tells the processor while it runs.
final class Progress: Sendable {
    private let irrevocable = Atomic<Bool>(false)

    /// From here on the effect may have happened, and handing the job back would do it twice.
    ///
    /// At shutdown such an attempt is left to its lease.
    func passPointOfNoReturn() { irrevocable.store(true, ordering: .releasing) }

    var isIrrevocable: Bool { irrevocable.load(ordering: .acquiring) }
}
