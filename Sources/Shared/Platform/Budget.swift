// Bounds what is under way at once: places, or bytes of memory. Whoever finds too little left waits in line.

import Synchronization

/// An amount that callers take from and give back; first come, first served.
package final class Budget: Sendable {
    private struct Waiter {
        let id: UInt64
        let amount: Int
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var left: Int
        var waiters: [Waiter] = []
        var lastID: UInt64 = 0
    }

    /// All there is to take.
    package let whole: Int
    private let state: Mutex<State>

    /// A budget of so much.
    package init(_ whole: Int) {
        self.whole = max(1, whole)
        state = Mutex(State(left: self.whole))
    }

    /// What nobody holds at the moment.
    package var left: Int { state.withLock { $0.left } }

    /// Takes an amount; false when it was not to be had within the time, or the task was cancelled.
    ///
    /// Whoever asks for more than there is gets all of it, alone.
    package func take(_ amount: Int, within limit: Duration) async -> Bool {
        let amount = min(amount, whole)
        let placed = state.withLock { state -> UInt64? in
            if state.waiters.isEmpty, state.left >= amount {
                state.left -= amount
                return nil
            }
            state.lastID += 1
            return state.lastID
        }
        guard let id = placed else { return true }
        guard limit > .zero else { return false }
        let alarm = Task { [weak self] in
            try? await Task.sleep(for: limit)  // ends early when the place was given
            self?.giveUp(id)
        }
        defer { alarm.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let ready = state.withLock { state in
                    state.waiters.append(Waiter(id: id, amount: amount, continuation: continuation))
                    return Self.takeReady(&state)
                }
                for waiter in ready { waiter.continuation.resume(returning: true) }
                // The cancellation may have come before there was anything to give up.
                if Task.isCancelled { giveUp(id) }
            }
        } onCancel: {
            giveUp(id)
        }
    }

    /// Gives back what was taken.
    package func give(_ amount: Int) {
        let ready = state.withLock { state in
            state.left = min(whole, state.left + min(amount, whole))
            return Self.takeReady(&state)
        }
        for waiter in ready { waiter.continuation.resume(returning: true) }
    }

    private func giveUp(_ id: UInt64) {
        let (gone, ready) = state.withLock { state -> (Waiter?, [Waiter]) in
            guard let index = state.waiters.firstIndex(where: { $0.id == id }) else { return (nil, []) }
            // Those behind may need less than the one that goes.
            return (state.waiters.remove(at: index), Self.takeReady(&state))
        }
        gone?.continuation.resume(returning: false)
        for waiter in ready { waiter.continuation.resume(returning: true) }
    }

    private static func takeReady(_ state: inout State) -> [Waiter] {
        var ready: [Waiter] = []
        while let first = state.waiters.first, first.amount <= state.left {
            state.left -= first.amount
            ready.append(state.waiters.removeFirst())
        }
        return ready
    }
}
