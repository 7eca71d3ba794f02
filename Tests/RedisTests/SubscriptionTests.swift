// Channels: who subscribes first and looks then misses nothing, whatever happens to the connection.

import Redis
import TestSupport
import Testing

@Suite("Subscriptions", .timeLimit(.minutes(1)))
struct SubscriptionTests {
    @Test("messages of all channels come in order, binary ones whole")
    func messages() async throws {
        try await withRedis { redis, prefix in
            var events = redis.subscribe(["\(prefix)a", "\(prefix)b"]).makeAsyncIterator()
            #expect(await events.next() == .subscribed)
            let binary: [UInt8] = [0, 13, 10, 255]
            for number in 0..<100 {
                let channel = number.isMultiple(of: 2) ? "\(prefix)a" : "\(prefix)b"
                let heard = try await redis.command(
                    "PUBLISH",
                    "\(channel)",
                    RedisArgument(binary + [UInt8(number)])
                )
                #expect(heard.int == 1)
            }
            for number in 0..<100 {
                let channel = number.isMultiple(of: 2) ? "\(prefix)a" : "\(prefix)b"
                #expect(await events.next() == .message(channel: channel, payload: binary + [UInt8(number)]))
            }
        }
    }

    @Test("a lost subscription says so and stands again after the restart")
    func lostAndBack() async throws {
        let server = try await RedisServer()
        let lines = Lines()
        let redis = Redis(try Redis.Configuration(url: server.url), logger: lines.logger)
        var events = redis.subscribe(["c"]).makeAsyncIterator()
        #expect(await events.next() == .subscribed)
        server.kill()
        #expect(await events.next() == .lost)
        try await server.start()
        #expect(await events.next() == .subscribed)
        try await redis.eventually { try await redis.command("PUBLISH", "c", "again").int == 1 }
        #expect(await events.next() == .message(channel: "c", payload: [UInt8]("again".utf8)))
        #expect(lines.count("The Redis subscription is lost") == 1)
        #expect(lines.count("The Redis subscription is back") == 1)
        await redis.close()
        // It may have been lost to `close()` before it ended.
        while let event = await events.next() { #expect(event == .lost) }
    }

    @Test("silence of the server is noticed without any message")
    func silence() async throws {
        let server = try await RedisServer()
        var configuration = try Redis.Configuration(url: server.url)
        configuration.commandTimeout = .milliseconds(200)
        configuration.connectTimeout = .milliseconds(200)
        configuration.keepaliveInterval = .milliseconds(100)
        let redis = Redis(configuration, logger: quiet)
        var events = redis.subscribe(["c"]).makeAsyncIterator()
        #expect(await events.next() == .subscribed)
        server.hang()
        #expect(await events.next() == .lost)
        server.goOn()
        #expect(await events.next() == .subscribed)
        await redis.close()
    }

    @Test("keepalive does not disturb the messages")
    func keepalive() async throws {
        try await withRedis({ $0.keepaliveInterval = .milliseconds(5) }) { redis, prefix in
            var events = redis.subscribe(["\(prefix)k"]).makeAsyncIterator()
            #expect(await events.next() == .subscribed)
            for number in 0..<50 {
                // Long enough for a PING in between.
                try await Task.sleep(for: .milliseconds(8))
                try await redis.command("PUBLISH", "\(prefix)k", "\(number)")
                let payload = [UInt8]("\(number)".utf8)
                #expect(await events.next() == .message(channel: "\(prefix)k", payload: payload))
            }
        }
    }

    @Test("a slow reader loses the oldest events and the server no reader")
    func slowReader() async throws {
        try await withRedis { redis, prefix in
            let stream = redis.subscribe(["\(prefix)s"])
            var events = stream.makeAsyncIterator()
            #expect(await events.next() == .subscribed)
            let total = Redis.subscriptionEventsMax + 1000
            let publish = (0..<total).map { ["PUBLISH", "\(prefix)s", "\($0)"] as [RedisArgument] }
            let heard = try await redis.pipeline(publish)
            #expect(heard.allSatisfy { $0 == .integer(1) })
            // The last message has been read off the wire once a later connection has seen it.
            try await redis.eventually { try await redis.command("PUBLISH", "\(prefix)s", "end").int == 1 }
            var received: [String] = []
            while let event = await events.next() {
                guard case .message(_, let payload) = event else { continue }
                received.append(String(decoding: payload, as: UTF8.self))
                if received.last == "end" { break }
            }
            #expect(received.count <= total + 1)
            #expect(received.suffix(2) == ["\(total - 1)", "end"])
        }
    }

    @Test("a reader that stops ends its connection")
    func stops() async throws {
        try await withRedis { redis, prefix in
            let task = Task {
                for await event in redis.subscribe(["\(prefix)e"]) where event == .subscribed { return true }
                return false
            }
            #expect(await task.value)
            try await redis.eventually { try await redis.command("PUBLISH", "\(prefix)e", "x").int == 0 }
        }
    }
}
