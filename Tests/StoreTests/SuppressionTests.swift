// Who is not written to: how an address comes to it, and what a send does then.

import Database
import Foundation
import Mail
import Platform
import Store
import Testing

@Suite("Suppressions")
struct SuppressionTests {
    private func suppress(
        _ keys: [String],
        _ reason: Suppression.Reason = .hardBounce,
        for sender: Sender
    ) async throws {
        try await sender.store.database.query(
            .worker,
            Suppression.insert(
                keys,
                reason: reason,
                details: keys.map { _ in "550 5.1.1 No such user" },
                source: nil,
                org: sender.org
            )
        )
    }

    private func softBounce(_ keys: [String], _ sender: Sender) async throws {
        try await sender.store.database.batch(
            .worker,
            Suppression.countSoftBounces(
                keys,
                details: keys.map { _ in "452 4.2.2 Full" },
                source: nil,
                org: sender.org
            )
        )
    }

    private func rows(_ sender: Sender) async throws -> [String] {
        try await sender.store.database.query(
            .tenant(sender.org),
            """
            SELECT address_key || ' ' || reason || CASE WHEN expires_at IS NULL THEN ''
                ELSE ' ' || extract(epoch FROM expires_at - created_at)::integer / 86400 || ' days' END AS line
            FROM suppressions ORDER BY 1
            """
        ).map { try $0("line") }
    }

    @Test("a suppressed recipient gets no job, its state says so, and so does an event")
    func oneOfSeveral() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            try await suppress(["gone@x.test", "left@y.test"], for: sender)
            let sent = try await sender.send(["here@x.test", "Gone@x.test"]) {
                $0.cc = [try? Mailbox("left@y.test")].compactMap { $0 }
            }
            #expect(sent.suppressed == ["Gone@x.test", "left@y.test"])
            #expect(sent.tickets.count == 1)
            let results = try await store.database.batch(
                .tenant(sender.org),
                [
                    "SELECT address || ' ' || state AS line FROM recipients ORDER BY ordinal",
                    "SELECT payload ->> 'domain' AS line FROM jobs",
                    "SELECT event_type || ' ' || recipient || ' ' || detail AS line FROM delivery_events ORDER BY 1",
                ]
            ).map { try $0.map { try $0("line") as String } }
            #expect(results[0] == ["here@x.test queued", "Gone@x.test suppressed", "left@y.test suppressed"])
            #expect(results[1] == ["x.test"])
            #expect(
                results[2] == [
                    "email.suppressed Gone@x.test The address is suppressed: hard_bounce",
                    "email.suppressed left@y.test The address is suppressed: hard_bounce",
                ]
            )
        }
    }

    @Test("when every recipient is suppressed nothing is stored")
    func all() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            try await suppress(["gone@x.test"], for: sender)
            let error = await failure { _ = try await sender.send(["gone@x.test", "GONE@x.test"]) }
            #expect(error as? StoreFault == .suppressed(["gone@x.test"]))
            #expect(try await store.database.query(.worker, "SELECT FROM messages").isEmpty)
        }
    }

    @Test("it is the organization's own: another one's mail goes on")
    func tenants() async throws {
        try await withStore { store in
            let (a, b) = (try await Sender("A", store), try await Sender("B", store))
            try await suppress(["gone@x.test"], for: a)
            #expect(try await b.send(["gone@x.test"]).suppressed == [])
            #expect(try await rows(b) == [])
        }
    }

    @Test("three soft bounces in a row suppress for seven days, two do not, and a success between resets")
    func soft() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            for _ in 0..<2 { try await softBounce(["full@x.test", "b@x.test"], sender) }
            #expect(try await rows(sender) == [])
            try await store.database.batch(
                .worker,
                Suppression.forgiveSoftBounces(["b@x.test"], message: MessageID(), org: sender.org)
            )
            try await softBounce(["b@x.test", "full@x.test", "full@x.test"], sender)
            #expect(try await rows(sender) == ["full@x.test soft_bounce 7 days"])
            // Counting begins anew.
            let left = try await store.database.query(.worker, "SELECT address_key, count FROM soft_bounces")
            #expect(try only(left)("address_key") == "b@x.test")
            #expect(try only(left)("count") == 1)
        }
    }

    @Test(
        "what expired suppresses no more, and a lasting reason takes the place of a passing one, not the reverse"
    )
    func expiry() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            for _ in 0..<3 { try await softBounce(["full@x.test", "late@x.test"], sender) }
            try await store.database.query(
                .worker,
                "UPDATE suppressions SET expires_at = now() - interval '1 second' WHERE address_key = 'full@x.test'"
            )
            #expect(try await sender.send(["full@x.test"]).suppressed == [])
            try await suppress(["full@x.test"], .unsubscribe, for: sender)
            for _ in 0..<3 { try await softBounce(["full@x.test"], sender) }
            #expect(
                try await rows(sender) == ["full@x.test unsubscribe", "late@x.test soft_bounce 7 days"]
            )
        }
    }

    @Test("an unsubscribe token suppresses its recipient for its sender, once, and other tokens nothing")
    func unsubscribe() async throws {
        try await withStore { store in
            let (a, b) = (try await Sender("A", store), try await Sender("B", store))
            let sent = try await a.send(["One@X.test", "two@x.test"])
            let token = RecipientToken(org: a.org, message: sent.message, ordinal: 0)
            let text = token.text(.unsubscribe, secrets: store.secrets)
            #expect(try await store.unsubscriber(text)?.address == "One@x.test")
            #expect(try await rows(a) == [], "looking is not acting")
            for forged in [token.text(.returnPath, secrets: store.secrets), String(text.reversed()), "", "x"]
            {
                #expect(try await !store.unsubscribe(forged))
            }
            #expect(try await rows(a) == [])
            for _ in 0..<2 { #expect(try await store.unsubscribe(text)) }
            #expect(try await rows(a) == ["one@x.test unsubscribe"])
            #expect(try await rows(b) == [])
            #expect(try await a.send(["one@x.test", "two@x.test"]).suppressed == ["one@x.test"])
        }
    }
}

@Suite("Messages of send jobs")
struct OutboundMessageTests {
    @Test("many are read at once, each with the recipients of its job; one that is gone is nil")
    func many() async throws {
        try await withStore { store in
            let (a, b) = (try await Sender("A", store), try await Sender("B", store))
            let first = try await a.send(["one@x.test", "two@y.test", "three@x.test"])
            let second = try await b.send(["four@x.test"])
            let wanted: [(payload: SendPayload, org: OrgID)] = [
                (SendPayload(message: second.message, domain: "x.test"), b.org),
                (SendPayload(message: first.message, domain: "x.test"), a.org),
                (SendPayload(message: MessageID(), domain: "x.test"), a.org),
                (SendPayload(message: first.message, domain: "x.test", recipient: 2), a.org),
                // Another organization's message is nobody's here.
                (SendPayload(message: first.message, domain: "x.test"), b.org),
                (SendPayload(message: first.message, domain: "z.test"), a.org),
            ]
            let found = try await store.outboundMessages(wanted).map { try $0.get() }
            #expect(
                found.map { $0?.recipients.map(\.address) } == [
                    ["four@x.test"], ["one@x.test", "three@x.test"], nil, ["three@x.test"], nil, [],
                ]
            )
            #expect(found[0]?.org == b.org)
            #expect(found[1]?.composition.to.count == 3)
        }
    }

    @Test("a message whose row cannot be read fails alone")
    func unreadable() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let (good, bad) = (try await sender.send(["one@x.test"]), try await sender.send(["one@x.test"]))
            try await store.database.query(
                .worker,
                "UPDATE message_bodies SET composition = '{}' WHERE message_id = \(bad.message)"
            )
            let found = try await store.outboundMessages(
                [bad, good].map { (SendPayload(message: $0.message, domain: "x.test"), sender.org) }
            )
            #expect(throws: (any Error).self) { try found[0].get() }
            #expect(try found[1].get()?.id == good.message)
        }
    }

    @Test("a recipient that was suppressed since is marked, and so is one with soft bounces")
    func marks() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let sent = try await sender.send(["Gone@x.test", "full@x.test", "fine@x.test"])
            let statements = Suppression.countSoftBounces(
                ["full@x.test"],
                details: [""],
                source: nil,
                org: sender.org
            )
            let hard = Suppression.insert(
                ["gone@x.test"],
                reason: .hardBounce,
                details: [""],
                source: nil,
                org: sender.org
            )
            try await store.database.batch(.worker, statements + [hard])
            let payload = SendPayload(message: sent.message, domain: "x.test")
            let message = try #require(try await store.outboundMessage(payload, org: sender.org))
            #expect(message.recipients.map(\.isSuppressed) == [true, false, false])
            #expect(message.recipients.map(\.hasSoftBounces) == [false, true, false])
            #expect(message.recipients.map(\.key) == ["gone@x.test", "full@x.test", "fine@x.test"])
        }
    }

    @Test("a send with unsubscribe links is one job a recipient, and its composition says where they lead")
    func unsubscribeJobs() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store, listUnsubscribe: true)
            let url = "https://mail.test/unsubscribe?token="
            let sent = try await sender.send(["one@x.test", "two@x.test", "three@y.test"]) {
                $0.unsubscribeURL = url
            }
            let jobs = try await store.database.query(
                .worker,
                "SELECT payload FROM jobs ORDER BY payload ->> 'recipient'"
            ).map { try $0.json("payload", as: SendPayload.self) }
            #expect(
                jobs
                    == [("x.test", 0), ("x.test", 1), ("y.test", 2)].map {
                        SendPayload(message: sent.message, domain: $0.0, recipient: $0.1)
                    }
            )
            let message = try await store.outboundMessage(jobs[1], org: sender.org)
            #expect(message?.composition.unsubscribeURL == url)
            // The send's own word, and a header of the caller's own, come before the inbox's setting.
            let changes: [(inout Submission) -> Void] = [
                { $0.listUnsubscribe = false },
                { $0.headers = [DraftHeader(name: "list-unsubscribe", value: "<mailto:x@y.test>")] },
            ]
            for change in changes {
                let plain = try await sender.send(["one@x.test", "two@x.test"]) {
                    $0.unsubscribeURL = url
                    change(&$0)
                }
                #expect(plain.tickets.count == 1)
            }
        }
    }

    @Test("without a public address such a send is refused, and nothing is stored")
    func noPublicURL() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let error = await failure {
                _ = try await sender.send(["one@x.test"]) { $0.listUnsubscribe = true }
            }
            guard case .refused? = error as? StoreFault else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(try await store.database.query(.worker, "SELECT FROM messages").isEmpty)
        }
    }
}
