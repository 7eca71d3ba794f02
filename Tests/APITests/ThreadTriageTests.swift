// Triage of threads: status, assignee and tags, as the published command line asks for them.

import Foundation
import HTTPTypes
import Platform
import Testing

@testable import API

@Suite("Triage of threads")
struct ThreadTriageTests {
    private func thread(_ platform: APIPlatform) async throws -> String {
        let inbox = try await platform.makeInbox("triage")
        return try await platform.receive(
            "<triage@x>",
            in: inbox,
            from: "anna@x.test",
            subject: "Where is it?"
        )
    }

    @Test("a thread that nobody has touched is open, nobody's, and without tags")
    func untouched() async throws {
        try await withPlatform { platform in
            let id = try await thread(platform)
            let shown = try await platform.get("/v1/threads/\(id)").body["data"]
            #expect(shown["thread_id"].string == id)
            #expect(shown["subject"] == "Where is it?")
            #expect(shown["status"] == "open")
            #expect(shown["assigned_to"] == .null)
            #expect(shown["tags"] == .array([]))
            #expect(shown["participants"] == ["anna@x.test"])
            let metadata = try await platform.get("/v1/threads/\(id)/metadata").body["data"]
            #expect(metadata["status"] == "open")
            #expect(metadata["participants"] == ["anna@x.test"])
        }
    }

    @Test("status and assignee are set together or alone; null assigns to nobody, and what is left out stays")
    func patch() async throws {
        try await withPlatform { platform in
            let id = try await thread(platform)
            let both = try await platform.ask(
                .patch,
                "/v1/threads/\(id)",
                ["status": "needs_reply", "assigned_to": "anna"]
            )
            #expect(both.status == 200)
            #expect(both.body["data"]["status"] == "needs_reply")
            #expect(both.body["data"]["assigned_to"] == "anna")
            // The published command line's spelling.
            let unassigned = try await platform.ask(.patch, "/v1/threads/\(id)", ["assignedTo": nil])
            #expect(unassigned.body["data"]["assigned_to"] == .null)
            #expect(unassigned.body["data"]["status"] == "needs_reply")
            let closed = try await platform.ask(.put, "/v1/threads/\(id)/status", ["status": "closed"])
            #expect(closed.body["data"]["status"] == "closed")
            let assigned = try await platform.ask(.put, "/v1/threads/\(id)/assign", ["assigned_to": "bob"])
            #expect(assigned.body["data"]["assigned_to"] == "bob")
            let inbox = try #require(assigned.body["data"]["inbox_id"].string)
            let listed = try await platform.get("/v1/threads?inbox_id=\(inbox)").body["data"][0]
            #expect(listed["status"] == "closed")
            #expect(listed["assigned_to"] == "bob")
        }
    }

    @Test("tags are added once each, and removed by body or query")
    func tags() async throws {
        try await withPlatform { platform in
            let id = try await thread(platform)
            let path = "/v1/threads/\(id)/tags"
            #expect(
                try await platform.ask(.post, path, ["tags": ["b", "a"]]).body["data"]["tags"] == ["b", "a"]
            )
            #expect(
                try await platform.ask(.post, path, ["tags": ["a", "c", "c"]]).body["data"]["tags"] == [
                    "b", "a", "c",
                ]
            )
            #expect(
                try await platform.ask(.delete, path, ["tags": ["a", "no"]]).body["data"]["tags"] == [
                    "b", "c",
                ]
            )
            #expect(
                try await platform.ask(.post, "\(path)/remove", ["tags": ["c"]]).body["data"]["tags"] == ["b"]
            )
            let last = try await platform.call(.delete, "\(path)?tags=b,x", key: platform.key, raw: nil)
            #expect(last.body["data"]["tags"] == .array([]))
        }
    }

    @Test("tags added at the same time are all there")
    func together() async throws {
        try await withPlatform { platform in
            let id = try await thread(platform)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<10 {
                    group.addTask {
                        let reply = try await platform.ask(
                            .post,
                            "/v1/threads/\(id)/tags",
                            ["tags": [.string("t\(number)")]]
                        )
                        #expect(reply.status == 200)
                    }
                }
                try await group.waitForAll()
            }
            let tags = try await platform.get("/v1/threads/\(id)").body["data"]["tags"].elements.compactMap(
                \.string
            )
            #expect(Set(tags) == Set((0..<10).map { "t\($0)" }))
        }
    }

    @Test(
        "a change that is not valid is 400 and changes nothing",
        arguments: [
            ("PATCH", "", #"{"status": "done"}"#), ("PATCH", "", "{}"), ("PATCH", "", #"{"status": 1}"#),
            ("PATCH", "", #"{"assigned_to": ""}"#), ("PATCH", "", #"{"assigned_to": "a\nb"}"#),
            ("PATCH", "", ""),
            ("PUT", "/status", "{}"), ("PUT", "/status", #"{"status": null}"#), ("PUT", "/assign", "{}"),
            ("POST", "/tags", #"{"tags": []}"#), ("POST", "/tags", #"{"tags": [""]}"#),
            ("POST", "/tags", "{}"),
            ("POST", "/tags", #"{"tags": "a"}"#), ("DELETE", "/tags", ""), ("POST", "/tags/remove", "[]"),
        ]
    )
    func refused(_ method: String, _ path: String, _ body: String) async throws {
        try await withPlatform { platform in
            let id = try await thread(platform)
            let before = try await platform.get("/v1/threads/\(id)").body
            let method = try #require(HTTPRequest.Method(method))
            let reply = try await platform.call(
                method,
                "/v1/threads/\(id)\(path)",
                key: platform.key,
                raw: body.isEmpty ? nil : Array(body.utf8)
            )
            #expect(reply.status == 400, "\(reply.text)")
            #expect(try await platform.get("/v1/threads/\(id)").body == before)
        }
    }

    @Test("the 51st tag is refused, and the fifty stay")
    func tooManyTags() async throws {
        try await withPlatform { platform in
            let id = try await thread(platform)
            let tags = JSON.array((0..<50).map { .string("t\($0)") })
            #expect(try await platform.ask(.post, "/v1/threads/\(id)/tags", ["tags": tags]).status == 200)
            #expect(try await platform.ask(.post, "/v1/threads/\(id)/tags", ["tags": ["one"]]).status == 400)
            #expect(try await platform.get("/v1/threads/\(id)").body["data"]["tags"] == tags)
        }
    }
}

extension APIPlatform {
    /// A request with a body by any method, whose members the document must know.
    func ask(_ method: HTTPRequest.Method, _ path: String, _ body: JSON) async throws -> Reply {
        try await call(method, path, key: key, raw: body.bytes, documented: body)
    }
}
