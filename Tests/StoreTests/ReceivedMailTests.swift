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
        try await receive(store, at: recipients.map { .inbox($0) }, message, trace: trace, from: sender)
    }

    private func receive(
        _ store: Store,
        at destinations: [MailDestination],
        _ message: [UInt8]? = nil,
        trace: String = "Received: now\r\n",
        from sender: EmailAddress? = nil
    ) async throws -> [Ticket] {
        // As the connection does it: what is large goes through a file.
        var bytes = InboundBytes(trace: Array(trace.utf8), folder: "/var/tmp")
        for piece in (message ?? self.message).chunks(of: 30_000) { try await bytes.append(piece) }
        return try await InboundIntake(store).receive(
            InboundMail(
                from: sender ?? self.sender,
                for: destinations,
                try await bytes.finished(),
                clientAddress: "192.0.2.1",
                clientName: "mx.elsewhere.test",
                tls: "TLSv1.3"
            )
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
                guard case .found(.inbox(let found)) = try await store.recipient(EmailAddress(text)) else {
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
            for (change, expected) in [
                ("status = 'inactive'", RecipientLookup.inactive),
                ("status = NULL, deleted_at = now()", .noSuchMailbox),
            ] {
                try await store.database.query(
                    .tenant(org),
                    "UPDATE inboxes SET \(raw: change) WHERE id = \(inbox.id)"
                )
                #expect(try await store.recipient(EmailAddress("help@agents.test")) == expected)
            }
        }
    }

    @Test("mails of several organizations share a transaction, and the refusal of one is its own affair")
    func together() async throws {
        try await withStore { store in
            let (one, two) = (try await makeRecipient(store, "one"), try await makeRecipient(store, "two"))
            func mail(_ number: Int, _ recipients: [InboundRecipient], client: String = "x") -> InboundMail {
                InboundMail(
                    from: sender,
                    for: recipients.map { .inbox($0) },
                    InboundContentBytes(trace: [], message: Array("Subject: \(number)\r\n\r\n".utf8)),
                    clientAddress: "192.0.2.1",
                    clientName: client,
                    tls: nil
                )
            }
            let transactions: Statement = """
                SELECT count(DISTINCT xmin::text) AS n, count(*) AS rows FROM received_mail
                """
            let good = await store.receiveTogether([mail(1, [two]), mail(2, [one, two]), mail(1, [two])])
            #expect(try good.map { try $0.get().count } == [1, 2, 0])
            let written = try only(try await store.database.query(.worker, transactions))
            #expect(try written("n") == 1)
            #expect(try written("rows") == 3)
            // PostgreSQL keeps no NUL: the second cannot be written.
            let mixed = await store.receiveTogether([
                mail(3, [one]), mail(4, [one], client: "\0"), mail(5, [two]),
            ])
            #expect(mixed.map { (try? $0.get().count) ?? -1 } == [1, -1, 1])
            #expect(try await count(store, "received_mail") == 5)
            #expect(try await count(store, "jobs") == 5)
            #expect(try await count(store, "blobs") == 5)
        }
    }

    @Test("what comes again after a week is a new mail")
    func resentLate() async throws {
        try await withStore { store in
            let recipient = try await makeRecipient(store, "inbox")
            for (age, taken) in [("6 days 23 hours", 0), ("7 days 1 hour", 1)] {
                #expect(try await receive(store, for: [recipient], Array(age.utf8)).count == 1)
                try await store.database.query(
                    .worker,
                    "UPDATE received_mail SET received_at = now() - \(age)::interval"
                )
                #expect(try await receive(store, for: [recipient], Array(age.utf8)).count == taken, "\(age)")
            }
        }
    }

    @Test("postmaster and abuse go to their inbox, else are kept unread; dmarc is kept at send.<domain>")
    func roles() async throws {
        try await withStore { store in
            let domain = try await store.platformDomain(named: "agents.test")
            let org = try await store.createOrganization(named: "Acme")
            try await store.database.query(
                .tenant(org),
                "INSERT INTO verified_domains (name, org_id, domain_id) VALUES ('acme.test', \(org), \(DomainID()))"
            )
            let found: [(String, MailRole?, OrgID?)] = [
                ("postmaster@acme.test", .postmaster, org), ("ABUSE+x@Acme.Test", .abuse, org),
                ("dmarc@send.acme.test", .dmarc, org), ("postmaster@send.acme.test", .postmaster, org),
                ("postmaster@agents.test", .postmaster, nil), ("abuse@agents.test", .abuse, nil),
                ("dmarc@send.agents.test", .dmarc, nil), ("postmaster@mx.host.test", .postmaster, nil),
            ]
            for (text, role, owner) in found {
                let address = try EmailAddress(text)
                let expected = role.map {
                    RecipientLookup.found(
                        .role(RoleRecipient(address: address.description, role: $0, org: owner))
                    )
                }
                #expect(try await store.recipient(address, mailHost: "mx.host.test") == expected, "\(text)")
            }
            for (text, expected) in [
                ("dmarc@acme.test", RecipientLookup.noSuchMailbox), ("dmarc@mx.host.test", .notOurDomain),
                ("help@mx.host.test", .notOurDomain), ("help@send.acme.test", .notOurDomain),
                ("postmaster@send.elsewhere.test", .notOurDomain),
                ("postmaster@elsewhere.test", .notOurDomain),
            ] {
                #expect(
                    try await store.recipient(EmailAddress(text), mailHost: "mx.host.test") == expected,
                    "\(text)"
                )
            }
            let inbox = try await store.createInbox(org: org, localPart: "boss", displayName: nil, on: domain)
            try await store.database.query(
                .tenant(org),
                """
                UPDATE inboxes SET local_part = 'postmaster',
                    domain_id = (SELECT domain_id FROM verified_domains WHERE name = 'acme.test')
                WHERE id = \(inbox.id)
                """
            )
            guard
                case .found(.inbox(let recipient)) = try await store.recipient(
                    EmailAddress("postmaster@acme.test")
                )
            else { throw Unexpected(found: "no inbox") }
            #expect(recipient.inbox == inbox.id)
        }
    }

    @Test("mail for a role is kept as it came, for its organization, whose job reads it, or for the operator")
    func keptForRoles() async throws {
        try await withStore { store in
            let recipient = try await makeRecipient(store, "inbox")
            let large = message + [UInt8](repeating: 0x61, count: 600_000)
            let destinations: [MailDestination] = [
                .inbox(recipient),
                .role(RoleRecipient(address: "dmarc@send.acme.test", role: .dmarc, org: recipient.org)),
                .role(RoleRecipient(address: "abuse@agents.test", role: .abuse, org: nil)),
            ]
            for content in [message, large] {
                #expect(try await receive(store, at: destinations, content).count == 2)
                #expect(try await receive(store, at: destinations, content).isEmpty)
            }
            let kept = try await store.database.query(
                .tenant(recipient.org),
                """
                SELECT m.role, recipients->0->>'address' AS address, sum(length(bytes)) AS size, size_bytes
                FROM received_mail m JOIN blob_chunks c ON c.org_id = m.org_id AND c.blob_id = m.raw_blob
                WHERE role IS NOT NULL GROUP BY m.org_id, m.id ORDER BY size_bytes
                """
            )
            #expect(
                try kept.map { try $0("address") as String } == [
                    "dmarc@send.acme.test", "dmarc@send.acme.test",
                ]
            )
            let trace = "Received: now\r\n".utf8.count
            #expect(try kept.map { try $0("size") as Int } == [trace + message.count, trace + large.count])
            #expect(try await count(store, "jobs") == 4)
            let operators = try await store.database.query(
                .worker,
                """
                SELECT recipients, (SELECT string_agg(bytes, '' ORDER BY position) FROM operator_mail_chunks
                    WHERE mail_id = m.id) AS bytes
                FROM operator_mail m WHERE role = 'abuse' ORDER BY size_bytes
                """
            )
            #expect(
                try operators.map { try $0("recipients") as [String] } == [
                    ["abuse@agents.test"], ["abuse@agents.test"],
                ]
            )
            let bytes: [[UInt8]] = try operators.map { try $0("bytes") }
            #expect(bytes == [message, large].map { Array("Received: now\r\n".utf8) + $0 })
        }
    }

    private struct Unexpected: Error { let found: String }

    private func count(_ store: Store, _ table: String) async throws -> Int {
        let rows = try await store.database.query(.worker, "SELECT count(*) AS n FROM \(raw: table)")
        return try only(rows)("n")
    }
}

extension Array where Element == UInt8 {
    fileprivate func chunks(of size: Int) -> [[UInt8]] {
        stride(from: 0, to: count, by: size).map { Array(self[$0..<Swift.min($0 + size, count)]) }
    }
}
