// Reads the messages of send jobs, those of many jobs in one round trip: the first to come reads for all that come
// while it does.

import Database
import Platform
import Store
import Synchronization

/// Loads messages for attempts that begin at about the same time.
final class MessageLoader: Sendable {
    /// So few, since each may hold ten megabytes.
    private static let batchMax = 20

    private struct Waiting {
        let payload: SendPayload
        let org: OrgID
        let done: CheckedContinuation<OutboundMessage?, any Error>
    }

    private struct State {
        var waiting: [Waiting] = []
        var isReading = false
    }

    private let store: Store
    private let state = Mutex(State())

    init(_ store: Store) { self.store = store }

    /// The message of a send job; nil when it was deleted meanwhile.
    func message(_ payload: SendPayload, org: OrgID) async throws -> OutboundMessage? {
        try await withCheckedThrowingContinuation { done in
            let shouldRead = state.withLock { state in
                state.waiting.append(Waiting(payload: payload, org: org, done: done))
                defer { state.isReading = true }
                return !state.isReading
            }
            // Unstructured because it outlives the attempt that starts it: it serves those that come meanwhile.
            if shouldRead { Task { await self.readWaiting() } }
        }
    }

    private func readWaiting() async {
        while true {
            let batch = state.withLock { state -> [Waiting] in
                let batch = Array(state.waiting.prefix(Self.batchMax))
                state.waiting.removeFirst(batch.count)
                if batch.isEmpty { state.isReading = false }
                return batch
            }
            if batch.isEmpty { return }
            do throws(DatabaseError) {
                let messages = try await store.outboundMessages(batch.map { ($0.payload, $0.org) })
                for (waiting, message) in zip(batch, messages) { waiting.done.resume(with: message) }
            } catch {
                for waiting in batch { waiting.done.resume(throwing: error) }
            }
        }
    }
}
