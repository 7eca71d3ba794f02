// Refusals that have nothing to do with mail: keys, sizes, paths, methods, query strings.

import Database
import Foundation
import HTTPTypes
import HummingbirdTesting
import Platform
import Store
import Testing

@testable import API

@Suite("Refused requests")
struct BadRequestTests {
    @Test("no key, a wrong one, a revoked one and an expired one are 401, and nothing is stored")
    func keys() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let body: JSON = [
                "to": "a@b.test", "subject": "s", "text": "t", "inboxId": .string(inbox.id.description),
            ]
            let revoked = try await platform.makeKey(["admin"])
            try await platform.database.query(
                .tenant(platform.org),
                "UPDATE api_keys SET revoked_at = now() WHERE hint = \(String(revoked.prefix(12)))"
            )
            let expired = try await platform.makeKey(["admin"], expiresAt: .now + .seconds(-1))
            let unknown = "comm_" + [UInt8].random(count: 32).hexadecimal
            let headers: [(String, String?)] = [
                ("no header", nil), ("an empty one", ""), ("another scheme", "Basic \(platform.key)"),
                ("the key alone", platform.key), ("no key in it", "Bearer"), ("no key behind it", "Bearer "),
                ("words after it", "Bearer \(platform.key) x"), ("an unknown key", "Bearer \(unknown)"),
                ("another prefix", "Bearer sk_\(platform.key.dropFirst(5))"),
                ("a cut key", "Bearer \(platform.key.dropLast())"),
                ("a longer key", "Bearer \(platform.key)0"),
                ("upper case", "Bearer comm_\(platform.key.dropFirst(5).uppercased())"),
                ("injection", "Bearer comm_' OR 1=1 --"), ("a revoked key", "Bearer \(revoked)"),
                ("an expired key", "Bearer \(expired)"),
            ]
            let before = try await platform.stored()
            for (name, header) in headers {
                var fields: HTTPFields = [:]
                if let header { fields[.authorization] = header }
                let reply = try await platform.call(
                    .post,
                    "/v1/messages/send",
                    key: nil,
                    raw: body.bytes,
                    headers: fields
                )
                #expect(reply.status == 401, "\(name): \(reply.text)")
                #expect(reply.error.lowercased().contains("api key"), "\(name): \(reply.text)")
            }
            #expect(try await platform.stored() == before)
            let scheme: HTTPFields = [.authorization: "bearer \(platform.key)"]
            let lower = try await platform.call(.get, "/v1/inboxes", key: nil, raw: nil, headers: scheme)
            #expect(lower.status == 200, "the scheme is case-insensitive (RFC 9110 §11.1)")
            let future = try await platform.makeKey(["read"], expiresAt: .now + .seconds(3600))
            #expect(try await platform.get("/v1/inboxes", key: future).status == 200)
        }
    }

    @Test("401 comes before 403, and 403 before 404, 400 and 413")
    func precedence() async throws {
        try await withPlatform { platform in
            let narrow = try await platform.makeKey(["domains:read"])
            let large = [UInt8](repeating: 0x20, count: 1 << 20 + 1)
            let requests: [(HTTPRequest.Method, String, [UInt8]?)] = [
                (.get, "/v1/inboxes/nothing", nil), (.get, "/v1/threads?limit=0", nil),
                (.get, "/v1/threads/thread_0/messages", nil), (.get, "/v1/messages?order=up", nil),
                (.post, "/v1/messages/send", Array("{".utf8)), (.post, "/v1/inboxes", large),
            ]
            for (method, path, body) in requests {
                let none = try await platform.call(method, path, key: nil, raw: body)
                #expect(none.status == 401, "\(path)")
                let missing = try await platform.call(method, path, key: narrow, raw: body)
                #expect(missing.status == 403, "\(path)")
                let admitted = try await platform.call(method, path, key: platform.key, raw: body)
                #expect([400, 404, 413].contains(admitted.status), "\(path): \(admitted.text)")
            }
        }
    }

    @Test("a missing scope is named")
    func scopeNamed() async throws {
        try await withPlatform { platform in
            let reader = try await platform.makeKey(["read"])
            let before = try await platform.stored()
            let reply = try await platform.post("/v1/inboxes", ["local_part": "x"], key: reader)
            #expect(reply.status == 403)
            #expect(reply.error.contains("inboxes:write"))
            #expect(try await platform.stored() == before)
        }
    }

    @Test("a body over its route's limit is 413 by its declared length, and at the limit it is read")
    func declaredLength() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let before = try await platform.stored()
            for (path, limit) in [("/v1/inboxes", 1 << 20), ("/v1/messages/send", 10 << 20)] {
                // Blanks around JSON mean nothing, so size alone decides.
                let padding = [UInt8](repeating: 0x20, count: limit - 1)
                let atLimit = try await platform.call(
                    .post,
                    path,
                    key: platform.key,
                    raw: padding + Array("[".utf8)
                )
                #expect(atLimit.status == 400, "\(path)")
                let over = try await platform.call(
                    .post,
                    path,
                    key: platform.key,
                    raw: padding + Array("[]".utf8)
                )
                #expect(over.status == 413, "\(path)")
                #expect(over.error.contains("\(limit >> 20) MiB"))
            }
            #expect(try await platform.stored() == before)
            let large = String(repeating: "x", count: 9 << 20)
            let sent = try await platform.send([
                "to": "a@b.test", "subject": "large", "text": .string(large),
                "inboxId": .string(inbox.id.description),
            ])
            #expect(sent.status == 200)
        }
    }

    @Test("a body over the limit is 413 also when it comes in chunks of undeclared length")
    func chunked() async throws {
        try await withPlatform(.live) { platform in
            let port = try #require(platform.client.port)
            let before = try await platform.stored()
            let padding = String(repeating: " ", count: 64 << 10)
            let head = """
                POST /v1/inboxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \(platform.key)\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n
                """
            func chunk(_ text: String) -> String { "\(String(text.utf8.count, radix: 16))\r\n\(text)\r\n" }
            let small = try await exchange(port, [head, chunk(padding), chunk("[]"), "0\r\n\r\n"])
            #expect(small.hasPrefix("HTTP/1.1 400 "), "\(small.prefix(300))")
            #expect(small.contains("must be a JSON object"))
            let large = try await exchange(
                port,
                [head] + (0..<17).map { _ in chunk(padding) } + ["0\r\n\r\n"]
            )
            #expect(large.hasPrefix("HTTP/1.1 413 "), "\(large.prefix(300))")
            #expect(large.contains("larger than 1 MiB"))
            #expect(try await platform.stored() == before)
        }
    }

    @Test("an unknown route is 404, as JSON, with and without a key")
    func unknownRoute() async throws {
        try await withPlatform { platform in
            for path in [
                "/", "/v1", "/v1/nothing", "/v2/inboxes", "/v1/inboxes/a/b/c", "/v1/messages/receive/it",
            ] {
                for method: HTTPRequest.Method in [.get, .post, .delete] {
                    for key in [nil, platform.key] {
                        let reply = try await platform.call(method, path, key: key, raw: nil)
                        #expect(reply.status == 404, "\(method) \(path): \(reply.text)")
                        #expect(reply.error == "No such route")
                    }
                }
            }
        }
    }

    @Test("a wrong method is 405 with the methods that the path takes")
    func wrongMethod() async throws {
        try await withPlatform { platform in
            for (path, routes) in Dictionary(grouping: routeTable, by: \.path) {
                let allowed = Set(routes.map(\.method))
                for method in Route.allMethods where !allowed.contains(method) {
                    let example = path.split(separator: "/").map { $0.hasPrefix("{") ? "x" : $0 }
                    let reply = try await platform.call(
                        method,
                        "/" + example.joined(separator: "/"),
                        key: platform.key,
                        raw: nil
                    )
                    #expect(reply.status == 405, "\(method) \(path): \(reply.text)")
                    let names = reply.header("Allow")?.split(separator: ",").map {
                        $0.trimmingCharacters(in: .whitespaces)
                    }
                    #expect(Set(names ?? []) == Set(allowed.map(\.rawValue)), "\(path)")
                }
            }
        }
    }

    @Test("a query string that is wrong is refused by the parameter's name")
    func queries() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let thread = try await platform.receive("<1@x>", in: inbox)
            _ = try await platform.receive("<2@x>", in: inbox)
            let messages = "/v1/messages?inbox_id=\(inbox.id)"
            let threads = "/v1/threads?inbox_id=\(inbox.id)"
            let ofThread = "/v1/threads/\(thread)/messages?"
            let foreign = try await platform.get("\(threads)&limit=1").body["next_cursor"].string
            let cursor = try #require(foreign)
            var cases: [(String, String)] = []
            for list in [messages, threads, ofThread] {
                for limit in ["0", "-1", "abc", "1001", "1.5", "9999999999999999999999", "%00"] {
                    cases.append(("\(list)&limit=\(limit)", "limit"))
                }
                for wrong in ["x", "eyJsYXN0Ijo1fQ", "%00", String(repeating: "A", count: 5_000)] {
                    cases.append(("\(list)&cursor=\(wrong)", "cursor"))
                }
                cases.append(("\(list)&order=up", "order"))
            }
            cases += [
                ("\(threads)&limit=101", "limit"), ("\(messages)&cursor=\(cursor)", "cursor"),
                ("\(ofThread)&cursor=\(cursor)", "cursor"),
                ("\(threads)&order=asc&cursor=\(cursor)", "cursor"),
                ("\(threads)&cursor=\(cursor)x", "cursor"), ("\(messages)&before=yesterday", "before"),
                ("\(messages)&after=2025-02-30", "after"), ("\(messages)&after=5", "after"),
                ("\(messages)&before=%00", "before"), ("/v1/messages?inbox_id=x", "inbox_id"),
                ("/v1/messages?domain_id=%27", "domain_id"), ("/v1/threads?inbox_id=x", "inbox_id"),
            ]
            for (path, parameter) in cases {
                let reply = try await platform.get(path)
                #expect(reply.status == 400, "\(path): \(reply.text)")
                #expect(reply.paths == [parameter], "\(path): \(reply.text)")
            }
            for path in ["/v1/messages", "/v1/threads", "/v1/messages?limit=5", "/v1/threads?inbox_id="] {
                #expect(try await platform.get(path).status == 400, "\(path)")
            }
            for sender in ["%00", "a%00b@x.test", "%ff%fe", "'", String(repeating: "a", count: 5_000)] {
                let reply = try await platform.get("/v1/messages?sender=\(sender)")
                #expect([200, 400].contains(reply.status), "\(sender): \(reply.text)")
                #expect(reply.body["data"].elements.isEmpty)
            }
            #expect(try await platform.get("\(threads)&limit=1&cursor=\(cursor)").status == 200)
        }
    }

    @Test("a thread that is not there, or not ours, has no messages to show")
    func unknownThread() async throws {
        try await withPlatform { platform in
            let stranger = try await platform.stranger()
            let inbox = try await platform.makeInbox("sender")
            let thread = try await platform.receive("<1@x>", in: inbox)
            let unknown = "thread_\(ThreadID())"
            for (path, key) in [
                (unknown, platform.key), ("thread_1", platform.key), (thread, stranger.key),
                (String(thread.dropFirst("thread_".count)), platform.key),
            ] {
                let reply = try await platform.get("/v1/threads/\(path)/messages", key: key)
                #expect(reply.status == 404, "\(path): \(reply.text)")
                #expect(reply.error == "Thread not found")
            }
            #expect(try await platform.get("/v1/threads/\(thread)/messages").status == 200)
        }
    }
}
