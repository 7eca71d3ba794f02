// Attachments: uploads in every form, what is refused, links, and sends that carry them.

import Blobs
import Database
import Foundation
import HTTPTypes
import HummingbirdTesting
import NIOCore
import Platform
import Store
import Testing

@testable import API

@Suite("Attachments")
struct AttachmentTests {
    private static let path = "/v1/attachments/upload"

    private func json(_ content: [UInt8], name: String = "f.pdf", type: String = "application/pdf") -> JSON {
        [
            "content": .string(Data(content).base64EncodedString()), "filename": .string(name),
            "mime_type": .string(type),
        ]
    }

    private func upload(
        _ content: [UInt8],
        _ platform: APIPlatform,
        name: String = "f.pdf"
    ) async throws -> String {
        let reply = try await platform.post(Self.path, json(content, name: name))
        #expect(reply.status == 201, "\(reply.text)")
        return try #require(reply.body["data"]["attachment_id"].string)
    }

    /// A GET without a key, of an absolute or relative URL of ours.
    private func download(_ url: String, _ platform: APIPlatform) async throws -> TestResponse {
        let path = url.replacing("http://localhost:8080", with: "")
        return try await platform.client.execute(uri: path, method: .get)
    }

    private func link(
        _ id: String,
        _ platform: APIPlatform,
        org: OrgID? = nil,
        in time: Duration
    ) throws -> String {
        let attachment = try #require(AttachmentID(hexadecimal: id))
        return DownloadLink(attachment, org: org ?? platform.org, expiresAt: .now + time)
            .url(base: "", secrets: platform.store.secrets)
    }

    // MARK: Uploads that are taken

    @Test("an upload is there with all its members, and its link gives the same bytes without a key")
    func roundTrip() async throws {
        try await withPlatform { platform in
            let content = (0..<700_001).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
            let reply = try await platform.post(
                Self.path,
                json(content, name: "Bericht \"Q3\" – Ümläut.pdf")
            )
            #expect(reply.status == 201, "\(reply.text)")
            let data = reply.body["data"]
            #expect(data.names == ["attachment_id", "filename", "mime_type", "size"])
            let id = try #require(data["attachment_id"].string)
            #expect(id.wholeMatch(of: /[0-9a-f]{32}/) != nil)
            #expect(data["filename"] == "Bericht \"Q3\" – Ümläut.pdf")
            #expect(data["size"] == 700_001)

            let shown = try await platform.get("/v1/attachments/\(id)")
            #expect(shown.status == 200)
            #expect(
                shown.body["data"] == [
                    "attachment_id": .string(id), "filename": data["filename"],
                    "mime_type": "application/pdf", "size": 700_001, "storage_type": "database",
                    "source": "upload", "message_id": "",
                ]
            )
            let asked = try await platform.get("/v1/attachments/\(id)/url?expires_in=60")
            #expect(asked.status == 200, "\(asked.text)")
            let linked = asked.body["data"]
            #expect(linked.names == ["url", "expires_in", "filename", "mime_type", "size"])
            #expect(linked["expires_in"] == 60)
            let url = try #require(linked["url"].string)
            #expect(url.hasPrefix("http://localhost:8080/v1/attachments/\(id)/download?expires="))
            let file = try await download(url, platform)
            #expect(file.status == .ok)
            #expect(Array(file.body.readableBytesView) == content)
            #expect(file.headers[.contentType] == "application/pdf")
            #expect(
                file.headers[.contentDisposition]
                    == "attachment; filename=\"Bericht _Q3_ _ _ml_ut.pdf\"; "
                    + "filename*=UTF-8''Bericht%20%22Q3%22%20%E2%80%93%20%C3%9Cml%C3%A4ut.pdf"
            )
            #expect(file.headers[.xContentTypeOptions] == "nosniff")
            #expect(file.headers[.contentSecurityPolicy]?.hasPrefix("sandbox") == true)
            #expect(file.headers[.contentLength] == "700001")
        }
    }

    @Test("raw bytes are taken whatever the type says, by name, by type, or by neither")
    func raw() async throws {
        try await withPlatform { platform in
            let cases: [(name: String?, type: String?, expected: (String, String))] = [
                ("a.png", nil, ("a.png", "image/png")),
                ("a.unheard", nil, ("a.unheard", "application/octet-stream")),
                ("none", nil, ("none", "application/octet-stream")),
                ("a.png", "application/json", ("a.png", "image/png")),
                ("a.json", "application/json", ("a.json", "application/json")),
                ("a.png", "text/csv; charset=utf-8", ("a.png", "text/csv; charset=utf-8")),
                ("ü 1.pdf", "application/x-www-form-urlencoded", ("ü 1.pdf", "application/pdf")),
                (nil, "image/gif", ("attachment", "image/gif")),
            ]
            // What would be JSON without a name is bytes with one.
            let content = Array(#"{"content":"AAAA"}"#.utf8)
            for (name, type, expected) in cases {
                var headers: HTTPFields = [:]
                headers[.other("X-Filename")] = name
                headers[.contentType] = type
                let reply = try await platform.call(
                    .post,
                    Self.path,
                    key: platform.key,
                    raw: content,
                    headers: headers
                )
                #expect(reply.status == 201, "\(name ?? "-"), \(type ?? "-"): \(reply.text)")
                #expect(reply.body["data"]["filename"].string == expected.0)
                #expect(reply.body["data"]["mime_type"].string == expected.1)
                #expect(reply.body["data"]["size"] == .number(Double(content.count)))
                let id = try #require(reply.body["data"]["attachment_id"].string)
                let file = try await download(try link(id, platform, in: .seconds(60)), platform)
                #expect(Array(file.body.readableBytesView) == content)
            }
        }
    }

    @Test("25 MiB are taken, in both forms, and a byte more is 413 in both")
    func limit() async throws {
        try await withPlatform { platform in
            let most = [UInt8](repeating: 0x5a, count: Store.attachmentSizeMax)
            let before = try await platform.stored()
            let named: HTTPFields = [.other("X-Filename"): "a.bin"]
            let tooMuch: [([UInt8], HTTPFields)] = [
                (most + [1], named), (try json(most + [1]).bytes, [:]),
                ([UInt8](repeating: 0x20, count: 34 << 20 + 1), [:]),
            ]
            for (raw, headers) in tooMuch {
                let reply = try await platform.call(
                    .post,
                    Self.path,
                    key: platform.key,
                    raw: raw,
                    headers: headers
                )
                #expect(reply.status == 413, "\(raw.count) bytes: \(reply.text)")
            }
            #expect(try await platform.stored() == before)
            let fitting: [([UInt8], HTTPFields)] = [(most, named), (try json(most).bytes, [:])]
            for (raw, headers) in fitting {
                let reply = try await platform.call(
                    .post,
                    Self.path,
                    key: platform.key,
                    raw: raw,
                    headers: headers
                )
                #expect(reply.status == 201, "\(reply.text)")
                #expect(reply.body["data"]["size"] == .number(Double(most.count)))
            }
            #expect(try await platform.stored()["blob_chunks"] == 200)
        }
    }

    // MARK: Uploads that are refused

    @Test("what is wrong is 400 by its field, and nothing is stored")
    func refused() async throws {
        try await withPlatform { platform in
            let good = json([1, 2, 3])
            let before = try await platform.stored()
            let cases: [(JSON, path: String?)] = [
                (good.with("content", ""), "content"), (good.with("content", "AAA"), "content"),
                (good.with("content", "not base64!"), "content"), (good.with("content", 1), "content"),
                (good.with("content", nil), "content"), (good.without("content"), "content"),
                (good.without("filename"), "filename"), (good.with("filename", ""), "filename"),
                (good.with("filename", "a\r\nb"), "filename"), (good.with("filename", "a\u{0}b"), "filename"),
                (good.with("filename", .string(String(repeating: "x", count: 256))), "filename"),
                (good.with("filename", []), "filename"), (good.without("mime_type"), "mime_type"),
                (good.with("mime_type", "pdf"), "mime_type"),
                (good.with("mime_type", "text/plain\r\nX-Evil: 1"), "mime_type"),
                (good.with("content_id", "<a@b>"), "content_id"),
                (good.with("content_id", "a b"), "content_id"), ([], nil), ("AAAA", nil),
            ]
            for (body, path) in cases {
                let reply = try await platform.post(Self.path, body)
                #expect(reply.status == 400, "\(body): \(reply.text)")
                #expect(reply.paths == [path].compactMap { $0 }, "\(body): \(reply.text)")
            }
            for raw: [UInt8] in [[], Array("{".utf8), Array("content".utf8)] {
                let reply = try await platform.call(.post, Self.path, key: platform.key, raw: raw)
                #expect(reply.status == 400, "\(reply.text)")
            }
            let headed: [(HTTPFields, Int)] = [
                ([.other("X-Filename"): "a.pdf"], 400), ([.contentType: "a b"], 400),
                ([.contentType: "multipart/form-data; boundary=x"], 415),
            ]
            for (headers, status) in headed {
                let reply = try await platform.call(
                    .post,
                    Self.path,
                    key: platform.key,
                    raw: status == 400 && headers[.contentType] == nil ? [] : [1],
                    headers: headers
                )
                #expect(reply.status == status, "\(headers): \(reply.text)")
            }
            #expect(try await platform.stored() == before)
        }
    }

    @Test("a client that hangs up in the middle leaves nothing")
    func cutOff() async throws {
        try await withPlatform(.live) { platform in
            let before = try await platform.stored()
            let port = try #require(platform.client.port)
            let head =
                "POST \(Self.path) HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(platform.key)\r\n"
                + "X-Filename: a.bin\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
            // It ends its side after a hundred bytes of a thousand.
            let answer = try await exchange(port, [head, String(repeating: "x", count: 100)], ending: true)
            #expect(!answer.contains(" 201 "), "\(answer)")
            #expect(try await platform.stored() == before)
        }
    }

    @Test("a folder where nothing can be written is a fault at the start")
    func spoolFolder() {
        var settings = Settings(["COMMUNE_SPOOL": "/proc/nowhere"])
        _ = APIConfiguration(reading: &settings)
        #expect(settings.faults.contains { $0.variable == "COMMUNE_SPOOL" })
    }

    // MARK: Reading

    @Test("ids that are not there, not ours or no ids are 404")
    func unknown() async throws {
        try await withPlatform { platform in
            let id = try await upload([1], platform)
            let stranger = try await platform.stranger()
            for other in [AttachmentID().hexadecimal, "x", "0", id + "0", String(id.dropLast()) + "g"] {
                for path in ["/v1/attachments/\(other)", "/v1/attachments/\(other)/url"] {
                    let reply = try await platform.get(path)
                    #expect(reply.status == 404, "\(path)")
                    #expect(reply.error == "Attachment not found")
                }
            }
            for path in ["/v1/attachments/\(id)", "/v1/attachments/\(id)/url"] {
                #expect(try await platform.get(path, key: stranger.key).status == 404)
                #expect(try await platform.get(path).status == 200)
            }
            for seconds in ["0", "86401", "-1", "x", "1.5"] {
                let reply = try await platform.get("/v1/attachments/\(id)/url?expires_in=\(seconds)")
                #expect(reply.status == 400, "\(seconds)")
                #expect(reply.paths == ["expires_in"])
            }
            let reply = try await platform.get("/v1/attachments/\(id)/url")
            #expect(reply.body["data"]["expires_in"] == 3600)
        }
    }

    @Test("a link is good until it expires, for its own attachment alone; altered it is nothing")
    func links() async throws {
        try await withPlatform { platform in
            let id = try await upload([1, 2, 3], platform)
            let other = try await upload([4], platform)
            let stranger = try await platform.stranger()
            let good = try link(id, platform, in: .seconds(5))
            #expect(try await download(good, platform).status == .ok)

            let expired = try await download(try link(id, platform, in: .seconds(-1)), platform)
            #expect(expired.status == .gone)
            #expect(String(buffer: expired.body).contains("expired"))

            let foreign = try link(id, platform, org: stranger.org, in: .seconds(60))
            let parts = try #require(URLComponents(string: good)?.queryItems)
            let expires = try #require(parts.first { $0.name == "expires" }?.value)
            let signature = try #require(parts.first { $0.name == "signature" }?.value)
            let own = "/v1/attachments/\(id)/download"
            let altered = [
                own, "\(own)?expires=\(expires)", "\(own)?signature=\(signature)",
                "\(own)?expires=\(expires)0&signature=\(signature)",
                "\(own)?expires=x&signature=\(signature)",
                "\(own)?expires=\(expires)&signature=\(signature.dropLast())",
                "\(own)?expires=\(expires)&signature=A\(signature.dropFirst())",
                good.replacing(id, with: other), foreign,
                "/v1/attachments/x/download?expires=\(expires)&signature=\(signature)",
            ]
            for path in altered where path != good {
                let reply = try await download(path, platform)
                #expect(reply.status == .notFound, "\(path)")
            }
        }
    }

    // MARK: Sending

    @Test("a send carries its attachments: listed with the message, shown on the thread, and attached")
    func send() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let first = try await upload([1, 2], platform)
            let second = try await upload([3], platform, name: "b.txt")
            let body: JSON = [
                "to": "a@elsewhere.test", "subject": "s", "text": "t",
                "inboxId": .string(inbox.id.description),
            ]
            // One that is named twice goes once.
            let reply = try await platform.send(
                body.with("attachments", [.string(second), .string(first), .string(second)])
            )
            #expect(reply.status == 200, "\(reply.text)")
            let list = try await platform.get("/v1/messages?inbox_id=\(inbox.id)")
            #expect(list.body["data"][0]["attachments"] == [.string(second), .string(first)])
            let thread = try await platform.get("/v1/threads?inbox_id=\(inbox.id)").body["data"][0]
            #expect(thread["has_attachments"] == true)
            let message = reply.body["data"]["message_id"]
            #expect(try await platform.get("/v1/attachments/\(first)").body["data"]["message_id"] == message)

            // A second message may carry it too; it belongs to the first.
            let again = try await platform.send(
                body.with("attachments", [.string(first)]).with("thread_id", thread["thread_id"])
            )
            #expect(again.status == 200)
            #expect(try await platform.get("/v1/attachments/\(first)").body["data"]["message_id"] == message)
            let plain = try await platform.send(body.with("attachments", []))
            #expect(plain.status == 200)
        }
    }

    @Test("an attachment that is not there, or not ours, is 404, and nothing is sent")
    func sendUnknown() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let own = try await upload([1], platform)
            let stranger = try await platform.stranger()
            let theirs = try await platform.post(Self.path, json([1]), key: stranger.key)
            let foreign = theirs.body["data"]["attachment_id"]
            let before = try await platform.stored()
            for ids: JSON in [
                [.string(AttachmentID().hexadecimal)], [.string(own), "x"], [foreign],
                [.string(own), foreign], [""],
            ] {
                let reply = try await platform.send([
                    "to": "a@elsewhere.test", "subject": "s", "text": "t",
                    "inboxId": .string(inbox.id.description), "attachments": ids,
                ])
                #expect(reply.status == 404, "\(ids): \(reply.text)")
                #expect(reply.error == "Attachment not found")
            }
            let many = try await platform.send([
                "to": "a@elsewhere.test", "subject": "s", "text": "t",
                "inboxId": .string(inbox.id.description),
                "attachments": .array((0...100).map { _ in .string(AttachmentID().hexadecimal) }),
            ])
            #expect(many.status == 400)
            #expect(many.paths == ["attachments"])
            #expect(try await platform.stored() == before)
        }
    }

    @Test("a message over 40 MiB as it is composed is 413 at the send, and nothing is sent")
    func sendTooLarge() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            // 15 MiB take 20.5 in base64 with its line ends: one more or less decides.
            let size = 15 << 20
            var ids: [JSON] = []
            for _ in 0..<2 {
                ids.append(.string(try await upload([UInt8](repeating: 7, count: size), platform)))
            }
            let small = try await upload([UInt8](repeating: 7, count: 9 << 20), platform)
            let before = try await platform.stored()
            func body(_ ids: [JSON]) -> JSON {
                [
                    "to": "a@elsewhere.test", "subject": "s", "text": "t",
                    "inboxId": .string(inbox.id.description), "attachments": .array(ids),
                ]
            }
            let refused = try await platform.send(body(ids))
            #expect(refused.status == 413, "\(refused.text)")
            #expect(refused.error.contains("40 MiB"))
            #expect(try await platform.stored() == before)
            let taken = try await platform.send(body([ids[0], .string(small)]))
            #expect(taken.status == 200, "\(taken.text)")
        }
    }
}
