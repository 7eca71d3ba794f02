// Sends that must be refused: each with its clear error, and nothing of it stored.

import Database
import Foundation
import HTTPTypes
import Platform
import Store
import Testing

/// A request that must be refused.
private struct Refused {
    let name: String
    let body: JSON
    var status = 400
    /// Part of the sentence.
    let says: String
    /// The field at fault, where there is one.
    var path: String?
}

@Suite("Refused sends")
struct BadSendTests {
    private func expect(_ cases: [Refused], _ platform: APIPlatform) async throws {
        let before = try await platform.stored()
        for refused in cases {
            let reply = try await platform.send(refused.body)
            #expect(reply.status == refused.status, "\(refused.name): \(reply.text)")
            #expect(reply.error.contains(refused.says), "\(refused.name): \(reply.text)")
            if let path = refused.path {
                #expect(reply.paths.first == path, "\(refused.name): \(reply.text)")
            }
            #expect(try await platform.stored() == before, "\(refused.name) left something behind")
        }
    }

    private func valid(_ inbox: String) -> JSON {
        ["to": "someone@elsewhere.test", "subject": "Hello", "text": "Hi", "inboxId": .string(inbox)]
    }

    @Test("a send with a field of the wrong type is refused by the field's name")
    func wrongTypes() async throws {
        try await withPlatform { platform in
            let valid = valid(try await platform.makeInbox("sender").id.description)
            let text = "must be a string."
            let addresses = "must be a string or a list of strings."
            var cases: [Refused] = []
            for field in ["to", "cc", "bcc"] {
                for wrong: JSON in [5, true, [:], [1], [["a"]], [nil]] {
                    cases.append(
                        Refused(
                            name: "\(field): \(wrong)",
                            body: valid.with(field, wrong),
                            says: addresses,
                            path: field
                        )
                    )
                }
            }
            let texts = [
                "subject", "text", "html", "from", "inboxId", "inbox_id", "reply_to", "replyTo", "thread_id",
            ]
            for field in texts {
                for wrong: JSON in [5, false, [:], ["a"]] {
                    // Of two names for one thing the first counts, so only one of them is given.
                    let body = field == "inbox_id" ? valid.without("inboxId") : valid
                    cases.append(
                        Refused(
                            name: "\(field): \(wrong)",
                            body: body.with(field, wrong),
                            says: text,
                            path: field
                        )
                    )
                }
            }
            for wrong: JSON in [5, "x", ["a"]] {
                cases.append(
                    Refused(
                        name: "headers: \(wrong)",
                        body: valid.with("headers", wrong),
                        says: "must be an object.",
                        path: "headers"
                    )
                )
            }
            cases.append(
                Refused(
                    name: "a header's value",
                    body: valid.with("headers", ["X-A": 5]),
                    says: text,
                    path: "headers.X-A"
                )
            )
            try await expect(cases, platform)
        }
    }

    @Test("a send without what it needs is refused by the missing field's name")
    func missing() async throws {
        try await withPlatform { platform in
            let valid = valid(try await platform.makeInbox("sender").id.description)
            try await expect(
                [
                    Refused(name: "no to", body: valid.without("to"), says: "to is required.", path: "to"),
                    Refused(name: "null to", body: valid.with("to", nil), says: "to", path: "to"),
                    Refused(name: "empty to", body: valid.with("to", []), says: "at least one", path: "to"),
                    Refused(name: "to of nothing", body: valid.with("to", ""), says: "e-mail", path: "to"),
                    Refused(
                        name: "no subject",
                        body: valid.without("subject"),
                        says: "subject is required.",
                        path: "subject"
                    ),
                    Refused(name: "null subject", body: valid.with("subject", nil), says: "subject"),
                    Refused(
                        name: "no content",
                        body: valid.without("text"),
                        says: "text or html is required.",
                        path: "text"
                    ),
                    Refused(
                        name: "empty content",
                        body: valid.with("text", "").with("html", ""),
                        says: "required"
                    ),
                    Refused(name: "no sender", body: valid.without("inboxId"), says: "No sender"),
                ],
                platform
            )
        }
    }

    @Test("bodies that are no JSON object are refused")
    func notJSON() async throws {
        try await withPlatform { platform in
            let before = try await platform.stored()
            let bodies: [(String, String, String)] = [
                ("nothing", "", "The request needs a JSON body."),
                ("half an object", "{\"to\": ", "not valid JSON"),
                ("a comma too many", "{\"to\": \"a@b.test\",,}", "not valid JSON"),
                ("text", "hello", "not valid JSON"),
                ("a list", "[]", "must be a JSON object"),
                ("a list of objects", "[{\"to\": \"a@b.test\"}]", "must be a JSON object"),
                ("a string", "\"to\"", "must be a JSON object"),
                ("null", "null", "JSON"),
                ("a number", "5", "must be a JSON object"),
                ("a deep nest", String(repeating: "[", count: 100_000), "JSON"),
            ]
            for path in ["/v1/messages/send", "/v1/inboxes"] {
                for (name, body, says) in bodies {
                    let reply = try await platform.call(
                        .post,
                        path,
                        key: platform.key,
                        raw: Array(body.utf8)
                    )
                    #expect(reply.status == 400, "\(path), \(name): \(reply.text)")
                    #expect(reply.error.contains(says), "\(path), \(name): \(reply.text)")
                }
                let none = try await platform.call(.post, path, key: platform.key, raw: nil)
                #expect(none.status == 400)
                let broken = try await platform.call(
                    .post,
                    path,
                    key: platform.key,
                    raw: Array("{\"subject\": \"".utf8) + [0xff, 0xfe] + Array("\"}".utf8)
                )
                #expect(broken.status == 400)
            }
            #expect(try await platform.stored() == before)
        }
    }

    @Test("nothing can be smuggled into the header by a line break, a NUL or a reserved name")
    func headerInjection() async throws {
        try await withPlatform { platform in
            let valid = valid(try await platform.makeInbox("sender").id.description)
            var cases: [Refused] = []
            let breaks = ["\r\nBcc: a@b.test", "\n x", "\r", "\0", "\r\n\r\nbody"]
            for text in breaks {
                let name = text.debugDescription
                let value = JSON.string("a\(text)")
                cases += [
                    Refused(
                        name: "subject \(name)",
                        body: valid.with("subject", value),
                        says: "line breaks",
                        path: "subject"
                    ),
                    Refused(
                        name: "header value \(name)",
                        body: valid.with("headers", ["X-A": value]),
                        says: "line break",
                        path: "headers.X-A"
                    ),
                    Refused(
                        name: "header name \(name)",
                        body: valid.with("headers", .object(["X-A\(text)": "v"])),
                        says: "header name"
                    ),
                ]
                for field in ["to", "cc", "bcc", "reply_to", "replyTo", "from"] {
                    for form in ["x@y.test\(text)", "A\(text) <x@y.test>", "x\(text)@y.test"] {
                        cases.append(
                            Refused(
                                name: "\(field) \(form.debugDescription)",
                                body: valid.with(field, .string(form)),
                                says: "is not an e-mail address",
                                path: field == "replyTo" ? "reply_to" : field
                            )
                        )
                    }
                }
            }
            for name in [
                "From", "TO", "Cc", "bcc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To",
                "References", "Sender", "Return-Path", "Received", "DKIM-Signature", "MIME-Version",
                "Content-Type", "content-transfer-encoding", "Authentication-Results", "Resent-From",
                "ARC-Seal",
            ] {
                cases.append(
                    Refused(
                        name: name,
                        body: valid.with("headers", .object([name: "v"])),
                        says: "set by the platform",
                        path: "headers.\(name)"
                    )
                )
            }
            for name in ["", "X A", "X:A", "Ä", "X-\u{7f}", String(repeating: "x", count: 77)] {
                cases.append(
                    Refused(
                        name: "header name \(name.debugDescription)",
                        body: valid.with("headers", .object([name: "v"])),
                        says: "header name"
                    )
                )
            }
            for field in ["text", "html"] {
                cases.append(
                    Refused(
                        name: "NUL in \(field)",
                        body: valid.with(field, "a\0b"),
                        says: "NUL",
                        path: field
                    )
                )
            }
            try await expect(cases, platform)
        }
    }

    @Test("more than 50 recipients are refused, in one field or over all three; 50 are not")
    func recipients() async throws {
        @Sendable func many(_ count: Int, _ prefix: String) -> JSON {
            .array((0..<count).map { .string("\(prefix)\($0)@elsewhere.test") })
        }
        try await withPlatform { platform in
            let valid = valid(try await platform.makeInbox("sender").id.description)
            try await expect(
                [
                    Refused(
                        name: "to",
                        body: valid.with("to", many(51, "a")),
                        says: "at most 50",
                        path: "to"
                    ),
                    Refused(
                        name: "cc",
                        body: valid.with("cc", many(51, "a")),
                        says: "at most 50",
                        path: "cc"
                    ),
                    Refused(
                        name: "spread",
                        body: valid.with("to", many(17, "a")).with("cc", many(17, "b"))
                            .with("bcc", many(17, "c")),
                        says: "51 recipients",
                        path: "to"
                    ),
                    Refused(
                        name: "one to and fifty bcc",
                        body: valid.with("bcc", many(50, "c")),
                        says: "at most 50"
                    ),
                    Refused(name: "very many", body: valid.with("to", many(20_000, "a")), says: "at most 50"),
                ],
                platform
            )
            let most = valid.with("to", many(20, "a")).with("cc", many(20, "b")).with("bcc", many(10, "c"))
            let reply = try await platform.send(most)
            #expect(reply.status == 200, "\(reply.text)")
            #expect(try await platform.stored()["recipients"] == 50)
        }
    }

    @Test("what is no e-mail address is refused, and every wrong one is named")
    func addresses() async throws {
        try await withPlatform { platform in
            let valid = valid(try await platform.makeInbox("sender").id.description)
            let wrong = [
                "", " ", "plain", "@elsewhere.test", "a@", "a b@elsewhere.test", "a@b@c.test", "a@-x.test",
                "a@x..test", "a..b@x.test", "<a@x.test", "a@x.test>", "a@[127.0.0.1]", "a@x.test, b@x.test",
                String(repeating: "a", count: 65) + "@x.test",
                "a@" + String(repeating: "a.", count: 130) + "test",
            ]
            try await expect(
                wrong.map {
                    Refused(
                        name: $0,
                        body: valid.with("to", .string($0)),
                        says: "to is not an e-mail",
                        path: "to"
                    )
                },
                platform
            )
            let reply = try await platform.send(
                valid.with("to", ["good@x.test", "bad", "worse@"]).with("cc", "none").with("reply_to", "x")
            )
            #expect(reply.status == 400)
            #expect(reply.paths == ["to[1]", "to[2]", "cc", "reply_to"])
        }
    }

    @Test("a subject has at most 500 characters, however they are made up")
    func subject() async throws {
        try await withPlatform { platform in
            let valid = valid(try await platform.makeInbox("sender").id.description)
            @Sendable func subject(_ text: String) -> JSON { valid.with("subject", .string(text)) }
            try await expect(
                [
                    Refused(
                        name: "501",
                        body: subject(String(repeating: "ä", count: 501)),
                        says: "at most 500",
                        path: "subject"
                    ),
                    Refused(
                        name: "one letter with 600 accents",
                        body: subject("e" + String(repeating: "\u{301}", count: 600)),
                        says: "at most 500",
                        path: "subject"
                    ),
                ],
                platform
            )
            let reply = try await platform.send(subject(String(repeating: "ä", count: 500)))
            #expect(reply.status == 200)
        }
    }

    @Test("an absurd number of headers gets a short answer")
    func manyHeaders() async throws {
        try await withPlatform { platform in
            let valid = valid(try await platform.makeInbox("sender").id.description)
            let headers = Dictionary(
                uniqueKeysWithValues: (0..<20_000).map { ("bad \($0)", JSON.string("v")) }
            )
            let before = try await platform.stored()
            let reply = try await platform.send(valid.with("headers", .object(headers)))
            #expect(reply.status == 400)
            #expect(reply.error.contains("more than 50 headers"))
            #expect(reply.text.utf8.count < 10_000)
            #expect(try await platform.stored() == before)
        }
    }

    @Test("an inbox or thread that is not there, or not ours, is not found, and sends nothing")
    func unknown() async throws {
        try await withPlatform { platform in
            let mine = try await platform.makeInbox("sender")
            let stranger = try await platform.stranger()
            let theirs = try await platform.makeInbox("theirs", org: stranger.org)
            let valid = valid(mine.id.description)
            let sent = try await platform.post(
                "/v1/messages/send",
                self.valid(theirs.id.description),
                key: stranger.key
            )
            let theirThread = sent.body["data"]["thread_id"]
            #expect(sent.status == 200)
            try await expect(
                [
                    Refused(
                        name: "an inbox nobody has",
                        body: valid.with("inboxId", .string(InboxID().description)),
                        status: 404,
                        says: "Inbox not found"
                    ),
                    Refused(
                        name: "an id that is none",
                        body: valid.with("inboxId", "my-inbox"),
                        status: 404,
                        says: "Inbox not found"
                    ),
                    Refused(
                        name: "another organization's inbox",
                        body: valid.with("inboxId", .string(theirs.id.description)),
                        status: 404,
                        says: "Inbox not found"
                    ),
                    Refused(
                        name: "another organization's address",
                        body: valid.with("from", .string(theirs.address)),
                        status: 403,
                        says: "not one of your inboxes"
                    ),
                    Refused(
                        name: "an address of nobody",
                        body: valid.with("from", "someone@elsewhere.test"),
                        status: 403,
                        says: "not one of your inboxes"
                    ),
                    Refused(
                        name: "a thread nobody has",
                        body: valid.with("thread_id", .string("thread_\(ThreadID())")),
                        status: 404,
                        says: "Thread not found"
                    ),
                    Refused(
                        name: "a thread id that is none",
                        body: valid.with("thread_id", "thread_1"),
                        status: 404,
                        says: "Thread not found"
                    ),
                    Refused(
                        name: "another organization's thread",
                        body: valid.with("thread_id", theirThread),
                        status: 404,
                        says: "Thread not found"
                    ),
                ],
                platform
            )
        }
    }

    @Test("an inactive inbox cannot send")
    func inactive() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sleeping")
            try await platform.database.query(
                .tenant(platform.org),
                "UPDATE inboxes SET status = 'inactive' WHERE id = \(inbox.id)"
            )
            try await expect(
                [Refused(name: "inactive", body: valid(inbox.id.description), says: "inactive")],
                platform
            )
        }
    }
}
