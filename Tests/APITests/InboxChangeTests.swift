// Inboxes on own domains, and what becomes of inboxes: changed, given a webhook, deleted.

import Database
import Foundation
import Platform
import Testing

@testable import Store

@Suite("Changes of inboxes")
struct InboxChangeTests {
    @Test("without a domain an inbox is made on the one verified first, else on the shared one")
    func defaultDomain() async throws {
        try await withPlatform { platform in
            func made(_ name: JSON, _ domain: JSON = .null) async throws -> JSON {
                let reply = try await platform.post("/v1/inboxes", ["local_part": name, "domain_id": domain])
                #expect(reply.status == 201, "\(reply.text)")
                return reply.body["data"]
            }
            let pending = try await platform.makeDomain("pending.com", verified: false)
            let shared = try await made("one")
            #expect(shared["domain_name"] == .string(platformDomain))
            _ = try await platform.makeDomain("first.com")
            _ = try await platform.makeDomain("second.com")
            #expect(try await made("one")["address"] == "one@first.com")
            #expect(try await made("one", .string(pending.id.description))["address"] == "one@pending.com")
            #expect(try await made("two", shared["domain_id"])["domain_name"] == .string(platformDomain))
            // Reserved on the shared domain alone.
            #expect(try await made("agent")["address"] == "agent@first.com")
            let again = try await platform.post("/v1/inboxes", ["local_part": "ONE"])
            #expect(again.status == 409)
        }
    }

    @Test("lists are pages, of all inboxes or of one domain's, oldest first")
    func pages() async throws {
        try await withPlatform { platform in
            let domain = try await platform.makeDomain("example.com")
            var names: [String] = []
            for number in 0..<7 {
                names.append("box\(number)")
                _ = try await platform.makeInbox("box\(number)", on: domain)
            }
            let shared = try await platform.makeInbox("shared")
            for path in ["/v1/domains/\(domain.id)/inboxes", "/v1/inboxes?domain_id=\(domain.id)"] {
                #expect(try await platform.walk(path, limit: 3).map { $0["localPart"].string } == names)
            }
            let all = try await platform.walk("/v1/inboxes", limit: 4)
            #expect(all.map { $0["localPart"].string } == names + ["shared"])
            #expect(
                try await platform.get("/v1/inboxes?domain_id=\(shared.domain)").body["data"][0]["localPart"]
                    == "shared"
            )
            for query in ["limit=0", "limit=1001", "domain_id=x", "cursor=x"] {
                #expect(try await platform.get("/v1/inboxes?\(query)").status == 400, "\(query)")
            }
        }
    }

    @Test("an inbox is changed in parts, by either route, and nothing else changes")
    func parts() async throws {
        try await withPlatform { platform in
            let domain = try await platform.makeDomain("example.com")
            let inbox = try await platform.makeInbox("one", on: domain, name: "First")
            let paths = ["/v1/domains/\(domain.id)/inboxes/\(inbox.id)", "/v1/inboxes/\(inbox.id)"]
            var known = try await platform.get(paths[0]).body["data"]
            let steps: [(JSON, String, JSON)] = [
                (["name": "Second"], "displayName", "Second"), (["name": .null], "displayName", .null),
                (["status": "inactive"], "status", "inactive"), (["status": "active"], "status", "active"),
                (["status": .null], "status", .null), ([:], "status", .null), (["x": 1], "status", .null),
            ]
            for (body, member, value) in steps {
                for (path, reply) in [
                    (paths[0], try await platform.put(paths[0], body)),
                    (paths[1], try await platform.patch(paths[1], body)),
                ] {
                    #expect(reply.status == 200, "\(path) \(body): \(reply.text)")
                    known[member] = value
                    #expect(reply.body["data"] == known, "\(path) \(body)")
                }
            }
            let renamed = try await platform.put(paths[0], ["local_part": "Two"])
            #expect(renamed.body["data"]["address"] == "two@example.com")
            #expect(try await platform.get(paths[1]).body["data"]["localPart"] == "two")
            // The same name again is no change.
            #expect(try await platform.put(paths[0], ["local_part": "two"]).status == 200)
        }
    }

    @Test("an address that is taken or reserved is 409, and the inbox stays as it was")
    func taken() async throws {
        try await withPlatform { platform in
            let domain = try await platform.makeDomain("example.com")
            let stranger = try await platform.stranger()
            _ = try await platform.makeInbox("theirs", org: stranger.org)
            _ = try await platform.makeInbox("other")
            _ = try await platform.makeInbox("other", on: domain)
            let shared = try await platform.makeInbox("mine")
            let own = try await platform.makeInbox("mine", on: domain)
            for name: JSON in ["theirs", "OTHER", "agent", "postmaster"] {
                let body: JSON = ["local_part": name, "name": "Changed"]
                let reply = try await platform.patch("/v1/inboxes/\(shared.id)", body)
                #expect(reply.status == 409, "\(name): \(reply.text)")
            }
            let reply = try await platform.patch("/v1/inboxes/\(own.id)", ["local_part": "other"])
            #expect(reply.status == 409)
            for inbox in [shared, own] {
                let now = try await platform.get("/v1/inboxes/\(inbox.id)").body["data"]
                #expect(now["localPart"] == "mine" && now["displayName"] == .null)
            }
            #expect(try await platform.patch("/v1/inboxes/\(own.id)", ["local_part": "agent"]).status == 200)
        }
    }

    @Test("what cannot be is refused with every field at fault, and nothing changes")
    func refused() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("mine")
            let path = "/v1/inboxes/\(inbox.id)"
            let before = try await platform.get(path).body
            let bodies: [(JSON, [String])] = [
                (["local_part": ""], ["local_part"]), (["local_part": .null], ["local_part"]),
                (["local_part": "a+b"], ["local_part"]), (["local_part": 5], ["local_part"]),
                (["status": "asleep"], ["status"]), (["status": ""], ["status"]),
                (["status": true], ["status"]),
                (["name": "a\nb"], ["name"]),
                (
                    ["name": "\u{7f}", "status": "x", "local_part": " ", "webhook": ["endpoint": "x"]],
                    ["name", "status", "webhook.endpoint", "local_part"]
                ),
                (["webhook": 5], ["webhook"]), (["webhook": ["events": "x"]], ["webhook.events"]),
                (["webhook": ["url": "https://a.com"]], ["webhook.endpoint"]),
            ]
            for (body, paths) in bodies {
                let reply = try await platform.patch(path, body)
                #expect(reply.status == 400, "\(body): \(reply.text)")
                #expect(reply.paths == paths, "\(body): \(reply.text)")
            }
            #expect(try await platform.get(path).body == before)
        }
    }

    @Test("an inactive inbox refuses sending, and works again when active")
    func inactive() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("mine")
            let send: JSON = [
                "to": "a@b.test", "subject": "s", "text": "t", "inboxId": .string(inbox.id.description),
            ]
            for (status, expected) in [("inactive", 400), ("active", 200)] {
                let path = "/v1/inboxes/\(inbox.id)"
                #expect(try await platform.patch(path, ["status": .string(status)]).status == 200)
                #expect(try await platform.send(send).status == expected)
            }
        }
    }

    @Test("a deleted inbox is gone, keeps its messages, and is found under no other domain")
    func delete() async throws {
        try await withPlatform { platform in
            let domain = try await platform.makeDomain("example.com")
            let other = try await platform.makeDomain("other.com")
            let inbox = try await platform.makeInbox("mine", on: domain)
            try await platform.receive("<one@x>", in: inbox)
            let path = "/v1/domains/\(domain.id)/inboxes/\(inbox.id)"
            let wrong = "/v1/domains/\(other.id)/inboxes/\(inbox.id)"
            #expect(try await platform.get(wrong).status == 404)
            #expect(try await platform.put(wrong, ["name": "x"]).status == 404)
            #expect(try await platform.post("\(wrong)/webhook", [:]).status == 404)
            #expect(try await platform.delete(wrong).status == 404)
            let reply = try await platform.delete(path)
            #expect(reply.status == 200)
            #expect(reply.body["data"] == ["ok": true])
            #expect(try await platform.delete(path).status == 404)
            #expect(try await platform.get(path).status == 404)
            #expect(try await platform.get("/v1/inboxes").body["data"] == [])
            let messages = try await platform.get("/v1/messages?inbox_id=\(inbox.id)")
            #expect(messages.body["data"].elements.count == 1)
            let again = try await platform.post("/v1/domains/\(domain.id)/inboxes", ["local_part": "mine"])
            #expect(again.status == 201)
        }
    }
}
