// Requests a minute for each key.

import Database
import Foundation
import Platform
import Redis
import Store
import TestSupport
import Testing

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
}
