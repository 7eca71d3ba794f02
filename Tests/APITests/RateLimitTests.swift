// Requests a minute for each key.

import Database
import Foundation
import Logging
import Platform
import Redis
import Synchronization
import TestSupport
import Testing

@testable import API
@testable import Store

@Suite("Rate limit")
struct RateLimitTests {
    private static let names = ["Limit", "Remaining", "Reset"].flatMap {
        ["RateLimit-\($0)", "X-RateLimit-\($0)"]
    }

    @Test("every authenticated answer says what is left, also one that refuses")
    func headers() async throws {
        try await withPlatform(settings: ["COMMUNE_RATE_LIMIT_PER_MINUTE": "600"]) { platform in
            let narrow = try await platform.makeKey(["domains:read"])
            for (path, key, status) in [
                ("/v1/inboxes", platform.key, 200), ("/v1/inboxes/x", platform.key, 404),
                ("/v1/threads", platform.key, 400), ("/v1/inboxes", narrow, 403),
            ] {
                let reply = try await platform.get(path, key: key)
                #expect(reply.status == status)
                for name in Self.names {
                    #expect(reply.header(name).flatMap(Int.init) != nil, "\(path), \(status): \(name)")
                }
                #expect(reply.header("RateLimit-Limit") == "600")
            }
            let open = try await platform.get("/v1/inboxes", key: nil)
            #expect(open.header("RateLimit-Limit") == nil)
        }
    }

    @Test("a key over its rate is 429 with Retry-After; another key is not")
    func limited() async throws {
        try await withPlatform(settings: ["COMMUNE_RATE_LIMIT_PER_MINUTE": "3"]) { platform in
            var left: [String?] = []
            for _ in 0..<3 {
                let reply = try await platform.get("/v1/inboxes")
                #expect(reply.status == 200)
                left.append(reply.header("RateLimit-Remaining"))
            }
            #expect(left == ["2", "1", "0"])
            let before = try await platform.stored()
            let reply = try await platform.post("/v1/inboxes", ["local_part": "x"])
            #expect(reply.status == 429)
            #expect(reply.error == "Rate limit exceeded")
            let wait = try #require(reply.header("Retry-After").flatMap(Int.init))
            #expect((1...20).contains(wait))
            #expect(reply.header("RateLimit-Remaining") == "0")
            #expect(reply.header("X-RateLimit-Limit") == "3")
            #expect(try await platform.stored() == before)
            let other = try await platform.makeKey(["read"])
            #expect(try await platform.get("/v1/inboxes", key: other).status == 200)
        }
    }

    @Test("it is off at 0: no header, no limit")
    func off() async throws {
        try await withPlatform(settings: ["COMMUNE_RATE_LIMIT_PER_MINUTE": "0"]) { platform in
            for _ in 0..<150 {
                let reply = try await platform.get("/v1/inboxes")
                #expect(reply.status == 200)
                #expect(reply.header("RateLimit-Limit") == nil)
            }
        }
    }

    @Test("while Redis is away this process keeps count by itself")
    func withoutRedis() async throws {
        let dead = "redis://127.0.0.1:\(try ServerProcess.freePort())"
        let settings = ["REDIS_URL": dead, "COMMUNE_RATE_LIMIT_PER_MINUTE": "2"]
        try await withPlatform(settings: settings) { platform in
            var statuses: [Int] = []
            for _ in 0..<3 { statuses.append(try await platform.get("/v1/inboxes").status) }
            #expect(statuses == [200, 200, 429])
        }
    }

    private func send(_ platform: APIPlatform, _ inbox: Inbox, key: String? = nil) async throws -> Reply {
        try await platform.post(
            "/v1/messages/send",
            ["to": "a@b.test", "subject": "s", "text": "t", "inboxId": .string(inbox.id.description)],
            key: key ?? platform.key
        )
    }

    @Test(
        "an organization's sends are one rate over all its keys; other requests and organizations have their own"
    )
    func sends() async throws {
        let settings = ["COMMUNE_RATE_LIMIT_PER_MINUTE": "600", "COMMUNE_SEND_LIMIT_PER_MINUTE": "3"]
        try await withPlatform(settings: settings) { platform in
            let inbox = try await platform.makeInbox("sender")
            let second = try await platform.makeKey(["read", "write"])
            let narrow = try await platform.makeKey(["read"])
            // What its key may not send takes nothing of the organization's sends.
            for _ in 0..<4 { #expect(try await send(platform, inbox, key: narrow).status == 403) }
            var left: [String?] = []
            for key in [platform.key, second, platform.key] {
                let reply = try await send(platform, inbox, key: key)
                #expect(reply.status == 200)
                #expect(reply.header("RateLimit-Limit") == "3")
                left.append(reply.header("RateLimit-Remaining"))
            }
            #expect(left == ["2", "1", "0"])
            let before = try await platform.stored()
            let refused = try await send(platform, inbox, key: second)
            #expect(refused.status == 429)
            #expect(refused.header("RateLimit-Limit") == "3")
            #expect(refused.header("Retry-After").flatMap(Int.init).map((1...20).contains) == true)
            #expect(try await platform.stored() == before)
            let list = try await platform.get("/v1/inboxes", key: second)
            #expect(list.status == 200)
            #expect(list.header("RateLimit-Limit") == "600")
            let stranger = try await platform.stranger()
            let theirs = try await platform.makeInbox("theirs", org: stranger.org)
            #expect(try await send(platform, theirs, key: stranger.key).status == 200)
        }
    }

    @Test("with the key's rate off a send still has the organization's, and tells of it")
    func sendsAlone() async throws {
        try await withPlatform(settings: ["COMMUNE_SEND_LIMIT_PER_MINUTE": "300"]) { platform in
            let inbox = try await platform.makeInbox("sender")
            #expect(try await send(platform, inbox).header("RateLimit-Limit") == "300")
            #expect(try await platform.get("/v1/inboxes").header("RateLimit-Limit") == nil)
        }
    }

    @Test("while Redis is away both rates hold in this process, and the log says so once")
    func withoutRedisBoth() async throws {
        let dead = "redis://127.0.0.1:\(try ServerProcess.freePort())"
        let settings = [
            "REDIS_URL": dead, "COMMUNE_RATE_LIMIT_PER_MINUTE": "5", "COMMUNE_SEND_LIMIT_PER_MINUTE": "2",
        ]
        try await withPlatform(settings: settings) { platform in
            let inbox = try await platform.makeInbox("sender")
            var statuses: [Int] = []
            for _ in 0..<3 { statuses.append(try await send(platform, inbox).status) }
            #expect(statuses == [200, 200, 429])
            #expect(try await platform.get("/v1/inboxes").status == 200)
        }
        let lines = Lines()
        var configuration = Settings(["REDIS_URL": dead])
        let redis = Redis(try #require(Redis.Configuration(reading: &configuration)), logger: quiet)
        let limiter = RateLimiter(
            requestsPerMinute: 600,
            sendsPerMinute: 0,
            shared: TokenBucket(redis),
            logger: Logger(label: "limiter") { _ in lines }
        )
        let caller = Caller(
            org: OrgID(),
            key: KeyID(),
            keyName: "x",
            scopes: [],
            inboxes: [],
            domains: [],
            expiresAt: nil
        )
        for _ in 0..<5 { _ = try await limiter.admit(caller, sends: false) }
        await redis.close()
        #expect(lines.all.count == 1)
        #expect(lines.all.first?.contains("this process limits rates by itself") == true)
    }
}

/// A log that can be read.
private final class Lines: LogHandler {
    private let written = Mutex<[String]>([])
    var all: [String] { written.withLock { $0 } }

    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var logLevel: Logger.Level {
        get { .trace }
        set {}
    }
    subscript(metadataKey _: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        written.withLock { $0.append("\(event.message)") }
    }
}
