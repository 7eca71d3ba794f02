// Which thread a mail belongs to, in whatever order a conversation arrives.

import Database
import Foundation
import Mail
import Platform
import Testing

@testable import Store

@Suite("Threads of received mail")
struct ThreadingTests {
    /// A store with one inbox, and a hand that puts mail into it.
    private struct Mailroom: Sendable {
        let store: Store
        let org: OrgID
        let inboxes: [Inbox]

        init(_ store: Store, inboxes names: [String] = ["inbox"]) async throws {
            self.store = store
            let org = try await store.createOrganization(named: "Acme \(UUID())")
            let domain = PlatformDomain(id: DomainID(), name: "agents.test")
            var inboxes: [Inbox] = []
            for name in names {
                inboxes.append(
                    try await store.createInbox(org: org, localPart: name, displayName: nil, on: domain)
                )
            }
            self.org = org
            self.inboxes = inboxes
        }

        /// Places a mail, for all inboxes unless addresses are given.
        func place(
            _ id: String,
            inReplyTo: [String] = [],
            references: [String] = [],
            text: String = "text",
            at time: Timestamp = .now,
            to addresses: [String]? = nil
        ) async throws {
            var content = InboundContent(rfcMessageID: id)
            content.inReplyTo = inReplyTo
            content.references = references
            content.text = text
            let addresses = addresses ?? inboxes.map(\.address)
            let recipients = addresses.compactMap { address in
                inboxes.first { address.hasPrefix($0.localPart) }.map {
                    InboundRecipient(address: address, org: org, inbox: $0.id)
                }
            }
            let mail = ReceivedMail(
                id: ReceivedMailID(),
                sender: "outside@elsewhere.test",
                recipients: recipients,
                clientAddress: "192.0.2.1",
                clientName: "x",
                tls: nil,
                receivedAt: time,
                bytes: []
            )
            let filled = content
            try await store.database.transaction(.worker) { transaction in
                try await store.place(filled, of: mail, org: org, in: transaction)
            }
        }

        /// The threads that a Message-ID is in.
        func threads(of id: String) async throws -> [ThreadID] {
            try await store.database.query(
                .tenant(org),
                "SELECT thread_id FROM messages WHERE rfc_message_id = \(id) ORDER BY inbox_id"
            ).map { try $0("thread_id") }
        }

        func thread(of id: String) async throws -> ThreadID {
            let threads = try await threads(of: id)
            #expect(threads.count == 1, "\(id)")
            return try #require(threads.first)
        }

        /// The only page of the first inbox's threads.
        func listed() async throws -> [MailThread] {
            try await store.threads(
                org: org,
                inbox: inboxes[0].id,
                domain: nil,
                order: .descending,
                after: nil,
                limit: 1000
            ).elements
        }
    }

    @Test("an answer joins by In-Reply-To, or by References when its parent is unknown")
    func joins() async throws {
        try await withStore { store in
            let room = try await Mailroom(store)
            try await room.place("<a@x>")
            try await room.place("<b@x>", inReplyTo: ["<a@x>"])
            try await room.place(
                "<c@x>",
                inReplyTo: ["<never-seen@x>"],
                references: ["<a@x>", "<never-seen@x>"]
            )
            try await room.place("<d@x>", references: ["<b@x>"])
            try await room.place("<other@x>")
            let thread = try await room.thread(of: "<a@x>")
            for id in ["<b@x>", "<c@x>", "<d@x>"] { #expect(try await room.thread(of: id) == thread) }
            #expect(try await room.thread(of: "<other@x>") != thread)
            let listed = try await room.listed()
            #expect(listed.first { $0.id == thread }?.messageCount == 4)
            #expect(listed.count == 2)
        }
    }

    @Test("In-Reply-To counts before References, and of References the newest")
    func order() async throws {
        try await withStore { store in
            let room = try await Mailroom(store)
            for id in ["<a@x>", "<b@x>", "<c@x>"] { try await room.place(id) }
            try await room.place("<1@x>", inReplyTo: ["<a@x>"], references: ["<b@x>", "<c@x>"])
            try await room.place("<2@x>", references: ["<a@x>", "<b@x>"])
            #expect(try await room.thread(of: "<1@x>") == room.thread(of: "<a@x>"))
            #expect(try await room.thread(of: "<2@x>") == room.thread(of: "<b@x>"))
        }
    }

    @Test("a parent that comes late joins its answers, and so does a sibling of a parent never seen")
    func lateParent() async throws {
        try await withStore { store in
            let room = try await Mailroom(store)
            let start = try #require(Timestamp(iso8601: "2025-03-15T08:00:00Z"))
            try await room.place(
                "<answer@x>",
                inReplyTo: ["<root@x>"],
                text: "answer",
                at: start + .seconds(10)
            )
            try await room.place("<sibling@x>", references: ["<root@x>"], at: start + .seconds(20))
            try await room.place("<root@x>", text: "root", at: start)
            let thread = try await room.thread(of: "<answer@x>")
            #expect(try await room.thread(of: "<root@x>") == thread)
            #expect(try await room.thread(of: "<sibling@x>") == thread)
            let listed = try await room.listed()
            #expect(listed.count == 1)
            #expect(listed[0].messageCount == 3)
            #expect(listed[0].firstMessageAt == start)
            #expect(listed[0].lastMessageAt == start + .seconds(20))
        }
    }

    @Test("the answer to a message that we sent joins its thread")
    func answersOurs() async throws {
        try await withStore { store in
            let room = try await Mailroom(store)
            var submission = Submission(to: [try Mailbox("a@elsewhere.test")], subject: "Hello")
            submission.inbox = room.inboxes[0].id
            submission.text = "Hi"
            let sent = try await store.accept(submission, org: room.org)
            try await room.place("<answer@x>", inReplyTo: [sent.rfcMessageID])
            #expect(try await room.thread(of: "<answer@x>") == sent.thread)
        }
    }

    @Test("for two inboxes it is a message in each, in a thread of each")
    func twoInboxes() async throws {
        try await withStore { store in
            let room = try await Mailroom(store, inboxes: ["one", "two"])
            try await room.place("<a@x>")
            try await room.place("<b@x>", inReplyTo: ["<a@x>"])
            let first = try await room.threads(of: "<a@x>")
            #expect(Set(first).count == 2)
            #expect(try await room.threads(of: "<b@x>") == first)
        }
    }

    @Test("for one inbox under two addresses it is one message")
    func oneInboxTwice() async throws {
        try await withStore { store in
            let room = try await Mailroom(store)
            try await room.place("<a@x>", to: ["inbox@agents.test", "inbox+tag@agents.test"])
            #expect(try await room.threads(of: "<a@x>").count == 1)
            #expect(try await room.listed().map(\.messageCount) == [1])
        }
    }

    @Test("threads of two organizations are never one, though they cite the same ids")
    func organizations() async throws {
        try await withStore { store in
            let one = try await Mailroom(store, inboxes: ["one"])
            let two = try await Mailroom(store, inboxes: ["two"])
            try await one.place("<a@x>")
            try await two.place("<b@x>", inReplyTo: ["<a@x>"])
            try await two.place("<a@x>")
            let thread = try await one.thread(of: "<a@x>")
            let other = try await two.thread(of: "<b@x>")
            #expect(thread != other)
            #expect(try await two.thread(of: "<a@x>") == other)
        }
    }

    @Test("mail for an inbox that was deleted meanwhile is dropped")
    func deleted() async throws {
        try await withStore { store in
            let room = try await Mailroom(store)
            try await store.database.query(.tenant(room.org), "UPDATE inboxes SET deleted_at = now()")
            try await room.place("<a@x>")
            #expect(try await room.threads(of: "<a@x>").isEmpty)
            #expect(try await room.listed().isEmpty)
        }
    }

    @Test("two mails of one conversation that are placed at once make one thread, every time")
    func atOnce() async throws {
        try await withStore { store in
            let room = try await Mailroom(store)
            for round in 0..<20 {
                let (root, answer, sibling) = (
                    "<root-\(round)@x>", "<answer-\(round)@x>", "<sibling-\(round)@x>"
                )
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await room.place(answer, inReplyTo: [root]) }
                    group.addTask { try await room.place(root) }
                    group.addTask { try await room.place(sibling, references: [root]) }
                    try await group.waitForAll()
                }
                let thread = try await room.thread(of: root)
                #expect(try await room.thread(of: answer) == thread, "round \(round)")
                #expect(try await room.thread(of: sibling) == thread, "round \(round)")
            }
            let listed = try await room.listed()
            #expect(listed.count == 20)
            #expect(listed.allSatisfy { $0.messageCount == 3 })
        }
    }
}
