// Sends of one moment share a transaction, and none pays for another.

import Database
import Mail
import Platform
import Queue
import Synchronization
import Testing

@testable import Store

@Suite("Shared sends")
struct SharedSendsTests {
    /// A store with two organizations that have an inbox each.
    private struct Room {
        let store: Store
        let orgs: [OrgID]
        let inboxes: [Inbox]

        init(_ store: Store) async throws {
            self.store = store
            var (orgs, inboxes) = ([OrgID](), [Inbox]())
            for name in ["one", "two"] {
                let org = try await store.createOrganization(named: name)
                let domain = PlatformDomain(id: DomainID(), name: "agents.test")
                orgs.append(org)
                inboxes.append(
                    try await store.createInbox(org: org, localPart: name, displayName: nil, on: domain)
                )
            }
            (self.orgs, self.inboxes) = (orgs, inboxes)
        }

        /// Accepts all at the same time; the answers in order.
        func accept(
            _ submissions: [(Submission, OrgID)]
        ) async -> [Result<AcceptedSubmission, any Error>] {
            await withTaskGroup(of: (Int, Result<AcceptedSubmission, any Error>).self) { group in
                for (place, (submission, org)) in submissions.enumerated() {
                    group.addTask {
                        do {
                            return (place, .success(try await store.accept(submission, org: org)))
                        } catch {
                            return (place, .failure(error))
                        }
                    }
                }
                var answers: [Int: Result<AcceptedSubmission, any Error>] = [:]
                for await (place, answer) in group { answers[place] = answer }
                return submissions.indices.compactMap { answers[$0] }
            }
        }
    }

    private func submission(_ number: Int, from inbox: Inbox) throws -> Submission {
        var submission = Submission(
            to: [try Mailbox("a\(number)@x.test"), try Mailbox("b\(number)@y.test")],
            subject: "Number \(number)"
        )
        submission.inbox = inbox.id
        submission.text = "Text \(number)"
        return submission
    }

    @Test("Many sends at once share transactions, and each has its rows and its jobs")
    func together() async throws {
        try await withStore { store in
            let room = try await Room(store)
            let count = 60
            let answers = await room.accept(
                try (0..<count).map { (try submission($0, from: room.inboxes[$0 % 2]), room.orgs[$0 % 2]) }
            )
            let accepted = try answers.map { try $0.get() }
            for (number, answer) in accepted.enumerated() {
                let row = try only(
                    try await store.database.query(
                        .tenant(room.orgs[number % 2]),
                        """
                        SELECT m.subject, b.content, t.subject AS of_thread, m.rfc_message_id,
                            (SELECT count(*) FROM recipients r WHERE r.message_id = m.id) AS recipients,
                            (SELECT count(*) FROM jobs j WHERE j.payload->>'message' = m.id::text) AS jobs
                        FROM messages m JOIN message_bodies b ON b.message_id = m.id JOIN threads t ON t.id = m.thread_id
                        WHERE m.id = \(answer.message) AND t.id = \(answer.thread)
                        """
                    )
                )
                #expect(try row("subject") == "Number \(number)")
                #expect(try row("content") == "Text \(number)")
                #expect(try row("of_thread") == "Number \(number)")
                #expect(try row("rfc_message_id") == answer.rfcMessageID)
                #expect(try row("recipients") == 2)
                #expect(try row("jobs") == 2)
                #expect(answer.tickets.count == 2)
            }
            // now() is the transaction's, so as many times as transactions.
            let rows = try await store.database.query(
                .worker,
                "SELECT count(*) AS messages, count(DISTINCT created_at) AS times FROM messages"
            )
            #expect(try only(rows)("messages") == count)
            #expect(try only(rows)("times") < count / 2)
        }
    }

    @Test("A send that is refused is refused alone")
    func refusedAlone() async throws {
        try await withStore { store in
            let room = try await Room(store)
            var submissions = try (0..<40).map { (try submission($0, from: room.inboxes[0]), room.orgs[0]) }
            // PostgreSQL takes no NUL, which shows only when the rows are written.
            submissions[20].0.text = "a\0b"
            submissions[25].0.inbox = InboxID()
            submissions[30].0.inbox = nil
            // Another organization's inbox is not there.
            submissions[35].0.inbox = room.inboxes[1].id
            let answers = await room.accept(submissions)
            for (number, answer) in answers.enumerated() {
                switch (number, answer) {
                case (20, .failure(let error)): #expect(error is DatabaseError)
                case (25, .failure(let error)), (35, .failure(let error)):
                    #expect(error as? StoreFault == .unknown("Inbox not found"))
                case (30, .failure(let error)):
                    guard case StoreFault.refused = error else {
                        Issue.record("\(error)")
                        continue
                    }
                case (_, .success): #expect(![20, 25, 30, 35].contains(number))
                case (_, .failure(let error)): Issue.record("\(number): \(error)")
                }
            }
            let rows = try await store.database.query(.worker, "SELECT count(*) AS n FROM messages")
            #expect(try only(rows)("n") == 36)
        }
    }

    @Test("What comes while all places are taken goes together, each key by itself and within its weight")
    func groups() async throws {
        let gate = Mutex<[CheckedContinuation<Void, Never>]>([])
        let started = AsyncStream<[Int]>.makeStream()
        var limits = Convoy<String, Int, Int>.Limits()
        (limits.groupsOfKey, limits.groups, limits.items, limits.weight) = (1, 2, 3, 10)
        let convoy = Convoy<String, Int, Int>(limits) { _, items in
            await withCheckedContinuation { open in
                gate.withLock { $0.append(open) }
                started.continuation.yield(items)
            }
            return items.map { .success($0 * 2) }
        }
        var groups = started.stream.makeAsyncIterator()
        func open() { gate.withLock { $0.isEmpty ? nil : $0.removeFirst() }?.resume() }
        try await withThrowingTaskGroup(of: Int.self) { group in
            func go(_ key: String, _ item: Int, weight: Int = 1) {
                group.addTask { try await convoy.go(key, item, weight: weight) }
            }
            go("a", 1)
            #expect(await groups.next() == [1])
            go("b", 2)
            #expect(await groups.next() == [2])
            // Both places are taken: these wait. One after the other, so that their order is known.
            for (count, (key, item, weight)) in [("a", 3, 6), ("a", 4, 6), ("a", 5, 1), ("c", 6, 1)]
                .enumerated()
            {
                go(key, item, weight: weight)
                while convoy.waitingCount <= count { await Task.yield() }
            }
            open()
            #expect(await groups.next() == [3, 5])
            open()
            // "a" is under way; the next in line is of "c".
            #expect(await groups.next() == [6])
            open()
            #expect(await groups.next() == [4])
            open()
            open()
            var answers: Set<Int> = []
            for try await answer in group { answers.insert(answer) }
            #expect(answers == [2, 4, 6, 8, 10, 12])
        }
    }
}
