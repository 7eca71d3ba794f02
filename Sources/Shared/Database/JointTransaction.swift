// One transaction for several calls that know nothing of it: what a request does, and the answer that is kept of it.

import Platform
import Synchronization

/// A transaction that begins with the first of its calls.
final class JointTransaction: Sendable {
    private enum Phase {
        case notBegun
        /// Calls that came while the first one begins it.
        case beginning([CheckedContinuation<Void, Never>])
        case begun(Lease)
        case failed(DatabaseError)
    }

    private struct State {
        var phase = Phase.notBegun
        var refusal: (any Error)?
    }

    private static let savepoint: Statement = "SAVEPOINT call"
    private static let release: Statement = "RELEASE SAVEPOINT call"
    private static let undo: [Statement] = ["ROLLBACK TO SAVEPOINT call", "RELEASE SAVEPOINT call"]

    private let access: Access
    private let opening: @Sendable (Transaction) async throws -> Void
    private let borrow: @Sendable () async throws(DatabaseError) -> Lease
    private let state = Mutex(State())

    init(
        _ access: Access,
        _ opening: @escaping @Sendable (Transaction) async throws -> Void,
        borrow: @escaping @Sendable () async throws(DatabaseError) -> Lease
    ) {
        self.access = access
        self.opening = opening
        self.borrow = borrow
    }

    var hasBegun: Bool {
        state.withLock { if case .begun = $0.phase { true } else { false } }
    }

    /// Why `opening` did not let it begin; its callers saw `.cancelled`.
    var refusal: (any Error)? { state.withLock { $0.refusal } }

    /// Runs statements in it; their error undoes them alone.
    func batch(_ access: Access, _ statements: [Statement]) async throws(DatabaseError) -> [Rows] {
        guard !Task.isCancelled else { throw .cancelled }
        let lease = try await lease()
        guard !statements.isEmpty else { return [] }
        let (before, after) = speaking(as: access, lease)
        let all = [Self.savepoint] + before + statements + after + [Self.release]
        do throws(DatabaseError) {
            let results = try await lease.perform(.exchange(all)).get()
            return Array(results.dropFirst(1 + before.count).prefix(statements.count))
        } catch {
            // Where this fails too, the transaction is lost, and the next call or the commit says so.
            _ = await lease.perform(.exchange(Self.undo))
            throw error
        }
    }

    /// Runs `body` in it; its error undoes what it did alone.
    func transaction<Value: Sendable>(
        _ access: Access,
        _ body: (Transaction) async throws -> Value
    ) async throws -> Value {
        let lease = try await lease()
        let (before, after) = speaking(as: access, lease)
        do {
            _ = try await lease.perform(.exchange([Self.savepoint] + before)).get()
            let value = try await body(Transaction(lease: lease))
            guard !Task.isCancelled else { throw DatabaseError.cancelled }
            _ = try await lease.perform(.exchange(after + [Self.release])).get()
            return value
        } catch {
            _ = await lease.perform(.exchange(Self.undo))  // as above
            throw error
        }
    }

    func commit() async throws(DatabaseError) {
        _ = try await lease().perform(.commit).get()
    }

    func rollback() async {
        let lease: Lease? = state.withLock { state in
            defer { state.phase = .failed(.cancelled) }
            if case .begun(let lease) = state.phase { return lease }
            return nil
        }
        _ = await lease?.perform(.rollback)
    }

    /// What makes a call speak as somebody else, and what ends that; PostgreSQL undoes it with the savepoint.
    private func speaking(as other: Access, _ lease: Lease) -> (before: [Statement], after: [Statement]) {
        guard other != access else { return ([], []) }
        return ([other.opening(timeout: lease.timeout)], [access.opening(timeout: lease.timeout)])
    }

    /// The connection on which it stands; the first call begins it, and others wait for that.
    private func lease() async throws(DatabaseError) -> Lease {
        while true {
            let isFirst = state.withLock { state in
                guard case .notBegun = state.phase else { return false }
                state.phase = .beginning([])
                return true
            }
            if isFirst { await begin() }
            switch state.withLock({ $0.phase }) {
            case .begun(let lease): return lease
            case .failed(let error): throw error
            case .notBegun, .beginning: await beginningEnds()
            }
        }
    }

    private func begin() async {
        let phase: Phase
        do throws(DatabaseError) {
            let lease = try await borrow()
            do {
                try await opening(Transaction(lease: lease))
                phase = .begun(lease)
            } catch {
                _ = await lease.perform(.rollback)
                state.withLock { $0.refusal = error }
                phase = .failed(.cancelled)
            }
        } catch {
            phase = .failed(error)
        }
        let waiting: [CheckedContinuation<Void, Never>] = state.withLock { state in
            defer { state.phase = phase }
            if case .beginning(let waiting) = state.phase { return waiting }
            return []
        }
        for continuation in waiting { continuation.resume() }
    }

    private func beginningEnds() async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                guard case .beginning(let waiting) = state.phase else { return true }
                state.phase = .beginning(waiting + [continuation])
                return false
            }
            if isOver { continuation.resume() }
        }
    }
}
