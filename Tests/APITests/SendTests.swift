// A send that is accepted: its rows, its jobs, its place in a thread, and what will be composed of it.

import Database
import Foundation
import Platform
import Store
import Testing

@Suite("An accepted send")
struct SendTests {
    private func valid(_ inbox: InboxID) -> JSON {
        [
            "to": "someone@elsewhere.test", "subject": "Hello", "text": "Hi",
            "inboxId": .string(inbox.description),
        ]
    }

    /// What composing will read.
    private func composition(_ reply: Reply, _ platform: APIPlatform) async throws -> JSON {
        let id = try #require(reply.body["data"]["message_id"].string)
        let message = try #require(MessageID(id, prefix: "msg_"))
        let rows = try await platform.database.query(
            .tenant(platform.org),
            "SELECT composition FROM message_bodies WHERE message_id = \(message)"
        )
        return try only(rows).json("composition", as: JSON.self)
    }

    @Test("answers with its ids once message, recipients and one job for each domain are committed")
    func rows() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender", name: "The Sender")
            let reply = try await platform.send([
                "to": ["One <one@first.test>", "ONE@first.test", "two@second.test"],
                "cc": "three@First.Test", "bcc": ["two@second.test", "four@third.test"],
                "subject": "Hello", "text": "Hi", "inboxId": .string(inbox.id.description),
            ])
            #expect(reply.status == 200, "\(reply.text)")
            let data = reply.body["data"]
            let id = try #require(data["message_id"].string)
            let message = try #require(MessageID(id, prefix: "msg_"))
            #expect(data["id"] == data["message_id"])
            #expect(data["status"] == "queued")
            #expect(data["smtp_message_id"].string == "<\(message)@\(platformDomain)>")
            #expect(data["thread_id"].string?.hasPrefix("thread_") == true)

            let recipients = try await platform.database.query(
                .tenant(platform.org),
                "SELECT role, address, domain, state FROM recipients WHERE message_id = \(message) ORDER BY ordinal"
            ).map { row in
                let words: [String] = [
                    try row("role"), try row("address"), try row("domain"), try row("state"),
                ]
                return words.joined(separator: " ")
            }
            // An address named twice gets one copy, in its first role.
            #expect(
                recipients == [
                    "to one@first.test first.test queued", "to two@second.test second.test queued",
                    "cc three@first.test first.test queued", "bcc four@third.test third.test queued",
                ]
            )
            let jobs = try await platform.database.query(
                .tenant(platform.org),
                "SELECT queue, payload->>'domain' AS domain, payload->>'message' AS message FROM jobs ORDER BY 2"
            )
            #expect(
                try jobs.map { try $0("domain") as String } == ["first.test", "second.test", "third.test"]
            )
            #expect(try jobs.allSatisfy { try $0("queue") == "send" && $0("message") == message.description })
        }
    }

    @Test("a bcc recipient is among the recipients and in no header")
    func bcc() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender", name: "The Sender")
            let reply = try await platform.send(
                valid(inbox.id).with("cc", "Copy <copy@elsewhere.test>").with("bcc", "hidden@elsewhere.test")
            )
            let composed = try await composition(reply, platform)
            #expect(composed["from"] == "The Sender <sender@agents.test>")
            #expect(composed["to"] == ["someone@elsewhere.test"])
            #expect(composed["cc"] == ["Copy <copy@elsewhere.test>"])
            #expect(!String(decoding: try composed.bytes, as: UTF8.self).contains("hidden"))
            #expect(try await platform.stored()["recipients"] == 3)
        }
    }

    @Test("custom headers and Reply-To are kept for composing, by either name")
    func headers() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            for name in ["reply_to", "replyTo"] {
                let reply = try await platform.send(
                    valid(inbox.id).with(name, "Desk <desk@elsewhere.test>")
                        .with("headers", ["X-Campaign": "spring", "List-Unsubscribe": "<https://x.test/u>"])
                )
                #expect(reply.status == 200, "\(reply.text)")
                let composed = try await composition(reply, platform)
                #expect(composed["replyTo"] == "Desk <desk@elsewhere.test>")
                let headers = composed["headers"].elements.map {
                    "\($0["name"].string ?? ""): \($0["value"].string ?? "")"
                }
                #expect(headers == ["List-Unsubscribe: <https://x.test/u>", "X-Campaign: spring"])
            }
        }
    }

    @Test("the sender is named by inboxId, inbox_id or from")
    func senders() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let bare = valid(inbox.id).without("inboxId")
            let id = JSON.string(inbox.id.description)
            for (body, from) in [
                (bare.with("inbox_id", id), "sender@agents.test"),
                (bare.with("inboxId", id), "sender@agents.test"),
                (bare.with("from", "sender@agents.test"), "sender@agents.test"),
                (bare.with("from", "Sales Team <SENDER@agents.test>"), "Sales Team <SENDER@agents.test>"),
            ] {
                let reply = try await platform.send(body)
                #expect(reply.status == 200, "\(reply.text)")
                #expect(try await composition(reply, platform)["from"] == .string(from))
            }
            let list = try await platform.get("/v1/messages?sender=Sender@agents.test")
            #expect(list.body["data"].elements.count == 4)
        }
    }

    @Test("of HTML alone the text is derived, and both are shown")
    func htmlOnly() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let html = "<p>Good <b>morning</b> &amp; welcome</p><script>no()</script>"
            let reply = try await platform.send(valid(inbox.id).without("text").with("html", .string(html)))
            #expect(reply.status == 200)
            let message = try await platform.get("/v1/messages?inbox_id=\(inbox.id)").body["data"][0]
            #expect(message["content"].string?.contains("Good morning & welcome") == true)
            #expect(message["content"].string?.contains("no()") == false)
            #expect(message["content_html"].string == html)
            let thread = try await platform.get("/v1/threads?inbox_id=\(inbox.id)").body["data"][0]
            #expect(thread["snippet"].string?.contains("Good morning") == true)
        }
    }

    @Test("any text of Unicode comes back as it was sent")
    func unicode() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let text = "Grüße 👩‍👩‍👧‍👦 \u{202e}abc \u{1F600} \\ \" ' \t\r\n zero\u{200b}width $1 %s {{x}}"
            let subject = "Ünïcode 🎉 \"quoted\" $$ 'x'"
            let reply = try await platform.send(
                valid(inbox.id).with("text", .string(text)).with("subject", .string(subject))
            )
            #expect(reply.status == 200)
            let message = try await platform.get("/v1/messages?inbox_id=\(inbox.id)").body["data"][0]
            #expect(message["content"].string == text)
            #expect(message["metadata"]["subject"].string == subject)
        }
    }

    @Test("an answer joins its thread, and answers the last mail that came in")
    func answer() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let first = try await platform.send(valid(inbox.id))
            let firstID = try #require(first.body["data"]["smtp_message_id"].string)
            let thread = first.body["data"]["thread_id"]
            let answer = valid(inbox.id).with("subject", "Re: Hello").with("thread_id", thread)

            // Nothing came in yet: it answers the message before it.
            let second = try await platform.send(answer.with("text", "Still there?"))
            #expect(second.status == 200, "\(second.text)")
            #expect(second.body["data"]["thread_id"] == thread)
            var composed = try await composition(second, platform)
            #expect(composed["inReplyTo"].string == firstID)
            #expect(composed["references"] == [.string(firstID)])

            let joined = try await platform.receive("<in@elsewhere.test>", inReplyTo: firstID, in: inbox)
            #expect(JSON.string(joined) == thread)
            _ = try await platform.send(answer)

            // Ours is the newest now, but the last of theirs is what is answered.
            let last = try await platform.send(answer.with("text", "Last words"))
            composed = try await composition(last, platform)
            #expect(composed["inReplyTo"] == "<in@elsewhere.test>")
            #expect(composed["references"] == [.string(firstID), "<in@elsewhere.test>"])

            let row = try await platform.get("/v1/threads?inbox_id=\(inbox.id)").body["data"]
            #expect(row.elements.count == 1)
            #expect(row[0]["message_count"] == 5)
            #expect(row[0]["last_direction"] == "outbound")
            #expect(row[0]["snippet"] == "Last words")
            #expect(row[0]["subject"] == "Hello")
        }
    }

    @Test("a mail that comes in turns the thread's last direction and counts")
    func inboundCounts() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let sent = try await platform.send(valid(inbox.id))
            let id = try #require(sent.body["data"]["smtp_message_id"].string)
            _ = try await platform.receive("<in@x>", inReplyTo: id, in: inbox, text: "An answer")
            let thread = try await platform.get("/v1/threads?inbox_id=\(inbox.id)").body["data"][0]
            #expect(thread["message_count"] == 2)
            #expect(thread["last_direction"] == "inbound")
            #expect(thread["snippet"] == "An answer")
        }
    }

    @Test("a message in a list has every member that clients read")
    func shape() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            _ = try await platform.send(valid(inbox.id).with("cc", "copy@elsewhere.test"))
            let message = try await platform.get("/v1/messages?inbox_id=\(inbox.id)").body["data"][0]
            #expect(
                message.names == [
                    "message_id", "thread_id", "channel", "direction", "participants", "content",
                    "content_html", "attachments", "created_at", "metadata",
                ]
            )
            #expect(message["channel"] == "email")
            #expect(message["direction"] == "outbound")
            #expect(message["attachments"] == [])
            #expect(
                message["participants"] == [
                    ["role": "sender", "identity": "sender@agents.test"],
                    ["role": "to", "identity": "someone@elsewhere.test"],
                    ["role": "cc", "identity": "copy@elsewhere.test"],
                ]
            )
            let metadata = message["metadata"]
            #expect(metadata["created_at"] == message["created_at"])
            #expect(metadata["inbox_id"].string == inbox.id.description)
            #expect(metadata["domain_id"].string == inbox.domain.description)
            #expect(metadata["message_id"].string?.hasPrefix("<") == true)
            let created = try #require(message["created_at"].string.flatMap { Timestamp(iso8601: $0) })
            #expect(abs((Timestamp.now - created).inSeconds) < 120)
        }
    }
}
