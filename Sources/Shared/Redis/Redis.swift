// The client: one multiplexed connection that comes back by itself. While Redis is away commands fail at once.

package import Logging
import Metrics
import NIOCore
import NIOPosix
import ServiceLifecycle
import Synchronization

/// Commands to one Redis server, from any number of tasks.
package final class Redis: Service {
    private enum Link {
        /// Nobody has asked for anything yet.
        case untried
        /// The first attempt, for which commands may wait; later ones find `away`.
        case dialling([CheckedContinuation<Result<RedisConnection, RedisError>, Never>])
        case up(RedisConnection)
        case away(String)
        case closed
    }

    private struct State {
        var link = Link.untried
        var failedAttempts = 0
        var subscriptions: [Int: Task<Void, Never>] = [:]
        var subscriptionsMade = 0
    }

    let configuration: Configuration
    let logger: Logger
    let loop: any EventLoop
    private let state = Mutex(State())

    /// Connects at the first command, or when `run()` begins.
    package init(_ configuration: Configuration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        loop = MultiThreadedEventLoopGroup.singleton.next()
    }

    deinit {
        state.withLock { state in
            if case .up(let connection) = state.link {
                connection.close(because: .away("the client is gone"))
            }
            for task in state.subscriptions.values { task.cancel() }
        }
    }

    /// Whether the connection stands; an idle one is tried every `keepaliveInterval`.
    package var isReachable: Bool {
        state.withLock { if case .up = $0.link { true } else { false } }
    }

    /// Keeps the connection until graceful shutdown, then closes it.
    package func run() async throws {
        begin()
        // Cancellation ends the service too.
        try? await gracefulShutdown()
        await close()
    }

    /// Runs one command; an error reply is thrown.
    ///
    /// Waits at most `commandTimeout`, also when the task is cancelled, because the command may be on its
    /// way.
    @discardableResult
    package func command(
        _ name: RedisArgument,
        _ arguments: RedisArgument...
    ) async throws(RedisError) -> RESP {
        try await command([name] + arguments)
    }

    /// Runs one command given as a list of words.
    @discardableResult
    package func command(_ words: [RedisArgument]) async throws(RedisError) -> RESP {
        let connection = try await connection()
        var bytes: [UInt8] = []
        appendCommand(words, to: &bytes)
        let formatted = bytes
        let result = await withCheckedContinuation { continuation in
            connection.submit(formatted, .one(continuation))
        }
        let reply = try counted(result)
        if case .error(let message) = reply { throw .server(message) }
        return reply
    }

    /// Runs commands written side by side, in order; error replies stay in their places.
    @discardableResult
    package func pipeline(_ commands: [[RedisArgument]]) async throws(RedisError) -> [RESP] {
        guard !commands.isEmpty else { return [] }
        let connection = try await connection()
        let result: Result<[RESP], RedisError> = await withCheckedContinuation { continuation in
            connection.submitAll(commands) { continuation.resume(returning: $0) }
        }
        return try counted(result)
    }

    /// What Redis does when its memory is full (`noeviction` is the one that loses nothing), by `INFO memory`.
    package func memoryPolicy() async throws(RedisError) -> String {
        let info = try await command("INFO", "memory").string ?? ""
        let field = "maxmemory_policy:"
        guard let line = info.split(whereSeparator: \.isNewline).first(where: { $0.hasPrefix(field) }) else {
            throw .server("INFO memory names no maxmemory_policy")
        }
        return String(line.dropFirst(field.count))
    }

    /// Ends the connection and all subscriptions; commands fail from now on.
    package func close() async {
        let (link, tasks) = state.withLock { state in
            defer {
                state.link = .closed
                state.subscriptions = [:]
            }
            return (state.link, Array(state.subscriptions.values))
        }
        for task in tasks { task.cancel() }
        switch link {
        case .up(let connection):
            connection.close(because: .away("the client was closed"))
            try? await connection.channel.closeFuture.get()
        case .dialling(let waiters):
            for waiter in waiters { waiter.resume(returning: .failure(.away("the client was closed"))) }
        case .untried, .away, .closed: break
        }
        for task in tasks { await task.value }
    }

    private func counted<Reply>(_ result: Result<Reply, RedisError>) throws(RedisError) -> Reply {
        if case .failure(let error) = result {
            Counter(label: "commune_redis_failed_total", dimensions: [("reason", error.kind)]).increment()
        }
        return try result.get()
    }
}

// MARK: The connection's life

extension Redis {
    private func connection() async throws(RedisError) -> RedisConnection {
        let standing: Result<RedisConnection?, RedisError> = state.withLock { state in
            switch state.link {
            case .up(let connection): .success(connection)
            case .away(let reason): .failure(.away(reason))
            case .closed: .failure(.away("the client was closed"))
            case .untried, .dialling: .success(nil)
            }
        }
        if let connection = try standing.get() { return connection }
        begin()
        let result = await withCheckedContinuation { continuation in
            let now: Result<RedisConnection, RedisError>? = state.withLock { state in
                switch state.link {
                case .dialling(let waiters):
                    guard waiters.count < configuration.pendingMax else { return .failure(.overloaded) }
                    state.link = .dialling(waiters + [continuation])
                    return nil
                case .up(let connection): return .success(connection)
                case .away(let reason): return .failure(.away(reason))
                case .untried, .closed: return .failure(.away("the client was closed"))
                }
            }
            if let now { continuation.resume(returning: now) }
        }
        return try result.get()
    }

    /// Makes the first attempt, unless it was made.
    private func begin() {
        let isFirst = state.withLock { state in
            guard case .untried = state.link else { return false }
            state.link = .dialling([])
            return true
        }
        if isFirst { dial() }
    }

    private func dial() {
        RedisConnection.open(configuration, on: loop).whenComplete { [weak self] result in
            guard let self else {
                if case .success(let connection) = result {
                    connection.close(because: .away("the client is gone"))
                }
                return
            }
            switch result {
            case .success(let connection): self.connected(connection)
            case .failure(let error): self.failed(error)
            }
        }
    }

    private func connected(_ connection: RedisConnection) {
        let (before, attempts) = state.withLock { state in
            defer {
                if case .closed = state.link {} else { state.link = .up(connection) }
                state.failedAttempts = 0
            }
            return (state.link, state.failedAttempts)
        }
        switch before {
        case .closed: return connection.close(because: .away("the client was closed"))
        case .dialling(let waiters):
            for waiter in waiters { waiter.resume(returning: .success(connection)) }
        case .away:
            logger.notice("Redis is back", metadata: ["redis.failed_attempts": "\(attempts)"])
        case .untried, .up: break
        }
        connection.ended.whenComplete { [weak self] _ in
            self?.lost(connection.closed ?? .away("the connection was closed"))
        }
    }

    private func lost(_ error: RedisError) {
        let wasUp = state.withLock { state in
            guard case .up = state.link else { return false }
            state.link = .away(error.reason)
            return true
        }
        guard wasUp else { return }
        logger.warning("Redis is lost", metadata: ["redis.reason": "\(error.reason)"])
        Counter(label: "commune_redis_lost_total").increment()
        retry(after: 0)
    }

    private func failed(_ error: any Error) {
        let reason = (error as? RedisError)?.reason ?? "\(error)"
        let (before, attempts) = state.withLock { state in
            defer {
                if case .closed = state.link {} else { state.link = .away(reason) }
                state.failedAttempts += 1
            }
            return (state.link, state.failedAttempts)
        }
        switch before {
        case .closed: return
        case .dialling(let waiters):
            logger.warning("Redis is out of reach", metadata: ["redis.reason": "\(reason)"])
            for waiter in waiters { waiter.resume(returning: .failure(.away(reason))) }
        case .untried, .up, .away: break
        }
        retry(after: attempts)
    }

    private func retry(after attempts: Int) {
        var generator = SystemRandomNumberGenerator()
        let delay = Self.backoff(after: attempts, using: &generator)
        loop.scheduleTask(in: TimeAmount(delay)) { [weak self] in self?.dial() }
    }

    /// The wait before the next attempt: 50 ms doubling to 2 s, of which up to half is left to chance.
    static func backoff(after attempts: Int, using generator: inout some RandomNumberGenerator) -> Duration {
        let full = min(2.0, 0.05 * Double(1 << min(attempts, 6)))
        return .seconds(Double.random(in: full / 2...full, using: &generator))
    }

    /// Remembers a subscription's task until it ends; false once the client is closed.
    func keep(_ task: Task<Void, Never>) -> Int? {
        state.withLock { state in
            if case .closed = state.link { return nil }
            state.subscriptionsMade += 1
            state.subscriptions[state.subscriptionsMade] = task
            return state.subscriptionsMade
        }
    }

    /// Forgets a subscription's task.
    func forget(subscription: Int) {
        state.withLock { $0.subscriptions[subscription] = nil }
    }
}

extension RedisError {
    /// What to write behind “away”.
    var reason: String {
        if case .away(let reason) = self { reason } else { description }
    }

    fileprivate var kind: String {
        switch self {
        case .away: "away"
        case .timedOut: "timed_out"
        case .server: "server"
        case .overloaded: "overloaded"
        }
    }
}
