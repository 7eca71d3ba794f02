// The webhook of an inbox: its secret, its events, and which endpoints may be called.

import Database
import Foundation
import Platform
import Testing

@testable import Store

@Suite("Webhooks of inboxes")
struct WebhookTests {
    private let hook = "https://example.com/hook?x=1"

    @Test("a secret is made with the endpoint, returned with the inbox, sealed, and kept over changes")
    func secret() async throws {
        try await withPlatform { platform in
            let made = try await platform.post(
                "/v1/inboxes",
                ["local_part": "one", "webhook": ["endpoint": .string(hook), "events": ["inbound"]]]
            )
            #expect(made.status == 201, "\(made.text)")
            let inbox = made.body["data"]
            #expect(inbox["webhook"]["endpoint"] == .string(hook))
            #expect(inbox["webhook"]["events"] == ["email.received"])
            let secret = try #require(inbox["webhook"]["secret"].string)
            #expect(secret.wholeMatch(of: /whsec_[A-Za-z0-9+\/]{32}/) != nil)
            let id = try #require(inbox["id"].string)
            let path = "/v1/inboxes/\(id)"
            #expect(try await platform.get(path).body["data"] == inbox)
            let rows = try await platform.database.query(.worker, "SELECT webhook_secret FROM inboxes")
            let sealed: [UInt8] = try only(rows)("webhook_secret")
            #expect(!String(decoding: sealed, as: UTF8.self).contains(secret))

            let events: JSON = ["email.bounced", "email.received", "inbound", "email.sent"]
            let steps: [(JSON, JSON, JSON)] = [
                (["events": events], .string(hook), ["email.received", "email.sent", "email.bounced"]),
                (
                    ["endpoint": "https://other.com/"], "https://other.com/",
                    ["email.received", "email.sent", "email.bounced"]
                ),
                (["events": []], "https://other.com/", ["email.received"]),
            ]
            for (change, endpoint, events) in steps {
                let webhook = try await platform.patch(path, ["webhook": change]).body["data"]["webhook"]
                #expect(webhook == ["endpoint": endpoint, "events": events, "secret": .string(secret)])
            }
            let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
            let changed = try await platform.patch(path, ["webhook": ["secret": .string(own)]])
            #expect(changed.body["data"]["webhook"]["secret"] == .string(own))
            for removal: JSON in [[:], .null] {
                #expect(
                    try await platform.patch(path, ["webhook": ["endpoint": .string(hook)]]).status == 200
                )
                let removed = try await platform.patch(path, ["webhook": removal])
                #expect(removed.body["data"]["webhook"] == .null)
            }
            let anew = try await platform.patch(path, ["webhook": ["endpoint": .string(hook)]])
            #expect(anew.body["data"]["webhook"]["secret"] != .string(own))
        }
    }

    @Test("the route of the command line sets it and removes it")
    func route() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("one")
            let path = "/v1/domains/\(inbox.domain)/inboxes/\(inbox.id)/webhook"
            let set = try await platform.post(path, ["endpoint": .string(hook), "events": ["inbound"]])
            #expect(set.status == 200, "\(set.text)")
            #expect(set.body["data"]["webhook"]["events"] == ["email.received"])
            let wrong = try await platform.post(path, ["endpoint": "x", "events": ["inbound", "y"]])
            #expect(wrong.status == 400)
            #expect(wrong.paths == ["endpoint", "events[1]"])
            #expect(try await platform.post(path, [:]).body["data"]["webhook"] == .null)
            let nothing = try await platform.post(path, ["events": ["email.sent"]])
            #expect(nothing.status == 400)
            #expect(nothing.error.contains("endpoint"))
        }
    }

    /// Makes an inbox with each endpoint, and looks at what is answered.
    private func answers(_ platform: APIPlatform, _ endpoints: [String], _ status: Int) async throws {
        for endpoint in endpoints {
            let reply = try await platform.post("/v1/inboxes", ["webhook": ["endpoint": .string(endpoint)]])
            #expect(reply.status == status, "\(endpoint): \(reply.text)")
            if reply.status == 400 { #expect(reply.paths == ["webhook.endpoint"], "\(endpoint)") }
        }
    }

    @Test("endpoints that we would not call are refused; with a network allowed, those in it are taken")
    func endpoints() async throws {
        let bad: [String] = [
            "", "x", "example.com/hook", "//example.com", "ftp://example.com/", "http://example.com/",
            "https://user@example.com/", "https://user:pass@example.com/", "https://:pass@example.com/",
            "https://example.com/#x", "https://", "https:///x", "https://example.com:0/",
            "https://example.com:65536/", "https://exa mple.com/", "https://example.com/ä", "https://ä.com/",
            "https://127.1/", "https://0x7f000001/", "https://2130706433/", "https://017700000001/",
            "https://169.254.169.254/latest", "https://100.64.0.1/",
            "https://10.0.0.1/", "https://192.168.1.1/", "https://[fd00::1]/", "https://0.0.0.0/",
            "https://a%2eb.com/", "javascript:alert(1)", "https://example.com/\u{0}",
            "https://" + String(repeating: "a", count: 2_100) + ".com/",
        ]
        let local: [String] = [
            "http://127.0.0.1:9000/x", "https://127.0.0.1/", "http://[::1]:1/", "http://localhost:1/x",
            "https://[::ffff:7f00:1]/",
        ]
        let good: [String] = [
            "https://example.com", "HTTPS://Example.com:8443/a?b=c", "https://192.0.0.9.example.com/",
        ]
        try await withPlatform { platform in
            try await answers(platform, bad + local, 400)
            try await answers(platform, good, 201)
            let stored = try await platform.stored()
            #expect(stored["inboxes"] == good.count)
        }
        try await withPlatform(settings: ["COMMUNE_WEBHOOK_ALLOW": "127.0.0.0/8,::1/128"]) { platform in
            try await answers(platform, bad, 400)
            try await answers(platform, good + local, 201)
        }
    }

    @Test("unknown events and secrets of another form are refused by their place")
    func refused() async throws {
        try await withPlatform { platform in
            let before = try await platform.stored()
            let many = JSON.array([JSON](repeating: "email.sent", count: 51))
            let cases: [(JSON, [String])] = [
                (["events": ["email.sent", "email.opened"]], ["webhook.events[1]"]),
                (["events": many], ["webhook.events"]), (["events": [5]], ["webhook.events[0]"]),
                (["secret": "short"], ["webhook.secret"]), (["secret": "whsec_"], ["webhook.secret"]),
                (["secret": "whsec_!!!!"], ["webhook.secret"]),
                (["secret": "whsec_AAAA"], ["webhook.secret"]),
                (["secret": 5], ["webhook.secret"]), (["endpoint": 5], ["webhook.endpoint"]),
            ]
            for (change, paths) in cases {
                var webhook = change
                if change["endpoint"] == .null { webhook["endpoint"] = .string(hook) }
                let reply = try await platform.post("/v1/inboxes", ["webhook": webhook])
                #expect(reply.status == 400, "\(change): \(reply.text)")
                #expect(reply.paths == paths, "\(change): \(reply.text)")
            }
            #expect(try await platform.stored() == before)
        }
    }
}
