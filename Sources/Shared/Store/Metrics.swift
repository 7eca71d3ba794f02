// Delivery metrics: events counted by the hour, and those since the last count one by one.

import Database
package import Platform

/// Over how long metrics are.
package enum MetricsPeriod: String, Sendable, CaseIterable {
    case day = "24h"
    case week = "7d"
    case month = "30d"

    var hours: Int {
        switch self {
        case .day: 24
        case .week: 7 * 24
        case .month: 30 * 24
        }
    }
}

/// How mail went.
package struct DeliveryMetrics: Sendable, Equatable {
    /// Messages of which a first try was made; all other counts are of recipients.
    package var sent = 0
    package var delivered = 0
    package var bounced = 0
    package var complained = 0
    package var failed = 0

    /// Nothing has happened.
    package init() {}

    /// Percent of the recipients whose fate is known that took the mail; nil when none is.
    package var deliveryRate: Double? { Self.percent(delivered, of: delivered + bounced + failed) }
    /// Percent of the recipients whose fate is known that refused it for good; nil when none is.
    package var bounceRate: Double? { Self.percent(bounced, of: delivered + bounced + failed) }
    /// Percent of the recipients that took the mail who complained; nil when none took any.
    package var complaintRate: Double? { Self.percent(complained, of: delivered) }

    private static func percent(_ part: Int, of whole: Int) -> Double? {
        // Complaints may be about mail that was delivered before the period.
        whole == 0 ? nil : min(100, (Double(part) * 10_000 / Double(whole)).rounded() / 100)
    }
}

extension Store {
    /// Transactions of events that one count takes in.
    private static let countedMax = 100_000

    /// How mail of an inbox, a domain or the whole organization went, from the full hour in which the period began.
    package func deliveryMetrics(
        org: OrgID,
        inbox: InboxID?,
        domain: DomainID?,
        period: MetricsPeriod
    ) async throws -> DeliveryMetrics {
        // A limited key's are those of its inboxes together.
        var inboxes: Statement = "SELECT id FROM inboxes WHERE org_id = \(org)"
        if let domain { inboxes += " AND domain_id = \(domain)" }
        let subject = inbox?.uuid ?? domain?.uuid ?? org.uuid
        let subjects: Statement =
            inbox != nil
            ? "ARRAY[\(subject)::uuid]"
            : """
            CASE WHEN key_inboxes() IS NULL AND key_domains() IS NULL THEN ARRAY[\(subject)::uuid]
                ELSE ARRAY(\(fragment: inboxes)) END
            """
        let since: Statement =
            "date_trunc('hour', now() - make_interval(hours => \(period.hours)::integer), 'UTC')"
        var isTrue: Statement = "true"
        if let inbox, let domain {
            isTrue = """
                EXISTS (SELECT FROM inboxes WHERE org_id = \(org) AND id = \(inbox) AND domain_id = \(domain))
                """
        }
        let rows = try await database.query(
            .tenant(org),
            """
            SELECT event_type, sum(n)::bigint AS n FROM (
                SELECT event_type, count AS n FROM delivery_counts
                WHERE org_id = \(org) AND subject_id = ANY (\(fragment: subjects)) AND hour >= \(fragment: since)
                UNION ALL
                SELECT event_type, 1 FROM delivery_events
                WHERE org_id = \(org) AND xid >= (SELECT up_to FROM delivery_counted)
                    AND created_at >= \(fragment: since)\(fragment: Self.place(inbox: inbox, domain: domain, org))
            ) AS counts WHERE \(fragment: isTrue) GROUP BY event_type
            """
        )
        var metrics = DeliveryMetrics()
        for row in rows {
            let count: Int = try row("n")
            switch try row("event_type") as String {
            case EventType.sent: metrics.sent = count
            case EventType.delivered: metrics.delivered = count
            case EventType.bounced: metrics.bounced = count
            case EventType.complained: metrics.complained = count
            case EventType.failed: metrics.failed = count
            default: break
            }
        }
        return metrics
    }

    /// Counts what has happened since the last count; false when there is more to count.
    ///
    /// Events of transactions older than every running one, so that none is passed over; each once, since the mark
    /// moves in the same transaction.
    package func countEvents() async throws -> Bool {
        let rows = try await database.query(
            .worker,
            """
            WITH mark AS MATERIALIZED (
                SELECT up_to, least(pg_snapshot_xmin(pg_current_snapshot()), coalesce((
                    SELECT e.xid FROM delivery_events e WHERE e.xid > c.up_to
                    ORDER BY e.xid OFFSET \(Self.countedMax) LIMIT 1), pg_snapshot_xmin(pg_current_snapshot()))) AS next
                FROM delivery_counted c FOR UPDATE),
            fresh AS (
                INSERT INTO delivery_counts AS d (org_id, subject_id, hour, event_type, count)
                SELECT e.org_id, s.subject, date_trunc('hour', e.created_at, 'UTC'), e.event_type, count(*)
                FROM mark, delivery_events e
                    CROSS JOIN LATERAL (VALUES (e.org_id), (e.domain_id), (e.inbox_id)) AS s (subject)
                WHERE e.xid >= mark.up_to AND e.xid < mark.next
                GROUP BY 1, 2, 3, 4
                ON CONFLICT (org_id, subject_id, hour, event_type) DO UPDATE SET count = d.count + excluded.count)
            UPDATE delivery_counted SET up_to = mark.next FROM mark WHERE mark.next > delivery_counted.up_to
            RETURNING delivery_counted.up_to >= pg_snapshot_xmin(pg_current_snapshot()) AS is_done
            """
        )
        return try rows.first.map { try $0("is_done") } ?? true
    }
}
