// Inboxes on the shared domain: made, listed, shown, and refused.

import Database
import Foundation
import Platform
import Store
import Testing

@Suite("Inboxes")
struct InboxTests {
    @Test("an inbox is made on the shared domain with every member that clients read")
    func create() async throws {
        try await withPlatform { platform in
            let reply = try await platform.post("/v1/inboxes", ["local_part": "Support", "name": "Help"])
            #expect(reply.status == 201, "\(reply.text)")
            let inbox = reply.body["data"]
            #expect(
                inbox.names == [
                    "id", "localPart", "address", "displayName", "domain_id", "domain_name", "webhook",
                    "status", "listUnsubscribe", "createdAt",
                ]
            )
            #expect(inbox["localPart"] == "support")
            #expect(inbox["address"] == "support@agents.test")
            #expect(inbox["displayName"] == "Help")
            #expect(inbox["domain_name"] == "agents.test")
            #expect(inbox["status"] == .null)
            let id = try #require(inbox["id"].string)
            #expect(try await platform.get("/v1/inboxes/\(id)").body["data"] == inbox)
            #expect(try await platform.get("/v1/inboxes").body["data"] == [inbox])
            let again = try await platform.post(
                "/v1/inboxes",
                ["local_part": "second", "domain_id": inbox["domain_id"]]
            )
            #expect(again.status == 201)
        }
    }

    @Test("a taken address is 409, whoever has it and however it is spelled")
    func taken() async throws {
        try await withPlatform { platform in
            let stranger = try await platform.stranger()
            #expect(try await platform.post("/v1/inboxes", ["local_part": "support"]).status == 201)
            let before = try await platform.stored()
            for key in [platform.key, stranger.key] {
                for spelling: JSON in ["support", "SUPPORT", "Support"] {
                    let reply = try await platform.post("/v1/inboxes", ["local_part": spelling], key: key)
                    #expect(reply.status == 409, "\(reply.text)")
                    #expect(reply.error.contains("taken"))
                }
            }
            #expect(try await platform.stored() == before)
        }
    }

    @Test("of many that want one address at once exactly one has it")
    func race() async throws {
        try await withPlatform { platform in
            let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<12 {
                    group.addTask { try await platform.post("/v1/inboxes", ["local_part": "one"]).status }
                }
                return try await group.reduce(into: [Int]()) { $0.append($1) }
            }
            #expect(statuses.sorted() == [201] + [Int](repeating: 409, count: 11))
            #expect(try await platform.stored()["inboxes"] == 1)
        }
    }

    @Test("the platform's own addresses can be taken by nobody")
    func reserved() async throws {
        try await withPlatform { platform in
            let before = try await platform.stored()
            #expect(Store.reservedLocalParts.isSuperset(of: ["agent", "postmaster", "abuse", "bounce"]))
            for name in Store.reservedLocalParts {
                for spelling in [name, name.uppercased()] {
                    let reply = try await platform.post("/v1/inboxes", ["local_part": .string(spelling)])
                    #expect(reply.status == 409, "\(spelling)")
                }
            }
            #expect(try await platform.stored() == before)
        }
    }

    @Test("without a local part a readable one is made")
    func generated() async throws {
        try await withPlatform { platform in
            var seen: Set<String> = []
            for _ in 0..<20 {
                let reply = try await platform.post("/v1/inboxes", [:])
                #expect(reply.status == 201)
                let name = try #require(reply.body["data"]["localPart"].string)
                #expect(name.wholeMatch(of: /[a-z]+-[a-z]+-[0-9]+/) != nil, "\(name)")
                seen.insert(name)
            }
            #expect(seen.count == 20)
        }
    }

    @Test("what cannot be an inbox is refused by the field's name, and nothing is stored")
    func refused() async throws {
        try await withPlatform { platform in
            let before = try await platform.stored()
            let localParts: [JSON] = [
                "", " ", "a b", "a@b", ".a", "a.", "a..b", "ä", "a+b", "\"quoted\"", "a\r\nb", "a\0b", "a,b",
                "<a>",
                .string(String(repeating: "a", count: 65)), 5, true, [], [:], ["a"],
            ]
            for localPart in localParts {
                let reply = try await platform.post("/v1/inboxes", ["local_part": localPart])
                #expect(reply.status == 400, "\(localPart): \(reply.text)")
                #expect(reply.paths == ["local_part"], "\(localPart): \(reply.text)")
            }
            let names: [JSON] = [
                "a\r\nBcc: x", "a\0", "a\u{7f}b", "a\u{85}b", .string(String(repeating: "a", count: 201)),
                5, false, [], [:],
            ]
            for name in names {
                let reply = try await platform.post("/v1/inboxes", ["local_part": "x", "name": name])
                #expect(reply.status == 400, "\(name): \(reply.text)")
                #expect(reply.paths == ["name"], "\(name): \(reply.text)")
            }
            for domain: JSON in [5, [], [:], true] {
                let reply = try await platform.post("/v1/inboxes", ["domain_id": domain])
                #expect(reply.status == 400, "\(reply.text)")
                #expect(reply.paths == ["domain_id"])
            }
            for domain: JSON in ["", "x", .string(DomainID().description)] {
                let reply = try await platform.post("/v1/inboxes", ["local_part": "x", "domain_id": domain])
                #expect(reply.status == 404, "\(domain): \(reply.text)")
            }
            #expect(try await platform.stored() == before)
        }
    }

    @Test("an inbox that can be made can send, whatever its name is made of")
    func names() async throws {
        try await withPlatform { platform in
            let names = [
                String(repeating: "a", count: 200), String(repeating: "ä", count: 200),
                String(repeating: "😀", count: 200), "\"", "\\", "<x>", "a, b; c", "  ", "", "Ünï 🎉",
            ]
            for (index, name) in names.enumerated() {
                let made = try await platform.post(
                    "/v1/inboxes",
                    ["local_part": .string("box\(index)"), "name": .string(name)]
                )
                #expect([201, 400].contains(made.status), "\(name): \(made.text)")
                guard made.status == 201 else { continue }
                let sent = try await platform.send([
                    "to": "a@b.test", "subject": "s", "text": "t", "inboxId": made.body["data"]["id"],
                ])
                #expect(sent.status == 200, "\(name): \(sent.text)")
            }
        }
    }

    @Test("inboxes are the organization's own: others neither list nor show them")
    func isolated() async throws {
        try await withPlatform { platform in
            let stranger = try await platform.stranger()
            let mine = try await platform.makeInbox("mine")
            let theirs = try await platform.makeInbox("theirs", org: stranger.org)
            let list = try await platform.get("/v1/inboxes", key: stranger.key)
            #expect(list.body["data"].elements.map { $0["id"].string } == [theirs.id.description])
            let shown = try await platform.get("/v1/inboxes/\(mine.id)", key: stranger.key)
            #expect(shown.status == 404)
            #expect(shown.error == "Inbox not found")
            for id in [InboxID().description, "x", "%00"] {
                #expect(try await platform.get("/v1/inboxes/\(id)").status == 404, "\(id)")
            }
        }
    }
}
