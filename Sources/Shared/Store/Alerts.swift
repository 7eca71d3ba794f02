// What an organization should look at before somebody else does: raised once, resolved when it is over.
//
// Rates are of the last 24 hours, and of enough mail to mean something. An alert that is raised stays until the rate is
// well below its limit, so that it does not come and go.

package import Database
import Foundation
package import Platform

/// Something to look at.
package struct Alert: Sendable {
    package enum Kind: String, Sendable, CaseIterable, Column {
        /// More than `bounceRateMax` of the recipients refused their mail for good.
        case bounceRate = "bounce_rate"
        /// More than `complaintRateMax` of those who took it complained.
        case complaintRate = "complaint_rate"
        /// A verified domain lacks a record that it needs; the subject is the domain.
        case domainRecords = "domain_records"
        /// A webhook was switched off, because it failed for too long; the subject is the inbox.
        case webhookDisabled = "webhook_disabled"
        /// Mail for postmaster@ or abuse@ was kept, because no inbox has the name; the subject is the address.
        case keptMail = "kept_mail"
    }

    package enum Status: String, Sendable, CaseIterable {
        case open, resolved
    }

    /// Percent; above it mailbox providers begin to distrust a sender.
    package static let bounceRateMax = 5.0
    package static let complaintRateMax = 0.3
    /// Recipients below whom a rate says nothing.
    package static let bounceRecipientsMin = 100
    package static let complaintRecipientsMin = 500
    /// Of its limit: below this part of it a rate is over.
    static let isOverBelow = 0.8
    /// For so long after the last one, kept mail is worth an alert.
    static let keptMailDays = 7

    package let id: AlertID
    package let kind: Kind
    /// The id of what it is about; "" for the organization.
    package let subject: String
    /// A sentence.
    package let message: String
    package let raisedAt: Timestamp
    package let resolvedAt: Timestamp?

    init(_ row: Row) throws {
        id = try row("id")
        kind = try row("kind")
        subject = try row("subject")
        message = try row("message")
        raisedAt = try row("raised_at")
        resolvedAt = try row("resolved_at")
    }
}

extension Alert {
    /// Raises an alert; while it is open, again changes nothing.
    package static func raise(_ kind: Kind, subject: String, message: String, org: OrgID) -> Statement {
        """
        INSERT INTO alerts (org_id, id, kind, subject, message)
        VALUES (\(org), \(AlertID()), \(kind), \(subject), \(message))
        ON CONFLICT (org_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
        """
    }

    /// Says that it is over; nothing when it is not open.
    package static func resolve(_ kind: Kind, subject: String, org: OrgID) -> Statement {
        """
        UPDATE alerts SET resolved_at = now()
        WHERE org_id = \(org) AND kind = \(kind) AND subject = \(subject) AND resolved_at IS NULL
        """
    }
}

extension Store {
    /// A page of alerts, the newest first.
    package func alerts(
        org: OrgID,
        status: Alert.Status?,
        kind: Alert.Kind?,
        after cursor: Cursor?,
        limit: Int
    ) async throws -> Page<Alert> {
        var query: Statement = """
            SELECT id, kind, subject, message, raised_at, resolved_at FROM alerts WHERE org_id = \(org)
            """
        if let kind { query += " AND kind = \(kind)" }
        switch status {
        case .open: query += " AND resolved_at IS NULL"
        case .resolved: query += " AND resolved_at IS NOT NULL"
        case nil: break
        }
        if let cursor { query += " AND (raised_at, id) < (\(cursor.time), \(cursor.id))" }
        query += " ORDER BY raised_at DESC, id DESC LIMIT \(limit + 1)"
        let rows = try await database.query(.tenant(org), query)
        return Page(try rows.map(Alert.init), limit: limit) { Cursor(time: $0.raisedAt, id: $0.id.uuid) }
    }

    /// Raises and resolves the alerts that follow from what is stored: rates and lost records, of every organization.
    package func judgeAlerts() async throws {
        try await database.batch(
            .worker,
            Self.rateAlerts + Self.domainAlerts + [Self.keptMailIsOver],
            timeout: .seconds(60)
        )
    }

    /// Tells that mail for a role was kept.
    package func tellOfKeptMail(
        _ role: MailRole,
        _ address: String,
        org: OrgID,
        in transaction: Transaction
    ) async throws {
        let subject = address.lowercased()
        try await transaction.query(
            Alert.raise(
                .keptMail,
                subject: subject,
                message: "Mail for \(subject) was kept unread: make an inbox \(role.rawValue) to receive it.",
                org: org
            )
        )
    }

    private static var keptMailIsOver: Statement {
        """
        UPDATE alerts SET resolved_at = now()
        WHERE kind = \(Alert.Kind.keptMail) AND resolved_at IS NULL AND NOT EXISTS (
            SELECT FROM received_mail m WHERE m.org_id = alerts.org_id AND m.role = split_part(alerts.subject, '@', 1)
                AND m.received_at > now() - make_interval(days => \(Alert.keptMailDays)::integer))
        """
    }

    private static var rateAlerts: [Statement] {
        // Refused for good, of those whose fate is known; complained, of those who took it.
        let rates: Statement = """
            SELECT o.id AS org_id, r.kind, r.part, r.whole, r.limit_rate, r.whole_min,
                CASE WHEN r.whole > 0 THEN 100.0 * r.part / r.whole ELSE 0 END AS rate
            FROM organizations o
            CROSS JOIN LATERAL (
                SELECT coalesce(sum(count) FILTER (WHERE event_type = \(EventType.delivered)), 0)::bigint AS delivered,
                    coalesce(sum(count) FILTER (WHERE event_type = \(EventType.bounced)), 0)::bigint AS bounced,
                    coalesce(sum(count) FILTER (WHERE event_type = \(EventType.failed)), 0)::bigint AS failed,
                    coalesce(sum(count) FILTER (WHERE event_type = \(EventType.complained)), 0)::bigint AS complained
                FROM delivery_counts c
                WHERE c.org_id = o.id AND c.subject_id = o.id AND c.hour > now() - interval '24 hours') AS n
            CROSS JOIN LATERAL (VALUES
                (\(Alert.Kind.bounceRate), n.bounced, n.delivered + n.bounced + n.failed,
                    \(Alert.bounceRateMax)::float8, \(Alert.bounceRecipientsMin)::bigint),
                (\(Alert.Kind.complaintRate), n.complained, n.delivered, \(Alert.complaintRateMax)::float8,
                    \(Alert.complaintRecipientsMin)::bigint)
            ) AS r (kind, part, whole, limit_rate, whole_min)
            """
        return [
            """
            INSERT INTO alerts (org_id, id, kind, message)
            SELECT org_id, gen_random_uuid(), kind, format(
                CASE kind WHEN \(Alert.Kind.bounceRate)
                    THEN '%s of %s recipients in 24 hours refused their mail for good: %s %%, more than %s %%.'
                    ELSE '%s of %s recipients in 24 hours complained about their mail: %s %%, more than %s %%.' END,
                part, whole, round(rate::numeric, 2), limit_rate)
            FROM (\(fragment: rates)) AS rates WHERE whole >= whole_min AND rate > limit_rate
            ON CONFLICT (org_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
            """,
            """
            UPDATE alerts SET resolved_at = now()
            FROM (\(fragment: rates)) AS rates
            WHERE alerts.org_id = rates.org_id AND alerts.kind = rates.kind AND alerts.subject = ''
                AND alerts.resolved_at IS NULL
                AND (rates.rate <= rates.limit_rate * \(Alert.isOverBelow) OR rates.whole < rates.whole_min)
            """,
        ]
    }

    private static var domainAlerts: [Statement] {
        [
            """
            INSERT INTO alerts (org_id, id, kind, subject, message)
            SELECT org_id, gen_random_uuid(), \(Alert.Kind.domainRecords), id::text,
                format('DNS records of %s that its mail needs are missing or changed.', name)
            FROM domains WHERE records_lost_at IS NOT NULL AND status = 'verified'
            ON CONFLICT (org_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
            """,
            """
            UPDATE alerts SET resolved_at = now()
            WHERE kind = \(Alert.Kind.domainRecords) AND resolved_at IS NULL AND NOT EXISTS (
                SELECT FROM domains d WHERE d.org_id = alerts.org_id AND d.id::text = alerts.subject
                    AND d.records_lost_at IS NOT NULL AND d.status = 'verified')
            """,
        ]
    }
}
