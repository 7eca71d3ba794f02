// Alerts: raised once, at the limit and not before, and resolved when it is over.

import Database
import Foundation
import Mail
import Platform
import Store
import Testing

@Suite("Alerts")
struct AlertTests {
    /// Counts of one organization in the last hours, and the alerts that are open then.
    struct Case: Sendable, CustomTestStringConvertible {
        let delivered: Int
        var bounced = 0
        var complained = 0
        var kinds: [String] = []
        var testDescription: String { "\(delivered) delivered, \(bounced) bounced, \(complained) complained" }
    }

    @Test(
        "rates raise above their limit and with enough recipients",
        arguments: [
            Case(delivered: 0), Case(delivered: 95, bounced: 5),
            Case(delivered: 94, bounced: 6, kinds: ["bounce_rate"]), Case(delivered: 90, bounced: 9),
            Case(delivered: 1, bounced: 98), Case(delivered: 1, bounced: 99, kinds: ["bounce_rate"]),
            Case(delivered: 1_000, complained: 3), Case(delivered: 499, complained: 20),
            Case(delivered: 1_000, complained: 4, kinds: ["complaint_rate"]),
            Case(delivered: 500, bounced: 50, complained: 2, kinds: ["bounce_rate", "complaint_rate"]),
        ]
    )
    func limits(_ sample: Case) async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "A")
            let other = try await store.createOrganization(named: "B")
            try await count(store, org, sample)
            for _ in 0..<2 {
                try await store.judgeAlerts()
                #expect(try await open(store, org) == sample.kinds)
                #expect(try await open(store, other) == [])
            }
        }
    }

    @Test("an alert stays while the rate is near its limit, is resolved when it is over, and comes anew")
    func life() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "A")
            for (bounced, isOpen) in [(6, true), (9, true), (5, true), (4, false), (5, false), (7, true)] {
                try await count(store, org, Case(delivered: 100 - bounced, bounced: bounced))
                try await store.judgeAlerts()
                #expect(try await open(store, org) == (isOpen ? ["bounce_rate"] : []), "\(bounced)")
            }
            let all = try await store.alerts(org: org, status: nil, kind: nil, after: nil, limit: 10).elements
            #expect(all.map { $0.resolvedAt == nil } == [true, false])
            #expect(
                all.last?.message
                    == "6 of 100 recipients in 24 hours refused their mail for good: 6.00 %, more than 5 %."
            )
            // What is older than a day counts no more.
            try await store.database.query(
                .worker,
                "UPDATE delivery_counts SET hour = hour - interval '25 hours'"
            )
            try await store.judgeAlerts()
            #expect(try await open(store, org) == [])
        }
    }

    @Test("a verified domain whose records are gone raises one, until they are back")
    func domain() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "A")
            let domain = try await store.createDomain(
                org: org,
                name: DomainName("example.com"),
                givenName: "example.com",
                region: .usEast1,
                hosts: MailHosts(receiving: "mx.test", bounce: "b.test", spfInclude: "spf.test")
            )
            for (change, isOpen): (Statement, Bool) in [
                ("status = 'pending', records_lost_at = now()", false),
                ("status = 'verified'", true), ("records_lost_at = NULL", false),
            ] {
                try await store.database.query(.worker, "UPDATE domains SET \(fragment: change)")
                try await store.judgeAlerts()
                let page = try await store.alerts(org: org, status: .open, kind: nil, after: nil, limit: 9)
                #expect(page.elements.map(\.subject) == (isOpen ? [domain.id.description] : []))
            }
        }
    }

    @Test("what others raise is there once, and gone when they say so")
    func statements() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "A")
            let (raise, resolve) = (
                Alert.raise(.webhookDisabled, subject: "one", message: "It failed.", org: org),
                Alert.resolve(.webhookDisabled, subject: "one", org: org)
            )
            try await store.database.batch(.worker, [raise, raise])
            try await store.judgeAlerts()
            #expect(try await open(store, org) == ["webhook_disabled"])
            try await store.database.batch(.worker, [resolve, resolve])
            #expect(try await open(store, org) == [])
        }
    }

    private func open(_ store: Store, _ org: OrgID) async throws -> [String] {
        try await store.alerts(org: org, status: .open, kind: nil, after: nil, limit: 10).elements
            .map(\.kind.rawValue).sorted()
    }

    private func count(_ store: Store, _ org: OrgID, _ sample: Case) async throws {
        let counts = [
            ("email.delivered", sample.delivered), ("email.bounced", sample.bounced),
            ("email.complained", sample.complained),
        ]
        try await store.database.batch(
            .worker,
            ["DELETE FROM delivery_counts WHERE org_id = \(org)"]
                + counts.map { type, count in
                    """
                    INSERT INTO delivery_counts (org_id, subject_id, hour, event_type, count)
                    VALUES (\(org), \(org), date_trunc('hour', now(), 'UTC') - interval '20 hours', \(type), \(count))
                    """
                }
        )
    }
}
