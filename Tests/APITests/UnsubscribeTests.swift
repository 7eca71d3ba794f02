// Unsubscribe links: GET asks, POST acts, nobody else's mail is touched. And what a send says of suppressed addresses.

import Database
import Foundation
import HTTPTypes
import HummingbirdTesting
import NIOCore
import Platform
import Store
import Testing

@testable import API

@Suite("Unsubscribe")
struct UnsubscribeTests {
    private let publicURL = ["COMMUNE_PUBLIC_URL": "https://mail.agents.test/"]

    private func send(
        _ platform: APIPlatform,
        to: JSON,
        _ inbox: Inbox,
        with fields: [(String, JSON)] = []
    ) async throws -> Reply {
        var body: JSON = ["subject": "Hello", "text": "Hi", "inboxId": .string(inbox.id.description)]
        body["to"] = to
        for (name, value) in fields { body[name] = value }
        return try await platform.send(body)
    }

    private func link(_ reply: Reply, _ platform: APIPlatform, ordinal: Int = 0) throws -> String {
        let id = try #require(reply.body["data"]["message_id"].string)
        let message = try #require(MessageID(id, prefix: "msg_"))
        let token = RecipientToken(org: platform.org, message: message, ordinal: ordinal)
        return "/unsubscribe?token=\(token.text(.unsubscribe, secrets: platform.store.secrets))"
    }

    /// A browser or a mail program: no key, and pages in answer.
    private func visit(
        _ method: HTTPRequest.Method,
        _ path: String,
        _ platform: APIPlatform,
        form: String? = nil
    ) async throws -> (status: Int, page: String, headers: HTTPFields) {
        let response = try await platform.client.execute(
            uri: path,
            method: method,
            headers: form == nil ? [:] : [.contentType: "application/x-www-form-urlencoded"],
            body: form.map { ByteBuffer(string: $0) }
        )
        let page = String(decoding: response.body.readableBytesView, as: UTF8.self)
        return (response.status.code, page, response.headers)
    }

    private func suppressed(_ platform: APIPlatform) async throws -> [String] {
        try await platform.database.query(
            .worker,
            "SELECT address_key || ' ' || reason AS line FROM suppressions ORDER BY 1"
        ).map { try $0("line") }
    }

    @Test(
        "GET shows a page with a button and changes nothing; POST suppresses, again too, and the next send leaves out"
    )
    func oneClick() async throws {
        try await withPlatform(settings: publicURL) { platform in
            let inbox = try await platform.makeInbox("sender")
            let sent = try await send(
                platform,
                to: ["One@x.test", "two@x.test"],
                inbox,
                with: [("list_unsubscribe", true)]
            )
            #expect(sent.status == 200, "\(sent.text)")
            #expect(sent.body["validation"] == .null)
            let link = try link(sent, platform)

            let shown = try await visit(.get, link, platform)
            #expect(shown.status == 200)
            #expect(shown.page.contains("<form method=\"post\">"))
            #expect(shown.headers[.contentType] == "text/html; charset=utf-8")
            #expect(shown.headers[.contentSecurityPolicy]?.contains("default-src 'none'") == true)
            #expect(!shown.page.contains("x.test"), "a link that was passed on tells no address")
            #expect(try await suppressed(platform) == [])

            for _ in 0..<2 {
                let done = try await visit(.post, link, platform, form: "List-Unsubscribe=One-Click")
                #expect(done.status == 200)
                #expect(done.page.contains("no more mail"))
                #expect(try await suppressed(platform) == ["one@x.test unsubscribe"])
            }
            let next = try await send(platform, to: ["one@x.test", "two@x.test"], inbox)
            #expect(next.status == 200)
            #expect(next.body["validation"]["suppressed"] == ["one@x.test"])
            #expect(next.body["validation"]["rejected"] == [])
        }
    }

    @Test(
        "a link without, with a forged or with another purpose's token is refused in JSON and changes nothing"
    )
    func forged() async throws {
        try await withPlatform(settings: publicURL) { platform in
            let inbox = try await platform.makeInbox("sender")
            let sent = try await send(platform, to: "one@x.test", inbox)
            let link = try link(sent, platform)
            let id = try #require(sent.body["data"]["message_id"].string)
            let token = RecipientToken(
                org: platform.org,
                message: try #require(MessageID(id, prefix: "msg_")),
                ordinal: 0
            )
            let bounce = token.text(.returnPath, secrets: platform.store.secrets)
            for method in [HTTPRequest.Method.get, .post] {
                for (path, status) in [
                    ("/unsubscribe", 400), ("/unsubscribe?token=", 400), ("\(link)x", 404),
                    ("/unsubscribe?token=\(bounce)", 404), ("/unsubscribe?token=%00", 404),
                    ("/unsubscribe?token=\(String(repeating: "a", count: 5_000))", 404),
                ] {
                    let reply = try await platform.call(method, path, key: nil, raw: nil)
                    #expect(reply.status == status, "\(method) \(path.prefix(80)): \(reply.text)")
                    #expect(!reply.error.isEmpty)
                }
            }
            #expect(try await suppressed(platform) == [])
        }
    }

    @Test("when every recipient is suppressed it is 400 with their addresses, and nothing is stored")
    func everybody() async throws {
        try await withPlatform(settings: publicURL) { platform in
            let inbox = try await platform.makeInbox("sender")
            let sent = try await send(platform, to: "one@x.test", inbox)
            _ = try await visit(.post, link(sent, platform), platform)
            let before = try await platform.stored()
            let reply = try await send(platform, to: "ONE@x.test", inbox)
            #expect(reply.status == 400)
            #expect(!reply.error.isEmpty)
            #expect(reply.body["validation"]["suppressed"] == ["ONE@x.test"])
            #expect(try await platform.stored() == before)
        }
    }

    @Test("an inbox that is made so asks for the headers by itself, and says so")
    func byInbox() async throws {
        try await withPlatform(settings: publicURL) { platform in
            let made = try await platform.post(
                "/v1/inboxes",
                ["local_part": "news", "list_unsubscribe": true]
            )
            #expect(made.body["data"]["listUnsubscribe"] == true)
            let inbox = try #require(made.body["data"]["id"].string)
            let reply = try await platform.send([
                "to": ["one@x.test", "two@x.test"], "subject": "Hello", "text": "Hi",
                "inboxId": .string(inbox),
            ])
            #expect(reply.status == 200)
            let rows = try await platform.database.query(
                .tenant(platform.org),
                "SELECT composition ->> 'unsubscribeURL' AS url, (SELECT count(*) FROM jobs) AS jobs FROM message_bodies"
            )
            #expect(try only(rows)("url") == "https://mail.agents.test/unsubscribe?token=")
            #expect(try only(rows)("jobs") == 2)
        }
    }

    @Test("without a public address such a send is 400 and says why")
    func noPublicURL() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let reply = try await send(platform, to: "one@x.test", inbox, with: [("listUnsubscribe", true)])
            #expect(reply.status == 400)
            #expect(reply.error.contains("COMMUNE_PUBLIC_URL"))
            let wrong = try await send(platform, to: "one@x.test", inbox, with: [("list_unsubscribe", "yes")])
            #expect(wrong.status == 400)
            #expect(wrong.paths == ["list_unsubscribe"])
        }
    }

    @Test(
        "a public address that no link can have is a fault of the configuration",
        arguments: [
            "mail.test", "ftp://mail.test", "https://", "https://mail.test/?a=b", "https://mail.test/<x>",
            "https://mail.test/a b",
        ]
    )
    func configuration(_ text: String) {
        var settings = Settings(["COMMUNE_PUBLIC_URL": text])
        _ = APIConfiguration(reading: &settings)
        #expect(settings.faults.contains { $0.variable == "COMMUNE_PUBLIC_URL" })
    }
}
