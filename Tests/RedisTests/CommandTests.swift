// Commands over a real server: what goes in comes out, in order, within the limits.

import Foundation
import Logging
import Platform
import Redis
import TestSupport
import Testing

/// A client of the shared server, and a prefix for the keys of one test.
func withRedis(
    _ change: (inout Redis.Configuration) -> Void = { _ in },
    _ body: (Redis, String) async throws -> Void
) async throws {
    var configuration = try Redis.Configuration(url: try await RedisServer.sharedURL())
    // So that a busy machine does not look like a Redis that hangs.
    configuration.commandTimeout = .seconds(20)
    configuration.connectTimeout = .seconds(20)
    change(&configuration)
    let redis = Redis(configuration, logger: quiet)
    let prefix = "test:\(UUID().uuidString):"
    do {
        try await body(redis, prefix)
    } catch {
        await redis.close()
        throw error
    }
    await redis.close()
}

/// Says nothing, because the tests break things on purpose.
let quiet = Logger(label: "redis") { _ in SwiftLogNoOpLogHandler() }

@Suite("Commands")
struct CommandTests {
    @Test("values come back as they were, of every kind")
    func roundTrips() async throws {
        try await withRedis { redis, prefix in
            let binary = [UInt8](0...255) + [0, 13, 10, 36]
            #expect(try await redis.command("SET", "\(prefix)a", RedisArgument(binary)).string == "OK")
            #expect(try await redis.command("GET", "\(prefix)a").bytes == binary)
            #expect(try await redis.command("GET", "\(prefix)missing") == .null)
            #expect(try await redis.command("SET", "\(prefix)empty", "").string == "OK")
            #expect(try await redis.command("GET", "\(prefix)empty").bytes == [])
            #expect(try await redis.command("INCRBY", "\(prefix)n", 41) == .integer(41))
            #expect(try await redis.command("INCRBY", "\(prefix)n", -42).int == -1)
            #expect(try await redis.command("RPUSH", "\(prefix)l", "x", "ü🎈", 3).int == 3)
            let list = try await redis.command("LRANGE", "\(prefix)l", 0, -1).array
            #expect(list?.map(\.string) == ["x", "ü🎈", "3"])
            let id = JobID()
            #expect(try await redis.command("ECHO", RedisArgument(id)).string == id.description)
            #expect(try await redis.command("ECHO", RedisArgument(0.1)).string == "0.1")
        }
    }

    @Test("nested arrays with nulls and numbers arrive whole")
    func nested() async throws {
        try await withRedis { redis, _ in
            let reply = try await redis.command("EVAL", "return {1, {'a', {}, {false, 'b'}}, 2}", 0)
            let inner = RESP.array([.string([97]), .array([]), .array([.null, .string([98])])])
            #expect(reply == .array([.integer(1), inner, .integer(2)]))
        }
    }

    @Test("a value of 32 MiB goes and comes")
    func huge() async throws {
        try await withRedis { redis, prefix in
            let value = [UInt8](repeating: 7, count: 32 << 20)
            try await redis.command("SET", "\(prefix)huge", RedisArgument(value), "PX", 60_000)
            #expect(try await redis.command("GET", "\(prefix)huge").bytes == value)
            try await redis.command("UNLINK", "\(prefix)huge")
        }
    }

    @Test("a reply over the limit ends the connection, not the memory")
    func replyOverLimit() async throws {
        try await withRedis({ $0.replyBytesMax = 1 << 20 }) { redis, prefix in
            try await redis.command("SETRANGE", "\(prefix)big", 2_000_000, "x")
            let error = await #expect(throws: RedisError.self) {
                try await redis.command("GET", "\(prefix)big")
            }
            #expect(error?.meansAway == true)
            try await redis.eventually { try await redis.command("PING").string == "PONG" }
            try await redis.command("UNLINK", "\(prefix)big")
        }
    }

    @Test("an error reply is thrown by a command and stays in its place in a pipeline")
    func errors() async throws {
        try await withRedis { redis, prefix in
            try await redis.command("SET", "\(prefix)s", "text")
            let error = await #expect(throws: RedisError.self) {
                try await redis.command("LPUSH", "\(prefix)s", 1)
            }
            guard case .server(let message) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(message.hasPrefix("WRONGTYPE"))
            let replies = try await redis.pipeline([
                ["GET", "\(prefix)s"], ["LPUSH", "\(prefix)s", 1], ["STRLEN", "\(prefix)s"],
            ])
            #expect(replies == [.string([UInt8]("text".utf8)), .error(message), .integer(4)])
            #expect(try await redis.pipeline([]) == [])
        }
    }

    @Test("each of many tasks gets its own replies, and a pipeline stays together")
    func order() async throws {
        try await withRedis { redis, prefix in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<64 {
                    group.addTask {
                        for turn in 0..<50 {
                            let text = "\(task)/\(turn)"
                            #expect(try await redis.command("ECHO", "\(text)").string == text)
                            let key: RedisArgument = "\(prefix)together"
                            // Nobody's INCR comes between these two, and so the key is always new.
                            let replies = try await redis.pipeline([["INCR", key], ["DEL", key]])
                            #expect(replies == [.integer(1), .integer(1)])
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("commands over pendingMax are refused at once and the others are answered")
    func pendingMax() async throws {
        try await withRedis({ $0.pendingMax = 100 }) { redis, prefix in
            try await redis.command("PING")
            // Too large for the limit by itself, so nothing of it is sent.
            let many = Array(repeating: ["INCR", "\(prefix)n"] as [RedisArgument], count: 101)
            await #expect(throws: RedisError.overloaded) { try await redis.pipeline(many) }
            #expect(try await redis.command("GET", "\(prefix)n") == .null)
            // While one script of 300 ms holds the server, 99 more fit and the rest do not.
            let counts = await withTaskGroup(of: Bool.self) { group in
                let busy =
                    "local t = redis.call('TIME'); local s = t[1] * 1000000 + t[2]; local n; repeat t = "
                    + "redis.call('TIME'); n = t[1] * 1000000 + t[2] until n - s > 300000; return 1"
                for index in 0..<300 {
                    group.addTask {
                        do throws(RedisError) {
                            try await redis.command(index == 0 ? ["EVAL", "\(busy)", 0] : ["PING"])
                            return true
                        } catch {
                            #expect(error == .overloaded)
                            return false
                        }
                    }
                }
                return await group.reduce(into: (0, 0)) { if $1 { $0.0 += 1 } else { $0.1 += 1 } }
            }
            #expect(counts.0 >= 100)
            #expect(counts.0 + counts.1 == 300)
            #expect(try await redis.command("PING").string == "PONG")
        }
    }

    @Test("bytes over pendingBytesMax are refused")
    func pendingBytes() async throws {
        try await withRedis({ $0.pendingBytesMax = 1000 }) { redis, prefix in
            let value = RedisArgument([UInt8](repeating: 1, count: 2000))
            await #expect(throws: RedisError.overloaded) {
                try await redis.command("SET", "\(prefix)v", value)
            }
            let exists = try await redis.command("EXISTS", "\(prefix)v")
            #expect(exists == .integer(0))
        }
    }

    @Test("the memory policy is read from INFO")
    func memoryPolicy() async throws {
        let server = try await RedisServer()
        let redis = Redis(try Redis.Configuration(url: server.url), logger: quiet)
        #expect(try await redis.memoryPolicy() == "noeviction")
        try await redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        #expect(try await redis.memoryPolicy() == "allkeys-lru")
        await redis.close()
        let error = await #expect(throws: RedisError.self) { try await redis.command("PING") }
        #expect(error?.meansAway == true)
        #expect(!redis.isReachable)
    }

    @Test("a script is loaded when Redis does not know it, and again after SCRIPT FLUSH")
    func scripts() async throws {
        let server = try await RedisServer()
        let redis = Redis(try Redis.Configuration(url: server.url), logger: quiet)
        let script = Script(name: "add", source: "return {KEYS[1], ARGV[1] + ARGV[2]}")
        let expected = RESP.array([.string([UInt8]("k".utf8)), .integer(5)])
        for _ in 0..<3 {
            #expect(try await redis.run(script, keys: ["k"], arguments: [2, 3]) == expected)
            #expect(try await redis.run(script, keys: ["k"], arguments: [2, 3]) == expected)
            try await redis.command("SCRIPT", "FLUSH")
        }
        let known = try await redis.command("SCRIPT", "LOAD", "return {KEYS[1], ARGV[1] + ARGV[2]}").string
        #expect(known == script.sha1)
        let broken = Script(name: "broken", source: "return redis.call('NOPE')")
        for _ in 0..<2 {
            let error = await #expect(throws: RedisError.self) { try await redis.run(broken, keys: []) }
            #expect(error?.meansAway == false)
        }
        await redis.close()
    }
}

extension Redis {
    /// Asks every 20 ms until it is so, for at most half a minute.
    func eventually(_ condition: () async throws -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while ContinuousClock.now < deadline {
            if (try? await condition()) == true { return }
            // Nothing tells from outside when the connection stands again but asking.
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("it never came true")
    }
}
