// Calls that come while others are under way and go on together: one transaction for many requests.
//
// Nobody waits for company. A call that finds room goes at once, alone if need be; those that come while all places
// are taken leave with the next one that is free. So a lone request is as fast as before, and load makes the groups.

import Synchronization

/// Carries items of one key together.
final class Convoy<Key: Hashable & Sendable, Item: Sendable, Value: Sendable>: Sendable {
    typealias Answer = Result<Value, any Error>

    /// How much goes together, and how often.
    struct Limits {
        /// Groups of one key under way at a time.
        var groupsOfKey = 2
        /// Groups under way at a time.
        var groups = 8
        /// Items of a group.
        var items = 64
        /// Sum of the items' weights in a group, unless one alone is heavier.
        var weight = 1 << 20
    }

    private struct Waiting {
        let key: Key
        let item: Item
        let weight: Int
        let answer: CheckedContinuation<Answer, Never>
    }

    private struct State {
        var waiting: [Waiting] = []
        var underWay: [Key: Int] = [:]
        var groups = 0
    }

    private let limits: Limits
    private let run: @Sendable (Key, [Item]) async -> [Answer]
    private let state = Mutex(State())

    /// `run` takes the items of one group and answers each, in order.
    init(_ limits: Limits = Limits(), run: @escaping @Sendable (Key, [Item]) async -> [Answer]) {
        self.limits = limits
        self.run = run
    }

    /// Goes with the next group of this key and returns its answer.
    func go(_ key: Key, _ item: Item, weight: Int) async throws -> Value {
        try await withCheckedContinuation { answer in
            let group = state.withLock { state in
                state.waiting.append(Waiting(key: key, item: item, weight: weight, answer: answer))
                return nextGroup(&state)
            }
            // Unstructured because it serves those that come after this call as well.
            if let group { Task { await self.carry(group) } }
        }.get()
    }

    /// Items that wait for a place.
    var waitingCount: Int { state.withLock { $0.waiting.count } }

    private func carry(_ first: [Waiting]) async {
        var group = first
        while true {
            let answers = await run(group[0].key, group.map(\.item))
            for (waiting, answer) in zip(group, answers) { waiting.answer.resume(returning: answer) }
            let next = state.withLock { state in
                end(group[0].key, &state)
                return nextGroup(&state)
            }
            guard let next else { return }
            group = next
        }
    }

    /// The items that go now: of the first key in the line that has a place free.
    private func nextGroup(_ state: inout State) -> [Waiting]? {
        guard state.groups < limits.groups else { return nil }
        let free = state.waiting.first { state.underWay[$0.key, default: 0] < limits.groupsOfKey }
        guard let key = free?.key else { return nil }
        var group: [Waiting] = []
        var left: [Waiting] = []
        var weight = 0
        for waiting in state.waiting {
            let isTaken =
                waiting.key == key && group.count < limits.items
                && (group.isEmpty || weight + waiting.weight <= limits.weight)
            if isTaken {
                group.append(waiting)
                weight += waiting.weight
            } else {
                left.append(waiting)
            }
        }
        state.waiting = left
        state.underWay[key, default: 0] += 1
        state.groups += 1
        return group
    }

    private func end(_ key: Key, _ state: inout State) {
        state.groups -= 1
        let left = state.underWay[key, default: 1] - 1
        state.underWay[key] = left == 0 ? nil : left
    }
}
