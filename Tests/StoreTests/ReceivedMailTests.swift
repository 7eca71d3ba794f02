// Mail from outside: committed once, and put into the thread it belongs to.

import Database
import Foundation
import Mail
import Platform
import Queue
import Testing

@testable import Store

@Suite("Received mail")
struct ReceivedMailTests {
    private let message = Array("Subject: Hello\r\n\r\nHi\r\n".utf8)
    private let sender = try? EmailAddress("outside@elsewhere.test")

    /// An organization with an inbox, as a recipient.
    private func makeRecipient(_ store: Store, _ name: String) async throws -> InboundRecipient {
        let org = try await store.createOrganization(named: name)
        return try await makeRecipient(store, name, org)
    }

    private func makeRecipient(_ store: Store, _ name: String, _ org: OrgID) async throws -> InboundRecipient
    {
        let domain = PlatformDomain(id: DomainID(), name: "agents.test")
        let inbox = try await store.createInbox(org: org, localPart: name, displayName: nil, on: domain)
        return InboundRecipient(address: inbox.address, org: org, inbox: inbox.id)
    }

    private func receive(
        _ store: Store,
        for recipients: [InboundRecipient],
        _ message: [UInt8]? = nil,
        trace: String = "Received: now\r\n",
        from sender: EmailAddress? = nil
    ) async throws -> [Ticket] {
        try await store.receive(
            message ?? self.message,
            trace: Array(trace.utf8),
            from: sender ?? self.sender,
            for: recipients,
            clientAddress: "192.0.2.1",
            clientName: "mx.elsewhere.test",
            tls: "TLSv1.3"
        )
    }

    @Test("is committed with its bytes and one job, and read again as it came")
    func commit() async throws {
        try await withStore { store in
            let recipient = try await makeRecipient(store, "inbox")
            let large = message + [UInt8](repeating: 0x61, count: 700_000) + [0, 0xff]
            let tickets = try await receive(store, for: [recipient], large)
            #expect(tickets.count == 1)
            let rows = try await store.database.query(
                .tenant(recipient.org),
                "SELECT id FROM received_mail"
            )
            let id: ReceivedMailID = try only(rows)("id")
            let mail = try #require(try await store.unprocessedMail(id, org: recipient.org))
            #expect(mail.bytes == Array("Received: now\r\n".utf8) + large)
            #expect(mail.sender == "outside@elsewhere.test")
            #expect(mail.recipients == [recipient])
            #expect(mail.clientAddress == "192.0.2.1")
            #expect(mail.clientName == "mx.elsewhere.test")
            #expect(mail.tls == "TLSv1.3")
            let jobs = try await store.database.query(
                .tenant(recipient.org),
                "SELECT queue, payload->>'mail' AS mail FROM jobs"
            )
            #expect(jobs.count == 1)
            #expect(try only(jobs)("queue") == QueueName.processInbound)
            #expect(try only(jobs)("mail") == id.description)
            #expect(try await store.unprocessedMail(id, org: OrgID()) == nil)
        }
    }

    @Test("sent again by a client that lost our answer, it adds nothing")
    func duplicate() async throws {
        try await withStore { store in
            let recipient = try await makeRecipient(store, "inbox")
            #expect(try await receive(store, for: [recipient]).count == 1)
            // Our own trace differs at every try.
            #expect(try await receive(store, for: [recipient], trace: "Received: later\r\n").isEmpty)
            #expect(try await count(store, "received_mail") == 1)
            #expect(try await count(store, "jobs") == 1)
            #expect(try await count(store, "blobs") == 1)
        }
    }

    @Test("at once from several connections, it is taken once")
    func duplicateAtOnce() async throws {
        try await withStore { store in
            let recipient = try await makeRecipient(store, "inbox")
            let taken = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<6 {
                    group.addTask {
                        try await receive(store, for: [recipient], trace: "Received: \(number)\r\n").count
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(taken == 1)
            #expect(try await count(store, "jobs") == 1)
        }
    }

    @Test("with another content, sender or recipient it is another mail")
    func different() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let one = try await makeRecipient(store, "one", org)
            let two = try await makeRecipient(store, "two", org)
            #expect(try await receive(store, for: [one]).count == 1)
            #expect(try await receive(store, for: [one], message + [0x0d, 0x0a]).count == 1)
            #expect(
                try await receive(store, for: [one], from: EmailAddress("other@elsewhere.test")).count == 1
            )
            #expect(try await receive(store, for: [two]).count == 1)
            #expect(try await receive(store, for: [one, two]).count == 1)
            #expect(try await receive(store, for: [two, one]).isEmpty)
            #expect(try await count(store, "received_mail") == 5)
        }
    }

    @Test("for two organizations it is two mails, each seeing its own recipients alone")
    func organizations() async throws {
        try await withStore { store in
            let one = try await makeRecipient(store, "one")
            let two = try await makeRecipient(store, "two")
            let tickets = try await receive(store, for: [one, two])
            #expect(Set(tickets.map(\.org)) == [one.org, two.org])
            for recipient in [one, two] {
                let rows = try await store.database.query(
                    .tenant(recipient.org),
                    "SELECT id, recipients FROM received_mail"
                )
                #expect(rows.count == 1)
                let row = try #require(rows.first)
                #expect(try row.json("recipients", as: [InboundRecipient].self) == [recipient])
                let mail = try await store.unprocessedMail(row("id"), org: recipient.org)
                #expect(mail?.bytes.isEmpty == false)
            }
            // One organization had it already; the other's part is still taken.
            let again = try await receive(store, for: [one], message + [0x20])
            #expect(again.count == 1)
            let both = try await receive(store, for: [one, two], message + [0x20])
            #expect(both.map(\.org) == [two.org])
        }
    }

    @Test("a recipient is found by address, whatever its case or tag; others are told apart")
    func lookup() async throws {
        try await withStore { store in
            let domain = try await store.platformDomain(named: "agents.test")
            let org = try await store.createOrganization(named: "Acme")
            let inbox = try await store.createInbox(
                org: org,
                localPart: "help",
                displayName: nil,
                on: domain
            )
            for text in ["help@agents.test", "HELP@Agents.Test", "help+order-7@agents.test"] {
                guard case .inbox(let found) = try await store.recipient(EmailAddress(text)) else {
                    Issue.record("\(text) was not found")
                    continue
                }
                #expect(found.inbox == inbox.id)
                #expect(found.org == org)
            }
            let wrong = try await store.recipient(EmailAddress("helper@agents.test"))
            guard case .noSuchMailbox = wrong else { throw Unexpected(found: "\(wrong)") }
            let foreign = try await store.recipient(EmailAddress("help@elsewhere.test"))
            guard case .notOurDomain = foreign else { throw Unexpected(found: "\(foreign)") }
            for change: Statement in ["status = 'inactive'", "status = NULL, deleted_at = now()"] {
                try await store.database.query(
                    .tenant(org),
                    "UPDATE inboxes SET \(fragment: change) WHERE id = \(inbox.id)"
                )
                let gone = try await store.recipient(EmailAddress("help@agents.test"))
                guard case .noSuchMailbox = gone else { throw Unexpected(found: "\(gone)") }
            }
        }
    }

    private struct Unexpected: Error { let found: String }

    private func count(_ store: Store, _ table: String) async throws -> Int {
        let rows = try await store.database.query(.worker, "SELECT count(*) AS n FROM \(raw: table)")
        return try only(rows)("n")
    }
}
