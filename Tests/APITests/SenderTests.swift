// Who a message is from: the four documented steps, and the addresses that belong to nobody.

import Database
import Foundation
import Mail
import Platform
import Store
import Testing

@testable import API

@Suite("The sender of a message")
struct SenderTests {
    private let bare: JSON = ["to": "someone@elsewhere.test", "subject": "Hello", "text": "Hi"]

    /// From, Reply-To, inbox and domain of what a send wrote.
    private func sent(_ reply: Reply, _ platform: APIPlatform) async throws -> [String] {
        #expect(reply.status == 200, "\(reply.text)")
        let id = try #require(reply.body["data"]["id"].string)
        let message = try #require(MessageID(id, prefix: "msg_"))
        let rows = try await platform.database.query(
            .worker,
            """
            SELECT b.composition ->> 'from' AS sender, coalesce(b.composition ->> 'replyTo', '-') AS reply,
                i.local_part || '@' || i.domain_name AS inbox
            FROM messages m JOIN message_bodies b ON b.org_id = m.org_id AND b.message_id = m.id
            JOIN inboxes i ON i.org_id = m.org_id AND i.id = m.inbox_id WHERE m.id = \(message)
            """
        )
        let row = try only(rows)
        return [try row("sender"), try row("reply"), try row("inbox")]
    }

    private func platformID(_ platform: APIPlatform) async throws -> JSON {
        .string(try await platform.store.platformDomain(named: platformDomain).id.description)
    }

    @Test("is the address given before the inbox, the inbox before the domain")
    func order() async throws {
        try await withPlatform { platform in
            let (one, two) = (try await platform.makeInbox("one"), try await platform.makeInbox("two"))
            let domain = try await platform.makeDomain("own.test")
            let all = bare.with("from", .string(one.address)).with("inboxId", .string(two.id.description))
                .with("domainId", .string(domain.id.description))
            #expect(try await sent(platform.send(all), platform) == [one.address, "-", one.address])
            let second = all.without("from")
            #expect(try await sent(platform.send(second), platform) == [two.address, "-", two.address])
            let agent = ["agent@own.test", "-", "agent@own.test"]
            #expect(try await sent(platform.send(second.without("inboxId")), platform) == agent)
            let twin = bare.with("domain_id", .string(domain.id.description))
            #expect(try await sent(platform.send(twin), platform) == agent)
            // Made once, an inbox like any other.
            let list = try await platform.get("/v1/domains/\(domain.id)/inboxes").body["data"].elements
            #expect(list.map { $0["address"].string } == ["agent@own.test"])
        }
    }

    @Test("by domainId alone is refused where the domain is unverified, unknown, or another organization's")
    func refusedDomains() async throws {
        try await withPlatform { platform in
            let pending = try await platform.makeDomain("pending.test", verified: false)
            let stranger = try await platform.stranger()
            let theirs = try await platform.makeDomain("theirs.test", org: stranger.org)
            let before = try await platform.stored()
            for (id, status, says) in [
                (pending.id.description, 400, "Domain not verified"),
                (theirs.id.description, 404, "Domain not found"),
                (DomainID().description, 404, "Domain not found"), ("x", 404, "Domain not found"),
            ] {
                let reply = try await platform.send(bare.with("domainId", .string(id)))
                #expect(reply.status == status && reply.error == says, "\(reply.text)")
            }
            let wrong = try await platform.send(bare.with("domain_id", 5))
            #expect(wrong.status == 400 && wrong.paths == ["domain_id"])
            #expect(try await platform.stored() == before)
            // An inbox of the unverified domain says the same, by id and by address.
            let inbox = try await platform.makeInbox("early", on: pending)
            for body in [
                bare.with("inboxId", .string(inbox.id.description)),
                bare.with("from", .string(inbox.address)),
            ] {
                let reply = try await platform.send(body)
                #expect(reply.status == 400 && reply.error == "Domain not verified", "\(reply.text)")
            }
        }
    }

    @Test("by domainId alone is refused when the domain's agent@ is inactive")
    func inactiveAgent() async throws {
        try await withPlatform { platform in
            let domain = try await platform.makeDomain("own.test")
            let body = bare.with("domainId", .string(domain.id.description))
            #expect(try await platform.send(body).status == 200)
            try await platform.database.query(.worker, "UPDATE inboxes SET status = 'inactive'")
            let reply = try await platform.send(body)
            #expect(reply.status == 400 && reply.error.contains("inactive"))
        }
    }

    @Test("fifty first sends at once from a domain make one agent@")
    func atOnce() async throws {
        try await withPlatform(settings: ["COMMUNE_DB_ACQUIRE_TIMEOUT": "60"]) { platform in
            let domain = try await platform.makeDomain("own.test")
            for id in [JSON.string(domain.id.description), try await platformID(platform)] {
                let body = bare.with("domainId", id)
                let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
                    for _ in 0..<50 { group.addTask { try await platform.send(body).status } }
                    return try await group.reduce(into: [Int]()) { $0.append($1) }
                }
                #expect(Set(statuses) == [200])
            }
            #expect(try await platform.stored()["inboxes"] == 2)
            #expect(try await platform.stored()["messages"] == 100)
        }
    }

    @Test(
        "agent@ of the platform's domain is everybody's: Reply-To carries the thread's token, and nobody gets it"
    )
    func common() async throws {
        try await withPlatform { platform in
            let agent = "agent@\(platformDomain)"
            let byDomain = bare.with("domainId", try await platformID(platform))
            let reply = try await platform.send(byDomain)
            let thread = try #require(reply.body["data"]["thread_id"].string)
            let id = try #require(ThreadID(thread, prefix: "thread_"))
            let token = ThreadToken(org: platform.org, thread: id).text(secrets: platform.store.secrets)
            let written = try await sent(reply, platform)
            #expect(written == [agent, "agent+\(token)@\(platformDomain)", agent])
            // By address too, and a Reply-To of the caller's own stands.
            let own = bare.with("from", .string("Robot <\(agent)>")).with("reply_to", "me@elsewhere.test")
            #expect(
                try await sent(platform.send(own), platform) == [
                    "Robot <\(agent)>", "me@elsewhere.test", agent,
                ]
            )
            let stranger = try await platform.stranger()
            let theirs = try await platform.post("/v1/messages/send", byDomain, key: stranger.key)
            #expect(theirs.status == 200)

            // It is in no list, nobody changes it, and no inbox may be called so.
            #expect(try await platform.get("/v1/inboxes").body["data"] == [])
            let inbox = try await platform.database.query(
                .tenant(platform.org),
                "SELECT id FROM inboxes WHERE local_part = 'agent'"
            )
            let hidden: InboxID = try only(inbox)("id")
            #expect(try await platform.patch("/v1/inboxes/\(hidden)", ["local_part": "mine"]).status == 404)
            #expect(try await platform.post("/v1/inboxes", ["local_part": "agent"]).status == 409)
            // What was sent is there.
            #expect(
                try await platform.get("/v1/messages?inbox_id=\(hidden)").body["data"].elements.count == 2
            )
        }
    }

    @Test(
        "an answer to the token's address comes home into its thread; a forged, foreign or misplaced token does not"
    )
    func answers() async throws {
        try await withPlatform { platform in
            let reply = try await platform.send(bare.with("domainId", try await platformID(platform)))
            let thread = try #require(reply.body["data"]["thread_id"].string)
            let address = try await sent(reply, platform)[1]
            let found = try await platform.store.recipient(EmailAddress(address.uppercased()))
            guard case .found(.inbox(let recipient)) = found else {
                Issue.record("\(found)")
                return
            }
            #expect(recipient.org == platform.org)
            let token = try #require(try EmailAddress(address).tag)
            let altered = String(token.dropLast()) + (token.last == "a" ? "b" : "a")
            let id = try #require(ThreadID(thread, prefix: "thread_"))
            let stranger = try await platform.stranger()
            let foreign = ThreadToken(org: stranger.org, thread: id).text(secrets: platform.store.secrets)
            let unknown = ThreadToken(org: platform.org, thread: ThreadID())
                .text(secrets: platform.store.secrets)
            for wrong in [altered, foreign, unknown, String(token.dropLast()), ""] {
                let address = try EmailAddress("agent+\(wrong)@\(platformDomain)")
                guard case .noSuchMailbox = try await platform.store.recipient(address) else {
                    Issue.record("\(address) was accepted")
                    continue
                }
            }
            _ = try await platform.makeInbox("support")
            let other = try await platform.store.recipient(
                EmailAddress("support+\(token)@\(platformDomain)")
            )
            guard case .found(.inbox(let support)) = other else {
                Issue.record("\(other)")
                return
            }
            #expect(support.inbox != recipient.inbox)

            // No Message-ID is cited: the token alone joins.
            try await platform.receiveMail("<home@x>", for: recipient)
            let messages = try await platform.get("/v1/threads/\(thread)/messages").body["data"].elements
            #expect(messages.map { $0["direction"].string } == ["outbound", "inbound"])
            // Nobody answers in another inbox' thread by its token.
            try await platform.receiveMail("<away@x>", for: support)
            #expect(try await platform.get("/v1/threads/\(thread)/messages").body["data"].elements.count == 2)

            let answer = try await platform.send(
                bare.with("domainId", try await platformID(platform)).with("thread_id", .string(thread))
            )
            #expect(try await sent(answer, platform)[1] == address)
        }
    }

    @Test(
        "without any is the installation's default, and without that 400; the default must be nobody's address"
    )
    func installationDefault() async throws {
        try await withPlatform { platform in
            let reply = try await platform.send(bare)
            #expect(reply.status == 400 && reply.error.hasPrefix("No sender"))
        }
        let from = "Commune <noreply@\(platformDomain)>"
        try await withPlatform(settings: ["COMMUNE_DEFAULT_FROM": from]) { platform in
            let written = try await sent(platform.send(bare), platform)
            #expect(written[0] == from && written[2] == "noreply@\(platformDomain)")
            #expect(written[1].hasPrefix("noreply+"))
            let named = try await platform.send(bare.with("from", .string("noreply@\(platformDomain)")))
            #expect(named.status == 200)
            #expect(try await platform.get("/v1/inboxes").body["data"] == [])
        }
        for wrong in ["x", "someone@\(platformDomain)", "agent@elsewhere.test", "Agent <>"] {
            var settings = Settings(["COMMUNE_DEFAULT_FROM": wrong, "COMMUNE_DEFAULT_DOMAIN": platformDomain])
            _ = APIConfiguration(reading: &settings)
            #expect(settings.faults.contains { $0.variable == "COMMUNE_DEFAULT_FROM" }, "\(wrong)")
        }
    }

    @Test("a limited key sends from its own inboxes alone: neither agent@ nor the default is among them")
    func limited() async throws {
        let settings = ["COMMUNE_DEFAULT_FROM": "agent@\(platformDomain)"]
        try await withPlatform(settings: settings) { platform in
            let inbox = try await platform.makeInbox("mine")
            let other = try await platform.makeInbox("other")
            var new = NewKey(name: "limited", scopes: ["write"])
            new.inboxes = [inbox.id]
            let key = try await platform.store.createKey(org: platform.org, new).key.secret
            @Sendable func send(_ body: JSON) async throws -> Int {
                try await platform.post("/v1/messages/send", body, key: key).status
            }
            #expect(try await send(bare.with("inboxId", .string(inbox.id.description))) == 200)
            #expect(try await send(bare.with("from", .string(other.address))) == 403)
            #expect(try await send(bare.with("inboxId", .string(other.id.description))) == 404)
            #expect(try await send(bare.with("domainId", try await platformID(platform))) == 403)
            #expect(try await send(bare) == 403)
            #expect(try await platform.stored()["inboxes"] == 2)
        }
    }
}

@Suite("The subject of an answer")
struct AnswerSubjectTests {
    @Test("begins with exactly one Re:, whatever it was given; a new message's is left alone")
    func once() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let body: JSON = ["to": "a@b.test", "text": "t", "inboxId": .string(inbox.id.description)]
            let first = try await platform.send(body.with("subject", "Re: Re: as it is"))
            let thread = first.body["data"]["thread_id"]
            for subject in ["Hello", "Re: Hello", "RE:Hello", "re: Re[2]: AW: Hello"] {
                let reply = try await platform.send(
                    body.with("subject", .string(subject)).with("thread_id", thread)
                )
                #expect(reply.status == 200)
            }
            let list = try await platform.get("/v1/messages?inbox_id=\(inbox.id)&order=asc").body["data"]
            let subjects = list.elements.compactMap { $0["metadata"]["subject"].string }
            #expect(subjects == ["Re: Re: as it is"] + [String](repeating: "Re: Hello", count: 4))
        }
    }
}
