// Wakes requests that wait for events: one question to the database for all of them, and none while nobody waits.

import HTTPTypes
import Logging
import Platform
import ServiceLifecycle
import Store
import Synchronization

/// Those who wait in this process, and what wakes them.
///
/// No database connection is held by one that waits.
final class EventBell: Sendable {
    /// Requests of one key that may wait at a time, and of all keys in this process.
    static let waitingOfKeyMax = 10
    static let waitingMax = 1_000
    /// How often the database is asked.
    static let interval = Duration.milliseconds(250)

    private struct Waiter {
        let org: OrgID
        /// Events of transactions before this one have been looked at.
        let since: Int64
        let deadline: ContinuousClock.Instant
        let done: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var waiters: [Int: Waiter] = [:]
        var admitted: [KeyID: Int] = [:]
        var total = 0
        var nextNumber = 0
        var isAsking = false
        /// Numbers that were given up before they came to wait.
        var givenUp: Set<Int> = []
    }

    private let store: Store
    private let logger: Logger
    private let state = Mutex(State())

    init(_ store: Store, logger: Logger) {
        self.store = store
        self.logger = logger
    }

    /// Lets a request of a key wait within `body`, or refuses it when too many do.
    func admit<Value: Sendable>(_ key: KeyID, _ body: () async throws -> Value) async throws -> Value {
        try state.withLock { state in
            guard state.admitted[key, default: 0] < Self.waitingOfKeyMax else {
                var error = APIError(
                    .tooManyRequests,
                    "At most \(Self.waitingOfKeyMax) requests of a key may wait for events at a time."
                )
                error.headers[.retryAfter] = "5"
                throw error
            }
            guard state.total < Self.waitingMax else { throw APIError.unavailable }
            state.admitted[key, default: 0] += 1
            state.total += 1
        }
        defer {
            state.withLock { state in
                let left = state.admitted[key, default: 1] - 1
                state.admitted[key] = left == 0 ? nil : left
                state.total -= 1
            }
        }
        return try await body()
    }

    /// Returns true when the organization has events of transactions from `since` on; false at the deadline, at
    /// shutdown, and when the request is given up.
    func wait(
        for org: OrgID,
        since: Int64,
        until deadline: ContinuousClock.Instant
    ) async -> Bool {
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber
        }
        defer { state.withLock { _ = $0.givenUp.remove(number) } }
        return await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await withCheckedContinuation { done in
                    enter(number, Waiter(org: org, since: since, deadline: deadline, done: done))
                }
            } onGracefulShutdown: {
                self.giveUp(number)
            }
        } onCancel: {
            giveUp(number)
        }
    }

    private func enter(_ number: Int, _ waiter: Waiter) {
        let (isGivenUp, isFirst) = state.withLock { state in
            if state.givenUp.remove(number) != nil { return (true, false) }
            state.waiters[number] = waiter
            defer { state.isAsking = true }
            return (false, !state.isAsking)
        }
        if isGivenUp { waiter.done.resume(returning: false) }
        // Unstructured because it outlives the request that starts it: it serves those that come meanwhile, and ends
        // with the last.
        if isFirst { Task { await self.ask() } }
    }

    private func giveUp(_ number: Int) {
        let waiter = state.withLock { state in
            let waiter = state.waiters.removeValue(forKey: number)
            // Before it waits: it must not begin to.
            if waiter == nil { state.givenUp.insert(number) }
            return waiter
        }
        waiter?.done.resume(returning: false)
    }

    private func ask() async {
        var isFailing = false
        while true {
            try? await Task.sleep(for: Self.interval)  // never cancelled
            expire()
            let since = state.withLock { state -> [OrgID: Int64] in
                if state.waiters.isEmpty { state.isAsking = false }
                return Dictionary(state.waiters.values.map { ($0.org, $0.since) }, uniquingKeysWith: min)
            }
            if since.isEmpty { return }
            do {
                ring(for: try await store.organizationsWithEvents(since: since))
                isFailing = false
            } catch {
                // Told once; those who wait go on until it answers, or their time is over.
                if !isFailing {
                    logger.warning("Events cannot be asked for.", metadata: ["error": "\(error)"])
                }
                isFailing = true
            }
        }
    }

    private func ring(for orgs: Set<OrgID>) {
        end(returning: true) { orgs.contains($0.org) }
    }

    private func expire() {
        let now = ContinuousClock.now
        end(returning: false) { $0.deadline <= now }
    }

    private func end(returning value: Bool, _ isOver: (Waiter) -> Bool) {
        let over = state.withLock { state in
            let over = state.waiters.filter { isOver($0.value) }
            for number in over.keys { state.waiters[number] = nil }
            return over.values.map(\.done)
        }
        for done in over { done.resume(returning: value) }
    }
}
