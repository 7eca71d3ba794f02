// Who gets a connection. Calls are served first come, first served: an owner thread that ends one call takes the
// next itself, without a detour over Swift's threads.

import Foundation
import Logging
import Metrics
import Platform
import Synchronization

/// The waiting calls, the owner threads, and what is known of an outage.
final class Pool: Sendable {
    /// What an owner thread does next.
    enum Next {
        case serve(Request)
        case wait
        case stop
    }

    private struct State {
        var waiting = WaitingLine()
        /// The last one is the one used last: its backend's caches are warm.
        var idle: [Owner] = []
        var owners: [Owner] = []
        /// Requests whose owner is opening a connection.
        var connecting: [Request] = []
        var outage: Outage?
        var isClosing = false
        var keeperSleeps = true
        var keeperRuns = false
        var closeWaiters: [CheckedContinuation<Void, Never>] = []
        var closeDeadline: ContinuousClock.Instant?
    }

    private let configuration: Database.Configuration
    private let logger: Logger
    private let state = Mutex(State())
    private let keeperBell = Bell()
    private let connectionsInUse = Gauge(label: "commune_database_connections_in_use")
    private let callsWaiting = Gauge(label: "commune_database_calls_waiting")
    private let batchSeconds = Timer(label: "commune_database_batch_seconds")
    private let failures = Counter(label: "commune_database_failures_total")

    init(_ configuration: Database.Configuration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// Calls that stand in line for a connection.
    var waitingCount: Int { state.withLock { $0.waiting.count } }

    /// Gives the request to an owner, or has it wait, or refuses it.
    func submit(_ request: Request) {
        enum Placed {
            case assigned(Owner)
            case started(Owner)
            case waits(wakeKeeper: Bool)
            case refused(DatabaseError)
        }
        let placed = state.withLock { state -> Placed in
            if state.isClosing { return .refused(.unavailable("The database pool is closed.")) }
            let outage = state.outage.flatMap { $0.until > .now ? $0 : nil }
            if let outage, !state.owners.contains(where: \.isConnected) { return .refused(outage.error) }
            if let owner = Self.takeIdle(&state, connectedOnly: outage != nil) {
                owner.assign(request)
                connectionsInUse.record(state.owners.count - state.idle.count)
                return .assigned(owner)
            }
            if outage == nil, state.owners.count < configuration.connectionsMax {
                guard let owner = Owner(configuration) else {
                    return .refused(.unavailable("The process has no file descriptor left for PostgreSQL."))
                }
                state.owners.append(owner)
                return .started(owner)
            }
            guard state.waiting.count < configuration.waitersMax else {
                return .refused(.unavailable("\(state.waiting.count) calls wait for the database already."))
            }
            state.waiting.append(request)
            callsWaiting.record(state.waiting.count)
            defer { state.keeperSleeps = false }
            return .waits(wakeKeeper: state.keeperSleeps)
        }
        switch placed {
        case .assigned(let owner): owner.bell.ring()
        case .started(let owner): owner.start(with: request, in: self)
        case .waits(let wakeKeeper): if wakeKeeper { wake() }
        case .refused(let error):
            failures.increment()
            request.refuse(error)
        }
    }

    /// Called by an owner that is free.
    func next(for owner: Owner) -> Next {
        state.withLock { state in
            // Without a connection and with no hope for one: others may have theirs, so leave the line to them.
            let isUseless = !owner.isConnected && state.outage.map { $0.until > .now } ?? false
            while !isUseless, let request = state.waiting.removeFirst() {
                guard request.isWaiting else { continue }
                callsWaiting.record(state.waiting.count)
                return .serve(request)
            }
            if state.isClosing, state.waiting.isEmpty || isUseless { return .stop }
            state.idle.append(owner)
            connectionsInUse.record(state.owners.count - state.idle.count)
            return .wait
        }
    }

    /// An owner's thread has ended.
    func ended(_ owner: Owner) {
        let waiters = state.withLock { state in
            state.owners.removeAll { $0 === owner }
            keeperBell?.ring()
            return Self.takeCloseWaiters(&state, evenIfOpen: false)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Counts and times a batch.
    func measured(_ duration: Duration, _ answer: Request.Answer) {
        batchSeconds.recordNanoseconds(duration.microseconds * 1000)
        if case .failure = answer { failures.increment() }
    }

    /// Gives the first in line to an idle owner, if there are both.
    private static func assignFirst(_ state: inout State, connectedOnly: Bool) -> Owner? {
        guard !state.waiting.isEmpty, let owner = takeIdle(&state, connectedOnly: connectedOnly),
            let first = state.waiting.removeFirst()
        else { return nil }
        owner.assign(first)
        return owner
    }

    private static func takeIdle(_ state: inout State, connectedOnly: Bool) -> Owner? {
        if let last = state.idle.last, last.isConnected { return state.idle.removeLast() }
        if let index = state.idle.lastIndex(where: \.isConnected) { return state.idle.remove(at: index) }
        return connectedOnly ? nil : state.idle.popLast()
    }
}

// Outages.
extension Pool {
    /// PostgreSQL could not be reached: nobody tries again before `until`.
    private struct Outage {
        let error: DatabaseError
        let failures: Int
        let until: ContinuousClock.Instant

        static let firstPauseMilliseconds = 50.0
        static let pauseMillisecondsMax = 2000.0

        init(_ error: DatabaseError, after previous: Outage?) {
            self.error = error
            failures = (previous?.failures ?? 0) + 1
            let pause = Self.firstPauseMilliseconds * pow(2, Double(min(failures - 1, 10)))
            let jittered = min(pause, Self.pauseMillisecondsMax) * Double.random(in: 0.75...1)
            until = .now.advanced(by: .milliseconds(Int(jittered)))
        }
    }

    /// Notes that a connection could not be opened, and decides about the request that wanted it.
    func couldNotConnect(_ error: DatabaseError, for request: Request?) {
        var refused: [Request] = []
        var ready: Owner?
        let isNew = state.withLock { state in
            let isNew = state.outage == nil
            if state.outage.map({ $0.until <= .now }) ?? true {
                state.outage = Outage(error, after: state.outage)
            }
            if let request { state.waiting.prepend(request) }
            if state.owners.contains(where: \.isConnected) {
                // PostgreSQL has no room for one more connection: those we have go on.
                ready = Self.assignFirst(&state, connectedOnly: true)
            } else {
                while let waiting = state.waiting.removeFirst() { refused.append(waiting) }
                callsWaiting.record(0)
            }
            return isNew
        }
        ready?.bell.ring()
        for request in refused {
            failures.increment()
            request.refuse(error)
        }
        if isNew { logger.error("PostgreSQL cannot be reached: \(error)") }
    }

    /// A connection was opened.
    func connected() {
        let ended = state.withLock { state in
            defer { state.outage = nil }
            return state.outage
        }
        if let ended {
            logger.notice("PostgreSQL answers again.", metadata: ["attempts.failed": "\(ended.failures)"])
        }
    }

    /// While a connection opens, its request can time out and be cancelled all the same.
    func connecting(for request: Request) {
        let wakeKeeper = state.withLock { state in
            state.connecting.append(request)
            defer { state.keeperSleeps = false }
            return state.keeperSleeps
        }
        if wakeKeeper { wake() }
    }

    func endedConnecting(for request: Request) {
        state.withLock { $0.connecting.removeAll { $0 === request } }
    }
}

// The keeper: a thread that ends waiting in time, and closing too.
extension Pool {
    private static let look: Duration = .milliseconds(50)

    private func wake() {
        let starts = state.withLock { state in
            defer { state.keeperRuns = true }
            return !state.keeperRuns
        }
        guard starts else {
            keeperBell?.ring()
            return
        }
        let thread = Thread { self.keep() }
        thread.name = "postgres-keeper"
        thread.stackSize = 256 * 1024
        thread.start()
    }

    private func keep() {
        while sweep() {
            let sleeps = state.withLock { state in
                state.keeperSleeps =
                    state.waiting.isEmpty && state.connecting.isEmpty && state.closeDeadline == nil
                return state.keeperSleeps
            }
            _ = keeperBell?.wait(atMost: sleeps ? nil : Self.look)
            if keeperBell == nil { usleep(50_000) }
        }
    }

    /// Refuses what has waited too long; false when there is nothing left to keep.
    private func sweep() -> Bool {
        let now = ContinuousClock.now
        var late: [Request] = []
        var lateConnecting: [Request] = []
        var ready: [Owner] = []
        var waiters: [CheckedContinuation<Void, Never>] = []
        let (keeps, sentence) = state.withLock { state in
            let sentence = exhausted(state)
            late = state.waiting.removeLate(now)
            lateConnecting = state.connecting.filter { $0.isWaiting && $0.deadline <= now }
            // After an outage idle owners stand beside a line that the connected ones left behind.
            let connectedOnly = state.outage.map { $0.until > now } ?? false
            while let owner = Self.assignFirst(&state, connectedOnly: connectedOnly) { ready.append(owner) }
            if let deadline = state.closeDeadline, deadline <= now {
                waiters = Self.takeCloseWaiters(&state, evenIfOpen: true)
            }
            callsWaiting.record(state.waiting.count)
            return (
                !(state.isClosing && state.owners.isEmpty && state.waiting.isEmpty
                    && state.closeWaiters.isEmpty), sentence
            )
        }
        for waiter in waiters { waiter.resume() }
        for owner in ready { owner.bell.ring() }
        for request in late { request.refuse(.unavailable(sentence)) }
        for request in lateConnecting {
            request.refuse(.unavailable("PostgreSQL did not answer in time while connecting."))
        }
        for _ in 0..<late.count + lateConnecting.count { failures.increment() }
        return keeps
    }

    private func exhausted(_ state: borrowing State) -> String {
        let seconds = configuration.acquireTimeout.inSeconds
        let busy = state.owners.count - state.idle.count
        return """
            No database connection became free within \(seconds) s: \(busy) of \
            \(configuration.connectionsMax) are in use and \(state.waiting.count) calls wait.
            """
    }
}

// Closing.
extension Pool {
    var isClosing: Bool { state.withLock { $0.isClosing } }

    /// Refuses new calls; what waits or runs is still done.
    func beginClosing() {
        let idle = state.withLock { state in
            state.isClosing = true
            defer { state.idle = [] }
            return state.idle
        }
        for owner in idle { owner.bell.ring() }
        keeperBell?.ring()
    }

    /// Waits until every connection is closed, at most as long as a waiting call may still take.
    func close() async {
        let patience = configuration.acquireTimeout + configuration.statementTimeout + .seconds(2)
        beginClosing()
        await withCheckedContinuation { continuation in
            let (isOver, wakeKeeper) = state.withLock { state in
                if state.owners.isEmpty { return (true, false) }
                state.closeWaiters.append(continuation)
                state.closeDeadline = .now.advanced(by: patience)
                state.keeperSleeps = false
                return (false, true)
            }
            if isOver { continuation.resume() }
            if wakeKeeper { wake() }
        }
    }

    private static func takeCloseWaiters(
        _ state: inout State,
        evenIfOpen: Bool
    ) -> [CheckedContinuation<Void, Never>] {
        guard state.isClosing, evenIfOpen || state.owners.isEmpty else { return [] }
        defer {
            state.closeWaiters = []
            state.closeDeadline = nil
        }
        return state.closeWaiters
    }
}
