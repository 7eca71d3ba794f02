// What a report changes, by the state it finds: once, and never for anybody else.

import Database
import Foundation
import Mail
import Platform
import Store
import Testing

@Suite("Returned mail")
struct ReturnTests {
    private static let gone = Bounce(reason: .userUnknown, isPermanent: true)
    private static let full = Bounce(reason: .mailboxFull, isPermanent: true)
    private static let spam = ReturnNotice.Fate.complained(
        SpamReport(type: "abuse", reporter: "Loop/1.0", sourceAddress: "192.0.2.1")
    )

    /// A recipient's state before, what is reported, and what is there afterwards.
    struct Case: Sendable, CustomTestStringConvertible {
        let before: String
        let fate: ReturnNotice.Fate
        let after: String
        var events: [String] = []
        var suppression: String?
        var testDescription: String { "\(before) + \(fate) = \(after)" }
    }

    private static let cases: [Case] =
        ["queued", "sent", "deferred", "delivered"].flatMap { state -> [Case] in
            [
                Case(
                    before: state,
                    fate: .failed(gone),
                    after: "bounced",
                    events: ["email.bounced"],
                    suppression: "hard_bounce"
                ),
                Case(before: state, fate: .failed(full), after: "bounced", events: ["email.bounced"]),
                Case(before: state, fate: .delayed, after: state, events: ["email.delivery_delayed"]),
            ]
        }
        + ["bounced", "failed", "complained", "suppressed"].flatMap { state -> [Case] in
            [
                Case(before: state, fate: .failed(gone), after: state),
                Case(before: state, fate: .delayed, after: state),
                Case(before: state, fate: .delivered, after: state),
            ]
        }
        + [
            Case(before: "sent", fate: .delivered, after: "delivered", events: ["email.delivered"]),
            Case(before: "deferred", fate: .delivered, after: "deferred"),
            Case(before: "delivered", fate: .delivered, after: "delivered"),
        ]
        + ["delivered", "sent", "bounced"].map {
            Case(
                before: $0,
                fate: spam,
                after: "complained",
                events: ["email.complained"],
                suppression: "complaint"
            )
        }
        + [
            Case(before: "complained", fate: spam, after: "complained"),
            Case(
                before: "delivered",
                fate: .optedOut,
                after: "delivered",
                events: ["email.unsubscribed"],
                suppression: "unsubscribe"
            ),
        ]

    @Test("each report does its work once, by the state it finds", arguments: cases)
    func states(_ sample: Case) async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let sent = try await sender.send(["one@x.test"])
            try await store.database.query(.worker, "UPDATE recipients SET state = \(sample.before)")
            let notice = ReturnNotice(address: "ONE@x.test", fate: sample.fate, detail: "550 so it is")
            let report = ProvenReturn(message: sent.message, ordinal: 0, notices: [notice, notice])
            for _ in 0..<2 {
                try await record(report, sender)
                #expect(try await lines(sender, "SELECT state AS line FROM recipients") == [sample.after])
                let events = try await lines(
                    sender,
                    "SELECT event_type AS line FROM delivery_events ORDER BY id"
                )
                #expect(events == sample.events)
                let suppressed = try await lines(sender, "SELECT reason AS line FROM suppressions")
                #expect(suppressed == [sample.suppression].compactMap { $0 })
            }
            let details = try await lines(sender, "SELECT DISTINCT detail AS line FROM delivery_events")
            #expect(details.allSatisfy { $0 == "550 so it is" || $0.isEmpty })
        }
    }

    @Test("the same report read by several workers at once changes one thing once")
    func atOnce() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let sent = try await sender.send(["one@x.test"])
            // As many as the pool has connections.
            for fate in [ReturnNotice.Fate.failed(Self.full), .optedOut, .delayed, Self.spam] {
                try await withThrowingTaskGroup { group in
                    for _ in 0..<4 {
                        let notice = ReturnNotice(address: "one@x.test", fate: fate, detail: "")
                        let report = ProvenReturn(message: sent.message, ordinal: 0, notices: [notice])
                        group.addTask { try await record(report, sender) }
                    }
                    try await group.waitForAll()
                }
            }
            let events = try await lines(sender, "SELECT event_type AS line FROM delivery_events")
            #expect(events.sorted() == ["email.bounced", "email.complained", "email.unsubscribed"])
            let counted = try await lines(
                sender,
                "SELECT coalesce(max(count), 0)::text AS line FROM soft_bounces"
            )
            #expect(counted == ["1"])
            #expect(try await lines(sender, "SELECT state AS line FROM recipients") == ["complained"])
        }
    }

    @Test("a token speaks for those who shared its transaction: the same domain, from its recipient on")
    func sharers() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let sent = try await sender.send(["a@x.test", "b@y.test", "c@x.test", "d@x.test"])
            func say(_ address: String, ordinal: Int?) async throws -> [String] {
                let notice = ReturnNotice(address: address, fate: .failed(Self.gone), detail: "")
                try await record(
                    ProvenReturn(message: sent.message, ordinal: ordinal, notices: [notice]),
                    sender
                )
                return try await lines(
                    sender,
                    "SELECT address AS line FROM recipients WHERE state = 'bounced' ORDER BY ordinal"
                )
            }
            #expect(try await say("b@y.test", ordinal: 0) == [])
            #expect(try await say("a@x.test", ordinal: 2) == [])
            #expect(try await say("stranger@x.test", ordinal: 0) == [])
            #expect(try await say("d@x.test", ordinal: nil) == [])
            #expect(try await say("C@X.test", ordinal: 0) == ["c@x.test"])
            // Alone in its transaction: whatever name a forwarder gave it.
            #expect(try await say("stranger@z.test", ordinal: 1) == ["b@y.test", "c@x.test"])
        }
    }

    @Test("where each has an unsubscribe link, each has a transaction and a token of their own")
    func alone() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store, listUnsubscribe: true)
            let sent = try await sender.send(["a@x.test", "b@x.test"]) {
                $0.unsubscribeURL = "https://x.test/unsubscribe?token="
            }
            let notice = ReturnNotice(address: "b@x.test", fate: .failed(Self.gone), detail: "")
            try await record(ProvenReturn(message: sent.message, ordinal: 0, notices: [notice]), sender)
            let states = try await lines(sender, "SELECT state AS line FROM recipients ORDER BY ordinal")
            #expect(states == ["bounced", "queued"])
        }
    }

    @Test("another organization's message, or one that is gone, is not touched")
    func tenants() async throws {
        try await withStore { store in
            let (a, b) = (try await Sender("A", store), try await Sender("B", store))
            let sent = try await a.send(["one@x.test"])
            let notice = ReturnNotice(address: "one@x.test", fate: .failed(Self.gone), detail: "")
            try await record(ProvenReturn(message: sent.message, ordinal: 0, notices: [notice]), b)
            try await record(ProvenReturn(message: MessageID(), ordinal: 0, notices: [notice]), a)
            #expect(try await lines(a, "SELECT state AS line FROM recipients") == ["queued"])
            #expect(try await lines(b, "SELECT reason AS line FROM suppressions") == [])
        }
    }

    @Test("a complaint of which nobody can say whose it is suppresses nobody, and is told of once")
    func anonymous() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let sent = try await sender.send(["a@x.test", "b@x.test"])
            let notice = ReturnNotice(address: "a@x.test", fate: Self.spam, detail: "")
            for _ in 0..<2 {
                try await record(ProvenReturn(message: sent.message, ordinal: nil, notices: [notice]), sender)
            }
            #expect(
                try await lines(
                    sender,
                    "SELECT event_type || coalesce(recipient, '-') AS line FROM delivery_events"
                ) == ["email.complained-"]
            )
            #expect(try await lines(sender, "SELECT reason AS line FROM suppressions") == [])
            #expect(try await lines(sender, "SELECT recipient AS line FROM spam_reports") == [""])
        }
    }

    @Test(
        "in the metrics a message that comes back counts as bounced alone, counted before or after",
        arguments: [true, false]
    )
    func metrics(_ isCountedBefore: Bool) async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let sent = try await sender.send(["one@x.test"])
            try await store.database.batch(
                .worker,
                [
                    "UPDATE recipients SET state = 'delivered'",
                    """
                    INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type, recipient)
                    VALUES (\(sender.org), \(EventID()), \(sent.message), \(sender.inbox.id), \(sender.inbox.domain),
                        'email.delivered', 'one@x.test')
                    """,
                ]
            )
            func metrics(_ inbox: InboxID? = nil) async throws -> DeliveryMetrics {
                try await store.deliveryMetrics(org: sender.org, inbox: inbox, domain: nil, period: .day)
            }
            if isCountedBefore { _ = try await store.countEvents() }
            #expect(try await metrics().delivered == 1)
            let notice = ReturnNotice(address: "one@x.test", fate: .failed(Self.gone), detail: "")
            for _ in 0..<2 {
                try await record(ProvenReturn(message: sent.message, ordinal: 0, notices: [notice]), sender)
                _ = try await store.countEvents()
                for inbox in [nil, sender.inbox.id] {
                    let counted = try await metrics(inbox)
                    #expect(counted.delivered == 0)
                    #expect(counted.bounced == 1)
                    #expect(counted.bounceRate == 100)
                }
            }
        }
    }

    private func record(_ report: ProvenReturn, _ sender: Sender) async throws {
        try await sender.store.database.transaction(.worker) { transaction in
            try await sender.store.record(report, org: sender.org, in: transaction)
        }
    }

    private func lines(_ sender: Sender, _ query: Statement) async throws -> [String] {
        try await sender.store.database.query(.tenant(sender.org), query).map { try $0("line") }
    }
}
