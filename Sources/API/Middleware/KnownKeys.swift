// Keys that were looked up a moment ago, by their hash: most requests need no look-up in PostgreSQL.
//
// A revoked key must stop at once. So keys are remembered only while this process hears of changes over Redis, every
// change is forgotten as soon as it is heard of, and nothing is believed for longer than `secondsMax`.

import Hummingbird
import Logging
import Platform
import Redis
import ServiceLifecycle
import Store
import Synchronization

/// Callers by the hash of their key, for a few seconds.
final class KnownKeys: Sendable {
    /// How long a key may go on working that was ended while Redis lost the word.
    static let secondsMax = 5

    enum Verdict: Sendable {
        case good(Caller)
        case wrong
        /// To be looked up; `wasGood` when it was right before, lately.
        case unknown(wasGood: Bool)
    }

    private struct State {
        var callers: Generations<(caller: Caller, until: ContinuousClock.Instant)>
        var wrong: Generations<ContinuousClock.Instant>
        var wereGood: Generations<KeyID>
        var isListening = false
        /// Grows with every change, so that what was looked up before it is not remembered after it.
        var generation = 0
    }

    private let state: Mutex<State>

    /// Remembers at most about `keysMax` keys of each kind.
    init(keysMax: Int = 10_000) {
        state = Mutex(
            State(callers: .init(keysMax), wrong: .init(keysMax), wereGood: .init(keysMax))
        )
    }

    /// What is known of a key; `generation` is for `remember`.
    func look(
        _ hash: [UInt8],
        at now: ContinuousClock.Instant = .now
    ) -> (verdict: Verdict, generation: Int) {
        state.withLock { state in
            if let known = state.callers[hash], known.until > now {
                // The key's own end is by the wall clock.
                if known.caller.expiresAt.map({ $0 > .now }) ?? true {
                    return (.good(known.caller), state.generation)
                }
            }
            if let until = state.wrong[hash], until > now { return (.wrong, state.generation) }
            return (.unknown(wasGood: state.wereGood[hash] != nil), state.generation)
        }
    }

    /// Remembers a caller that was looked up when `look` gave this generation.
    func remember(
        _ caller: Caller,
        _ hash: [UInt8],
        lookedAt generation: Int,
        at now: ContinuousClock.Instant = .now
    ) {
        state.withLock { state in
            state.wereGood[hash] = caller.key
            guard state.isListening, state.generation == generation else { return }
            state.callers[hash] = (caller, now + .seconds(Self.secondsMax))
        }
    }

    /// Remembers that a key is nobody's; it cannot become somebody's, for keys are made of chance.
    func rememberWrong(_ hash: [UInt8], at now: ContinuousClock.Instant = .now) {
        state.withLock { $0.wrong[hash] = now + .seconds(Self.secondsMax) }
    }

    /// Forgets a key that has changed.
    func forget(_ key: KeyID) {
        state.withLock { state in
            state.generation += 1
            state.callers.removeAll { $0.caller.key == key }
            state.wereGood.removeAll { $0 == key }
        }
    }

    /// Whether changes are heard of; from silence on nothing is believed, for a change may have been missed.
    func listening(_ isListening: Bool) {
        state.withLock { state in
            state.generation += 1
            state.callers.removeAll { _ in true }
            state.isListening = isListening
        }
    }
}

/// Values by hash, bounded: when the newer half is full the older half is dropped.
private struct Generations<Value> {
    private let halfMax: Int
    private var young: [[UInt8]: Value] = [:]
    private var old: [[UInt8]: Value] = [:]

    init(_ max: Int) { halfMax = Swift.max(max / 2, 1) }

    subscript(hash: [UInt8]) -> Value? {
        get { young[hash] ?? old[hash] }
        set {
            old[hash] = nil
            if newValue != nil, young[hash] == nil, young.count >= halfMax {
                old = young
                young = [:]
            }
            young[hash] = newValue
        }
    }

    mutating func removeAll(where isGone: (Value) -> Bool) {
        young = young.filter { !isGone($0.value) }
        old = old.filter { !isGone($0.value) }
    }
}

/// Hears of keys that have changed, from other copies and from the operator's command.
struct KeyChanges: Service {
    static let channel = KeyChannel.name

    let keys: KnownKeys
    let redis: Redis

    func run() async throws {
        await cancelWhenGracefulShutdown {
            for await event in redis.subscribe([Self.channel]) {
                switch event {
                case .subscribed: keys.listening(true)
                case .lost: keys.listening(false)
                case .message(_, let payload):
                    if let key = KeyID(String(decoding: payload, as: UTF8.self)) { keys.forget(key) }
                }
            }
            keys.listening(false)
        }
    }
}
