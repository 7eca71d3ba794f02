// Redis dies, hangs, comes back: commands fail soon, and everything goes on by itself.

import Logging
import Redis
import Synchronization
import TestSupport
import Testing

@Suite("Loss and return")
struct LossTests {
    @Test("after SIGKILL commands fail at once, and after a restart they work again; each is logged once")
    func killAndRestart() async throws {
        let server = try await RedisServer()
        let lines = Lines()
        let redis = Redis(try Redis.Configuration(url: server.url), logger: lines.logger)
        try await redis.command("SET", "a", 1)
        #expect(redis.isReachable)
        for round in 1...2 {
            server.kill()
            try await redis.eventually { !redis.isReachable }
            let clock = ContinuousClock()
            let spent = await clock.measure {
                for _ in 0..<100 {
                    let error = await #expect(throws: RedisError.self) { try await redis.command("PING") }
                    #expect(error?.meansAway == true)
                }
            }
            // A hundred times at once, not a hundred times a timeout.
            #expect(spent < .seconds(20))
            try await server.start()
            try await redis.eventually { redis.isReachable }
            #expect(try await redis.command("GET", "a") == .null)
            #expect(lines.count("Redis is lost") == round)
            #expect(lines.count("Redis is back") == round)
        }
        await redis.close()
    }

    @Test("commands under way when the server dies all end")
    func dieUnderLoad() async throws {
        let server = try await RedisServer()
        let redis = Redis(try Redis.Configuration(url: server.url), logger: quiet)
        try await redis.command("PING")
        let outcomes = await withTaskGroup(of: (Int, Int).self) { group in
            for _ in 0..<32 {
                group.addTask {
                    var answered = 0
                    do throws(RedisError) {
                        while true {
                            try await redis.command("INCR", "n")
                            answered += 1
                        }
                    } catch {
                        #expect(error.meansAway)
                        return (answered, 1)
                    }
                }
            }
            group.addTask {
                // Some traffic before the end.
                try? await redis.eventually { (try await redis.command("GET", "n").int ?? 0) > 200 }
                server.kill()
                return (0, 0)
            }
            return await group.reduce(into: (0, 0)) { $0 = ($0.0 + $1.0, $0.1 + $1.1) }
        }
        #expect(outcomes.0 > 0)
        #expect(outcomes.1 == 32)
        await redis.close()
    }

    @Test("a server that hangs is noticed within the limit, and used again when it goes on")
    func hang() async throws {
        let server = try await RedisServer()
        var configuration = try Redis.Configuration(url: server.url)
        configuration.commandTimeout = .milliseconds(300)
        configuration.connectTimeout = .milliseconds(300)
        let redis = Redis(configuration, logger: quiet)
        try await redis.command("PING")
        server.hang()
        let clock = ContinuousClock()
        let spent = await clock.measure {
            await #expect(throws: RedisError.timedOut) { try await redis.command("PING") }
        }
        #expect(spent >= .milliseconds(290) && spent < .seconds(20))
        // The caller hears of its own timeout a moment before the client has let go of the connection.
        try await redis.eventually { !redis.isReachable }
        let error = await #expect(throws: RedisError.self) { try await redis.command("PING") }
        #expect(error?.meansAway == true && error != .timedOut)
        server.goOn()
        try await redis.eventually { try await redis.command("PING").string == "PONG" }
        await redis.close()
    }

    @Test("an idle connection to a server that hangs is noticed too")
    func hangWhileIdle() async throws {
        let server = try await RedisServer()
        var configuration = try Redis.Configuration(url: server.url)
        configuration.commandTimeout = .milliseconds(200)
        configuration.keepaliveInterval = .milliseconds(100)
        let redis = Redis(configuration, logger: quiet)
        try await redis.command("PING")
        server.hang()
        try await redis.eventually { !redis.isReachable }
        server.goOn()
        try await redis.eventually { redis.isReachable }
        await redis.close()
    }

    @Test("nobody listening is an error at once and a connection later")
    func startedBeforeServer() async throws {
        let server = try await RedisServer()
        server.kill()
        let redis = Redis(try Redis.Configuration(url: server.url), logger: quiet)
        let error = await #expect(throws: RedisError.self) { try await redis.command("PING") }
        #expect(error?.meansAway == true)
        try await server.start()
        try await redis.eventually { try await redis.command("PING").string == "PONG" }
        await redis.close()
    }

    @Test("as a service it connects by itself and closes when it is told to end")
    func service() async throws {
        let redis = Redis(try Redis.Configuration(url: try await RedisServer.sharedURL()), logger: quiet)
        let service = Task { try await redis.run() }
        try await redis.eventually { redis.isReachable }
        service.cancel()
        try await service.value
        #expect(!redis.isReachable)
        let error = await #expect(throws: RedisError.self) { try await redis.command("PING") }
        #expect(error?.meansAway == true)
    }

    @Test("commands before the first connection stands wait for it together")
    func firstAttempt() async throws {
        try await withRedis { redis, _ in
            try await withThrowingTaskGroup(of: String?.self) { group in
                for _ in 0..<50 { group.addTask { try await redis.command("PING").string } }
                for try await text in group { #expect(text == "PONG") }
            }
        }
    }
}

/// Remembers what was logged.
final class Lines: Sendable {
    private let lines = Mutex<[String]>([])

    var logger: Logger { Logger(label: "redis") { _ in Handler(lines: self) } }

    func count(_ message: String) -> Int { lines.withLock { $0.count { $0 == message } } }

    private struct Handler: LogHandler {
        let lines: Lines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { lines.lines.withLock { $0.append("\(event.message)") } }
    }
}
