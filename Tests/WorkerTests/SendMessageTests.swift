// The send job on a real database and against live peers: what leaves, and what is written of it.

import DNS
import Database
import Foundation
import Mail
import Platform
import Queue
import Store
import Testing

@testable import Worker

@Suite("Send jobs", .timeLimit(.minutes(2)))
struct SendMessageTests {
    private let returnPath = /MAIL FROM:<(bounce\+[a-z2-7]{53}@send\.agents\.test)>.*/

    private func returnPaths(_ peer: SMTPPeer) -> [String] {
        peer.lines.compactMap { $0.wholeMatch(of: returnPath).map { String($0.1) } }
    }

    @Test("a message leaves under a return path that names it, and its transcript is kept with the recipient")
    func delivered() async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer([SMTPPeer.session(["250 2.1.5 Ok", "250 2.1.5 Ok"])])
            let sent = try await fixture.send(["one@x.test", "two@x.test"])
            try await fixture.run(fixture.work(to: peer))
            await peer.finish()
            #expect(peer.faults == [])
            #expect(try await fixture.recipients == ["one@x.test delivered", "two@x.test delivered"])

            let path = try #require(returnPaths(peer).first)
            let token = try #require(ReturnPath(EmailAddress(path))?.token)
            let named = RecipientToken(token, .returnPath, secrets: fixture.secrets)
            #expect(named == RecipientToken(org: fixture.org, message: sent.message, ordinal: 0))

            let transcripts = try await fixture.lines(
                "SELECT transcript AS line FROM recipients ORDER BY ordinal"
            )
            #expect(transcripts.count == 2)
            for transcript in transcripts {
                #expect(transcript.contains("C: MAIL FROM:<\(path)>"), "\(transcript)")
                #expect(transcript.hasSuffix("S: 250 2.0.0 Queued"), "\(transcript)")
                #expect(!transcript.contains("Hello"), "no content")
            }
        }
    }

    @Test("the return path and the message are the same at every try, and others for another message")
    func stable() async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer([
                SMTPPeer.session(["250 2.1.5 Ok", "450 4.2.0 Greylisted"]),
                SMTPPeer.session(["450 4.2.0 Greylisted"]), SMTPPeer.session(["250 2.1.5 Ok"]),
                SMTPPeer.session(["250 2.1.5 Ok"]),
            ])
            try await fixture.send(["one@x.test", "two@x.test"])
            for _ in 0..<3 {
                // A new worker each time: nothing is remembered but the rows.
                try await fixture.run(fixture.work(to: peer))
                try await fixture.makeDue()
            }
            #expect(try await fixture.recipients == ["one@x.test delivered", "two@x.test delivered"])
            try await fixture.send(["one@x.test"])
            try await fixture.run(fixture.work(to: peer))
            await peer.finish()
            #expect(peer.faults == [])
            let paths = returnPaths(peer)
            #expect(paths.count == 4)
            #expect(Set(paths.prefix(3)).count == 1)
            #expect(Set(paths).count == 2)
            #expect(peer.messages.count == 3)
            #expect(peer.messages[0] == peer.messages[1])
        }
    }

    @Test(
        "an address that does not exist is suppressed at once; a refusal about us, or of the sender, suppresses nobody",
        arguments: [
            ("550 5.1.1 No such user", "bounced", ["one@x.test hard_bounce"]),
            ("550 No such user here", "bounced", ["one@x.test hard_bounce"]),
            ("550 5.2.1 Mailbox disabled", "bounced", ["one@x.test hard_bounce"]),
            ("550 5.7.1 Message rejected as spam", "bounced", []),
            ("550 5.7.1 Blocked by policy", "bounced", []),
            ("554 5.7.1 Listed at zen.spamhaus.org", "bounced", []),
            ("550 5.1.1 User unknown; your host is listed at bl.spamcop.net", "bounced", []),
            ("552 5.2.2 Mailbox full", "bounced", []),
            ("450 4.1.1 No such user yet", "deferred", []),
        ]
    )
    func hardBounce(_ reply: String, _ state: String, _ suppressed: [String]) async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer([SMTPPeer.session([reply])])
            try await fixture.send(["One@x.test"])
            try await fixture.run(fixture.work(to: peer))
            await peer.finish()
            #expect(try await fixture.recipients == ["One@x.test \(state)"])
            #expect(try await fixture.suppressions == suppressed)
        }
    }

    @Test("an answer to MAIL, or to a message for several, says nothing about an address")
    func notAboutRecipients() async throws {
        try await SendFixture.with { fixture in
            let unknown = "550 5.1.1 User unknown"
            let peer = try await SMTPPeer([
                SMTPPeer.session(mail: unknown, []),
                SMTPPeer.session(["250 2.1.5 Ok", "250 2.1.5 Ok"], dot: unknown),
                SMTPPeer.session(["250 2.1.5 Ok", "452 4.2.2 Full"], dot: unknown),
            ])
            for address in ["a@x.test", "b@x.test", "c@x.test"] {
                try await fixture.send(address == "a@x.test" ? [address] : [address, "other@x.test"])
                try await fixture.run(fixture.work(to: peer))
            }
            await peer.finish()
            #expect(peer.faults == [])
            // Only the last message was refused for one alone.
            #expect(try await fixture.suppressions == ["c@x.test hard_bounce"])
        }
    }

    @Test("a domain that does not exist suppresses its addresses")
    func hostUnknown() async throws {
        try await SendFixture.with { fixture in
            try await fixture.send(["one@nowhere.test"])
            try await fixture.run(fixture.work(to: nil, resolver: NoSuchNames()))
            #expect(try await fixture.recipients == ["one@nowhere.test bounced"])
            #expect(try await fixture.suppressions == ["one@nowhere.test hard_bounce"])
        }
    }

    @Test("three full mailboxes in a row suppress for a time, and a success between makes them forgotten")
    func softBounces() async throws {
        try await SendFixture.with { fixture in
            let full = "552 5.2.2 Mailbox full"
            let replies = [full, full, "250 2.1.5 Ok", full, full, full]
            let peer = try await SMTPPeer(replies.map { SMTPPeer.session([$0]) })
            for (index, _) in replies.enumerated() {
                #expect(try await fixture.suppressions == [], "before message \(index)")
                try await fixture.send(["one@x.test"])
                try await fixture.run(fixture.work(to: peer))
            }
            await peer.finish()
            #expect(peer.faults == [])
            #expect(try await fixture.suppressions == ["one@x.test soft_bounce"])
        }
    }

    @Test("who was suppressed after the message was accepted gets nothing; the others do")
    func suppressedLate() async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer([SMTPPeer.session(["250 2.1.5 Ok"])])
            let sent = try await fixture.send(["one@x.test", "two@x.test"])
            try await fixture.send(["one@x.test"])
            let token = RecipientToken(org: fixture.org, message: sent.message, ordinal: 0)
            #expect(try await fixture.store.unsubscribe(token.text(.unsubscribe, secrets: fixture.secrets)))
            try await fixture.run(fixture.work(to: peer))
            await peer.finish()
            #expect(peer.faults == [])
            #expect(peer.lines.filter { $0.hasPrefix("RCPT") } == ["RCPT TO:<two@x.test>"])
            #expect(
                try await fixture.recipients == [
                    "one@x.test suppressed", "two@x.test delivered", "one@x.test suppressed",
                ]
            )
            let events = try await fixture.lines(
                "SELECT event_type || coalesce(' ' || recipient, '') AS line FROM delivery_events ORDER BY 1"
            )
            #expect(
                events == [
                    "email.delivered two@x.test", "email.sent", "email.suppressed one@x.test",
                    "email.suppressed one@x.test", "email.unsubscribed one@x.test",
                ]
            )
            #expect(
                try await fixture.lines("SELECT state::text AS line FROM jobs") == ["succeeded", "succeeded"]
            )
        }
    }

    @Test(
        "one-click headers are each recipient's own, in a message of its own, and both signatures cover them"
    )
    func unsubscribeHeaders() async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer(Array(repeating: [.serve], count: 3))
            let sent = try await fixture.send(["one@x.test", "two@x.test"]) {
                $0.listUnsubscribe = true
                $0.unsubscribeURL = "https://mail.agents.test/unsubscribe?token="
            }
            try await fixture.run(fixture.work(to: peer))
            await peer.finish()
            #expect(try await fixture.recipients == ["one@x.test delivered", "two@x.test delivered"])
            let recipients = peer.lines.filter { $0.hasPrefix("RCPT") }
            #expect(recipients.sorted() == ["RCPT TO:<one@x.test>", "RCPT TO:<two@x.test>"])
            #expect(Set(returnPaths(peer)).count == 2)
            for (message, recipient) in zip(peer.messages, recipients) {
                let ordinal = recipient.contains("one@") ? 0 : 1
                let token = RecipientToken(org: fixture.org, message: sent.message, ordinal: ordinal)
                let text = String(decoding: message, as: UTF8.self).replacing("\r\n ", with: " ")
                let link = token.text(.unsubscribe, secrets: fixture.secrets)
                #expect(
                    text.contains(
                        "\r\nList-Unsubscribe: <https://mail.agents.test/unsubscribe?token=\(link)>\r\n"
                    ),
                    "\(text)"
                )
                #expect(text.contains("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"))
                try await expectSigned(message, fixture)
            }
        }
    }

    @Test("List-Unsubscribe headers of the caller's own go through and are signed")
    func ownHeaders() async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer([[.serve]])
            try await fixture.send(["one@x.test", "two@x.test"]) {
                $0.headers = [
                    DraftHeader(name: "List-Unsubscribe", value: "<https://elsewhere.test/u/1>"),
                    DraftHeader(name: "List-Unsubscribe-Post", value: "List-Unsubscribe=One-Click"),
                ]
            }
            try await fixture.run(fixture.work(to: peer))
            await peer.finish()
            let message = try #require(peer.messages.first)
            #expect(peer.messages.count == 1)
            let text = String(decoding: message, as: UTF8.self)
            #expect(text.contains("\r\nList-Unsubscribe: <https://elsewhere.test/u/1>\r\n"))
            try await expectSigned(message, fixture)
        }
    }

    /// Both signatures hold, and name both header fields; without either field none holds.
    private func expectSigned(_ message: [UInt8], _ fixture: SendFixture) async throws {
        func verdicts(_ message: [UInt8]) async -> [Bool] {
            await DKIM.verify(message, now: .now) { name in
                let selector = String(name.prefix { $0 != "." })
                let record = try await fixture.store.ownDKIMRecord(domain: "agents.test", selector: selector)
                return [record].compactMap { $0 }
            }.map { $0.result == .pass }
        }
        #expect(await verdicts(message) == [true, true])
        let text = String(decoding: message, as: UTF8.self)
        for field in ["List-Unsubscribe: ", "List-Unsubscribe-Post: "] {
            let altered = text.replacing("\r\n\(field)", with: "\r\n\(field)x")
            #expect(altered != text)
            #expect(await verdicts(Array(altered.utf8)) == [false, false])
        }
    }

    @Test(
        "after five days, or the last try, what is still open has failed, even where the site was never asked"
    )
    func expired() async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer(["450 4.2.0 Later", "250 2.1.5 Ok"].map { SMTPPeer.session([$0]) })
            try await fixture.send(["one@x.test"])
            let outcomes = try await fixture.run(fixture.work(to: peer) { $0.lifetime = .zero })
            guard case .succeeded? = outcomes.first else {
                Issue.record("\(outcomes)")
                return
            }
            // A site that has no token for a second message is never asked for it.
            let slow = ["COMMUNE_SITE_RATES": "localhost=0.001"]
            try await fixture.send(["two@x.test", "three@y.test"])
            let paced = fixture.work(to: peer, variables: slow) { $0.lifetime = .zero }
            try await fixture.run(paced)
            await peer.finish()
            #expect(peer.faults == [])
            #expect(
                try await fixture.recipients.sorted() == [
                    "one@x.test failed", "three@y.test failed", "two@x.test delivered",
                ]
            )
            let replies = try await fixture.lines(
                "SELECT last_reply AS line FROM recipients WHERE state = 'failed' ORDER BY address"
            )
            #expect(replies[0] == "Given up after 1 tries. Last answer: 450 4.2.0 Later")
            #expect(replies[1].hasPrefix("Given up after 1 tries. Last answer: 451 4.4.5 The site gets"))
        }
    }

    @Test("a worker that stops hands the job back: no attempt is spent, however old the message is")
    func stopping() async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer([])
            try await fixture.send(["one@x.test"])
            let work = fixture.work(to: peer) { $0.lifetime = .zero }
            await work.delivery.close()
            let rows = try await fixture.store.database.query(
                .worker,
                Jobs.claimWithoutSchedule(queue: QueueName.send, limit: 1, worker: WorkerID())
            )
            let job = try Jobs.claimed(try #require(rows.first))
            let completion = try await work.attempt(job, Progress())
            guard case .released = completion.outcome else {
                Issue.record("\(completion.outcome)")
                return
            }
            await fixture.finisher.finish(job, token: nil, completion)
            await peer.finish()
            #expect(peer.connections == 0)
            #expect(try await fixture.recipients == ["one@x.test queued"])
            let left = try await fixture.lines("SELECT attempt::text || ' ' || state::text AS line FROM jobs")
            #expect(left == ["0 queued"])
        }
    }

    @Test("many messages that are asked for at once are read in few round trips, each its own")
    func loader() async throws {
        try await SendFixture.with { fixture in
            var sent: [MessageID] = []
            for number in 0..<60 {
                sent.append(
                    try await fixture.send(["one@x.test"]) { $0.subject = "Number \(number)" }.message
                )
            }
            let loader = MessageLoader(fixture.store)
            let subjects = try await withThrowingTaskGroup(of: (Int, String?).self) { group in
                for (number, id) in sent.enumerated() {
                    group.addTask {
                        let payload = SendPayload(message: id, domain: "x.test")
                        return (number, try await loader.message(payload, org: fixture.org)?.subject)
                    }
                }
                return try await group.reduce(into: [Int: String?]()) { $0[$1.0] = $1.1 }
            }
            #expect(subjects.count == 60)
            for (number, subject) in subjects { #expect(subject == "Number \(number)") }
        }
    }
}

/// A DNS in which nothing exists.
private struct NoSuchNames: DNS.Resolver {
    func lookup(
        _ name: String,
        _ type: RecordType,
        options: LookupOptions
    ) async throws(DNSFault) -> DNSAnswer {
        throw .noSuchName
    }
}
