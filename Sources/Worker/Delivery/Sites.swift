// Who may talk to which site now, and with which kept connection. One lock, held for a few instructions.

import NIOCore
import Synchronization

/// Turns and idle connections of all sites.
final class Sites: Sendable {
    /// Bounds of what is kept and who waits.
    struct Limits: Sendable {
        var exchangersStart = 5
        var exchangersMax = 100
        var configuredStart = 50
        var configuredMax = 500
        /// How long a turn is waited for.
        var wait = Duration.seconds(30)
        /// Who waits at an MX site keeps a worker's place from other sites.
        var waitersMax = 32
        var configuredWaitersMax = 10_000
        var idleMax = 500
        /// Beyond this many, sites that rest in peace are forgotten.
        var sitesMax = 10_000
    }

    /// The right to one session, to be given back by `end`.
    struct Turn: Sendable {
        let site: Site
        fileprivate let mark: Pace.Mark
        /// A connection that is ready, if there was one.
        let kept: SMTPConnection?
    }

    /// What became of the wish for a turn.
    enum Admission: Sendable {
        case granted(Turn)
        /// Others were before us, and the wait was long enough.
        case busy
        case resting(Duration)
        case cancelled
    }

    private struct Waiter {
        let id: UInt64
        let site: Site
        let continuation: CheckedContinuation<Admission, Never>
        var takeTimeoutBack: (@Sendable () -> Void)?
    }

    private struct State {
        var paces: [String: Pace] = [:]
        var idle: [String: [SMTPConnection]] = [:]
        var waiters: [String: [Waiter]] = [:]
        var idleCount = 0
        var nextID: UInt64 = 0
        var isClosed = false
    }

    private let limits: Limits
    private let clock: any DeliveryClock
    private let group: any EventLoopGroup
    private let state = Mutex(State())

    init(limits: Limits, clock: any DeliveryClock, group: any EventLoopGroup) {
        self.limits = limits
        self.clock = clock
        self.group = group
    }

    // MARK: Turns

    /// Waits for a turn, no longer than the limit.
    func turn(at site: Site) async -> Admission {
        if let admission = state.withLock({ admit(site, &$0) }) { return admission }
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                enqueue(Waiter(id: id, site: site, continuation: continuation))
                // The handler below may have run before there was anybody to withdraw.
                if Task.isCancelled { withdraw(id, at: site, with: .cancelled) }
            }
        } onCancel: {
            withdraw(id, at: site, with: .cancelled)
        }
    }

    /// Gives a turn back.
    ///
    /// The connection goes to whoever waits, or is kept.
    func end(_ turn: Turn, _ end: Pace.End, keeping connection: SMTPConnection?) {
        let now = clock.now
        let key = turn.site.key
        let (surplus, admitted) = state.withLock { state in
            state.paces[key]?.end(turn.mark, end, at: now)
            let surplus = connection.flatMap { keep($0, &state) }
            return (surplus, admitWaiters(at: key, now, &state))
        }
        for (waiter, admission) in admitted {
            waiter.takeTimeoutBack?()
            waiter.continuation.resume(returning: admission)
        }
        surplus?.quit()
    }

    private func admit(_ site: Site, _ state: inout State) -> Admission? {
        guard !state.isClosed else { return .cancelled }
        let key = site.key
        // Whoever waits already comes first.
        if state.waiters[key]?.isEmpty == false { return full(site, state) ? .busy : nil }
        let now = clock.now
        if state.paces[key] == nil {
            if state.paces.count >= limits.sitesMax { forgetQuiet(now, &state) }
            state.paces[key] = pace(for: site)
        }
        switch state.paces[key]?.verdict(at: now) {
        case .go: return grant(site, &state)
        case .rest(let until): return .resting(now.distance(to: until))
        case .wait, nil: return full(site, state) ? .busy : nil
        }
    }

    private func grant(_ site: Site, _ state: inout State) -> Admission? {
        guard let mark = state.paces[site.key]?.begin() else { return nil }
        return .granted(Turn(site: site, mark: mark, kept: takeIdle(at: site.key, &state)))
    }

    private func full(_ site: Site, _ state: State) -> Bool {
        let limit = site.isConfigured ? limits.configuredWaitersMax : limits.waitersMax
        return state.waiters[site.key]?.count ?? 0 >= limit
    }

    private func pace(for site: Site) -> Pace {
        site.isConfigured
            ? Pace(limit: limits.configuredStart, limitMax: limits.configuredMax)
            : Pace(limit: limits.exchangersStart, limitMax: limits.exchangersMax)
    }

    private func admitWaiters(
        at key: String,
        _ now: NIODeadline,
        _ state: inout State
    ) -> [(Waiter, Admission)] {
        var admitted: [(Waiter, Admission)] = []
        while let first = state.waiters[key]?.first, let verdict = state.paces[key]?.verdict(at: now) {
            let admission: Admission?
            switch verdict {
            case .wait: return admitted
            case .go: admission = grant(first.site, &state)
            case .rest(let until): admission = .resting(now.distance(to: until))
            }
            guard let admission else { return admitted }
            state.waiters[key]?.removeFirst()
            admitted.append((first, admission))
        }
        if state.waiters[key]?.isEmpty == true { state.waiters[key] = nil }
        return admitted
    }

    // MARK: Waiting

    private func enqueue(_ waiter: Waiter) {
        // A turn may have come free since the first look.
        let admission = state.withLock { state -> Admission? in
            if let admission = admit(waiter.site, &state) { return admission }
            state.waiters[waiter.site.key, default: []].append(waiter)
            return nil
        }
        if let admission {
            waiter.continuation.resume(returning: admission)
            return
        }
        let takeBack = clock.call(at: clock.now + limits.wait, on: group.any()) {
            self.withdraw(waiter.id, at: waiter.site, with: .busy)
        }
        let isWaiting = state.withLock { state in
            guard let index = index(of: waiter.id, at: waiter.site.key, state) else { return false }
            state.waiters[waiter.site.key]?[index].takeTimeoutBack = takeBack
            return true
        }
        if !isWaiting { takeBack() }
    }

    private func withdraw(_ id: UInt64, at site: Site, with admission: Admission) {
        let waiter = state.withLock { state -> Waiter? in
            guard let index = index(of: id, at: site.key, state) else { return nil }
            return state.waiters[site.key]?.remove(at: index)
        }
        waiter?.takeTimeoutBack?()
        waiter?.continuation.resume(returning: admission)
    }

    private func index(of id: UInt64, at key: String, _ state: State) -> Int? {
        state.waiters[key]?.firstIndex { $0.id == id }
    }

    // MARK: Kept connections

    /// Whether an idle connection may say goodbye: false when somebody has taken it.
    func release(_ connection: SMTPConnection) -> Bool {
        state.withLock { state in
            let key = connection.site.key
            guard let index = state.idle[key]?.firstIndex(where: { $0 === connection }) else { return false }
            state.idle[key]?.remove(at: index)
            if state.idle[key]?.isEmpty == true { state.idle[key] = nil }
            state.idleCount -= 1
            return true
        }
    }

    /// Keeps a connection, or gives back one that must go.
    private func keep(_ connection: SMTPConnection, _ state: inout State) -> SMTPConnection? {
        // One that closes later than this look is released by its own end.
        guard !connection.isClosed else { return nil }
        guard !state.isClosed, state.idleCount < limits.idleMax else { return connection }
        state.idle[connection.site.key, default: []].append(connection)
        state.idleCount += 1
        return nil
    }

    // The one used last, so that those not needed grow old and go.
    private func takeIdle(at key: String, _ state: inout State) -> SMTPConnection? {
        guard let connection = state.idle[key]?.popLast() else { return nil }
        state.idleCount -= 1
        return connection
    }

    private func forgetQuiet(_ now: NIODeadline, _ state: inout State) {
        state.paces = state.paces.filter { key, pace in
            pace.running > 0 || pace.verdict(at: now) != .go || state.idle[key] != nil
        }
    }

    /// No more turns; idle connections say goodbye.
    func close() {
        let (connections, waiters) = state.withLock { state in
            let connections = state.idle.values.flatMap { $0 }
            let waiters = state.waiters.values.flatMap { $0 }
            state.isClosed = true
            state.idle = [:]
            state.idleCount = 0
            state.waiters = [:]
            return (connections, waiters)
        }
        for waiter in waiters {
            waiter.takeTimeoutBack?()
            waiter.continuation.resume(returning: .cancelled)
        }
        for connection in connections { connection.quit() }
    }

    /// Who waits for a turn at a site.
    func waiting(at site: Site) -> Int { state.withLock { $0.waiters[site.key]?.count ?? 0 } }

    /// Sessions under way at a site, and how many may be.
    func load(at site: Site) -> (running: Int, limit: Int) {
        state.withLock { state in
            (state.paces[site.key]?.running ?? 0, state.paces[site.key]?.limit ?? pace(for: site).limit)
        }
    }
}
