// DMARC aggregate reports: kept once each, listed, and summed up by domain.
//
// Nobody signs a report, so it is believed no further than this: it must be about a domain of the organization that it
// came to, and changes nothing but what its summary says.

import Crypto
package import Database
import Foundation
package import Mail
package import Platform

/// A kept report, without its records.
package struct DMARCReportEntry: Sendable {
    package let id: DMARCReportID
    package let domain: String
    /// Who wrote it.
    package let reporter: String
    package let reporterEmail: String
    /// The reporter's own name for it.
    package let reportID: String
    package let begins: Timestamp
    package let ends: Timestamp
    package let policy: Policy
    package let recordCount: Int
    package let messageCount: Int
    /// `email` or `upload`.
    package let source: String
    package let createdAt: Timestamp

    /// What our record said when the mail was judged; "" where the report does not say.
    package struct Policy: Codable, Sendable {
        package let p: String
        package let sp: String
        package let np: String
        package let adkim: String
        package let aspf: String
        package let pct: Int?
        package let testing: Bool
    }

    init(_ row: Row) throws {
        id = try row("id")
        domain = try row("domain_name")
        reporter = try row("reporter")
        reporterEmail = try row("reporter_email")
        reportID = try row("report_id")
        begins = try row("begins_at")
        ends = try row("ends_at")
        policy = try row.json("policy", as: Policy.self)
        recordCount = try row("record_count")
        messageCount = try row("message_count")
        source = try row("source")
        createdAt = try row("created_at")
    }

    static let columns: Statement = """
        id, domain_name, reporter, reporter_email, report_id, begins_at, ends_at, policy, record_count, message_count,
        source, created_at
        """
}

/// What the reports of a time say together.
package struct DMARCSummary: Sendable {
    /// Mail of one address, as all reports saw it.
    package struct Source: Sendable {
        package let address: String
        package let messages: Int
        /// Aligned by DKIM or SPF.
        package let passed: Int
        package let dkim: Int
        package let spf: Int
    }

    package let reports: Int
    package let reporters: Int
    package let messages: Int
    package let passed: Int
    package let dkim: Int
    package let spf: Int
    /// Messages that were let through, put aside, and refused.
    package let none: Int
    package let quarantined: Int
    package let rejected: Int
    /// Those with the most messages.
    package let sources: [Source]

    /// Percent of the messages that passed; nil without any.
    package var passRate: Double? {
        messages == 0 ? nil : (Double(passed) * 10_000 / Double(messages)).rounded() / 100
    }
}

extension Store {
    /// Sources that a summary names.
    package static let dmarcSourcesMax = 100
    private static let recordsPerStatement = 5_000

    /// Keeps a report that was uploaded; `isNew` is false for one that is here already.
    package func addDMARCReport(
        _ report: DMARCReport,
        org: OrgID
    ) async throws -> (entry: DMARCReportEntry, isNew: Bool) {
        try await database.transaction(.tenant(org)) { transaction in
            try await keep(report, source: "upload", org: org, in: transaction)
        }
    }

    /// Keeps a report that came by mail, in the transaction that ends its job.
    package func keepMailedDMARCReport(
        _ report: DMARCReport,
        org: OrgID,
        in transaction: Transaction
    ) async throws {
        _ = try await keep(report, source: "email", org: org, in: transaction)
    }

    private func keep(
        _ report: DMARCReport,
        source: String,
        org: OrgID,
        in transaction: Transaction
    ) async throws -> (entry: DMARCReportEntry, isNew: Bool) {
        let domain = report.policy.domain.withoutNUL
        guard let id = try await Self.domain(of: domain, org: org, in: transaction) else {
            throw StoreFault.refused(
                "The report is about \(domain), which is no domain of this organization."
            )
        }
        let digest = Self.digest(report)
        let inserted = try await transaction.query(
            """
            INSERT INTO dmarc_reports (org_id, id, domain_id, digest, domain_name, reporter, reporter_email, report_id,
                begins_at, ends_at, policy, record_count, message_count, source)
            VALUES (\(org), \(DMARCReportID()), \(id), \(digest), \(domain), \(report.organization.withoutNUL),
                \(report.email.withoutNUL), \(report.reportID.withoutNUL),
                \(Timestamp(microseconds: Int64(report.begin) * 1_000_000)),
                \(Timestamp(microseconds: Int64(report.end) * 1_000_000)), \(json: DMARCReportEntry.Policy(report.policy)),
                \(report.records.count), \(report.messageCount), \(source))
            ON CONFLICT (org_id, digest) DO NOTHING
            RETURNING \(fragment: DMARCReportEntry.columns)
            """
        )
        guard let row = inserted.first else {
            let known = try await transaction.query(
                """
                SELECT \(fragment: DMARCReportEntry.columns) FROM dmarc_reports
                WHERE org_id = \(org) AND digest = \(digest)
                """
            )
            guard let row = known.first else { throw StoreFault.unknown("Report not found") }
            return (try DMARCReportEntry(row), false)
        }
        let entry = try DMARCReportEntry(row)
        for start in stride(from: 0, to: report.records.count, by: Self.recordsPerStatement) {
            let piece = report.records[start..<min(start + Self.recordsPerStatement, report.records.count)]
            try await transaction.query(try Self.insert(piece, of: entry.id, domain: id, org: org))
        }
        return (entry, true)
    }

    /// The organization's domain that a policy is of: itself, or the nearest above or below it, since a policy may be
    /// published at the registrable domain.
    private static func domain(
        of name: String,
        org: OrgID,
        in transaction: Transaction
    ) async throws -> DomainID? {
        guard let name = try? DomainName(name).ascii, PublicSuffix.registrableDomain(of: name) != nil else {
            return nil
        }
        let rows = try await transaction.query(
            """
            SELECT id FROM domains
            WHERE org_id = \(org) AND (name = \(name) OR right(name, length(\(name)) + 1) = '.' || \(name)
                OR right(\(name), length(name) + 1) = '.' || name)
            ORDER BY name = \(name) DESC, status = 'verified' DESC, length(name) DESC LIMIT 1
            """
        )
        return try rows.first.map { try $0("id") }
    }

    /// mail.md: one by organization, report id and domain.
    private static func digest(_ report: DMARCReport) -> [UInt8] {
        var hash = SHA256()
        for text in [report.organization.lowercased(), report.reportID, report.policy.domain] {
            hash.update(data: Data("\(text.utf8.count):\(text)".utf8))
        }
        return Array(hash.finalize())
    }

    private static func insert(
        _ records: ArraySlice<DMARCReport.Record>,
        of report: DMARCReportID,
        domain: DomainID,
        org: OrgID
    ) throws -> Statement {
        let details = try records.map {
            String(decoding: try JSONEncoder().encode(DMARCRecordDetails($0)), as: UTF8.self)
        }
        return """
            INSERT INTO dmarc_records (org_id, report_id, position, domain_id, source_address, message_count, disposition,
                dkim, spf, header_from, envelope_from, details)
            SELECT \(org), \(report), r.position, \(domain), r.source, r.messages, r.disposition, r.dkim, r.spf,
                r.header_from, r.envelope_from, r.details
            FROM unnest(\(Array(records.indices))::integer[], \(records.map(\.sourceAddress.withoutNUL))::text[],
                \(records.map(\.count))::bigint[], \(records.map(\.disposition.withoutNUL))::text[],
                \(records.map(\.dkim.withoutNUL))::text[], \(records.map(\.spf.withoutNUL))::text[],
                \(records.map(\.headerFrom.withoutNUL))::text[], \(records.map(\.envelopeFrom.withoutNUL))::text[],
                \(details)::jsonb[])
                AS r (position, source, messages, disposition, dkim, spf, header_from, envelope_from, details)
            """
    }

    /// A page of reports, the latest first.
    package func dmarcReports(
        org: OrgID,
        domain: String?,
        after cursor: Cursor?,
        limit: Int
    ) async throws -> Page<DMARCReportEntry> {
        var query: Statement =
            "SELECT \(fragment: DMARCReportEntry.columns) FROM dmarc_reports WHERE org_id = \(org)"
        if let domain { query += " AND domain_name = \(domain)" }
        if let cursor { query += " AND (begins_at, id) < (\(cursor.time), \(cursor.id))" }
        query += " ORDER BY begins_at DESC, id DESC LIMIT \(limit + 1)"
        let rows = try await database.query(.tenant(org), query)
        return Page(try rows.map(DMARCReportEntry.init), limit: limit) {
            Cursor(time: $0.begins, id: $0.id.uuid)
        }
    }

    /// What reports that end within the last days say together.
    package func dmarcSummary(org: OrgID, domain: String?, days: Int) async throws -> DMARCSummary {
        var wanted: Statement = """
            SELECT id, reporter FROM dmarc_reports
            WHERE org_id = \(org) AND ends_at >= now() - make_interval(days => \(days)::integer)
            """
        if let domain { wanted += " AND domain_name = \(domain)" }
        // A passing verdict by either makes DMARC pass (RFC 7489 §4.2).
        let sums: Statement = """
            coalesce(sum(message_count), 0)::bigint AS messages,
            coalesce(sum(message_count) FILTER (WHERE dkim = 'pass' OR spf = 'pass'), 0)::bigint AS passed,
            coalesce(sum(message_count) FILTER (WHERE dkim = 'pass'), 0)::bigint AS dkim,
            coalesce(sum(message_count) FILTER (WHERE spf = 'pass'), 0)::bigint AS spf
            """
        let records: Statement = """
            FROM dmarc_records WHERE org_id = \(org) AND report_id IN (SELECT id FROM (\(fragment: wanted)) AS w)
            """
        let results = try await database.batch(
            .tenant(org),
            [
                """
                SELECT count(*) AS reports, count(DISTINCT reporter) AS reporters FROM (\(fragment: wanted)) AS w
                """,
                """
                SELECT \(fragment: sums),
                    coalesce(sum(message_count) FILTER (WHERE disposition = 'quarantine'), 0)::bigint AS quarantined,
                    coalesce(sum(message_count) FILTER (WHERE disposition = 'reject'), 0)::bigint AS rejected
                \(fragment: records)
                """,
                """
                SELECT source_address, \(fragment: sums) \(fragment: records)
                GROUP BY source_address ORDER BY messages DESC, source_address LIMIT \(Self.dmarcSourcesMax)
                """,
            ]
        )
        guard let counted = results[0].first, let all = results[1].first else {
            throw DatabaseError.decoding("no row of a query that has one")
        }
        let (messages, quarantined, rejected): (Int, Int, Int) =
            (try all("messages"), try all("quarantined"), try all("rejected"))
        return DMARCSummary(
            reports: try counted("reports"),
            reporters: try counted("reporters"),
            messages: messages,
            passed: try all("passed"),
            dkim: try all("dkim"),
            spf: try all("spf"),
            none: messages - quarantined - rejected,
            quarantined: quarantined,
            rejected: rejected,
            sources: try results[2].map {
                DMARCSummary.Source(
                    address: try $0("source_address"),
                    messages: try $0("messages"),
                    passed: try $0("passed"),
                    dkim: try $0("dkim"),
                    spf: try $0("spf")
                )
            }
        )
    }
}

extension DMARCReportEntry.Policy {
    init(_ policy: DMARCReport.Policy) {
        p = policy.policy.withoutNUL
        sp = policy.subdomainPolicy.withoutNUL
        np = policy.nonexistentSubdomainPolicy.withoutNUL
        adkim = policy.dkimAlignment.withoutNUL
        aspf = policy.spfAlignment.withoutNUL
        pct = policy.percent
        testing = policy.isTesting
    }
}

/// The rest of a record, for who looks into one.
private struct DMARCRecordDetails: Encodable {
    struct Check: Encodable {
        let domain: String
        let detail: String
        let result: String

        init(_ check: DMARCReport.Check) {
            (domain, detail) = (check.domain.withoutNUL, check.detail.withoutNUL)
            result = check.result.withoutNUL
        }
    }

    /// Of each, as many as anybody looks at.
    private static let checksMax = 20

    let reasons: [String]
    let dkim: [Check]
    let spf: [Check]

    init(_ record: DMARCReport.Record) {
        reasons = record.reasons.prefix(Self.checksMax).map {
            ($0.comment.isEmpty ? $0.type : "\($0.type): \($0.comment)").withoutNUL
        }
        dkim = record.dkimChecks.prefix(Self.checksMax).map(Check.init)
        spf = record.spfChecks.prefix(Self.checksMax).map(Check.init)
    }
}

extension String {
    /// PostgreSQL keeps no NUL.
    fileprivate var withoutNUL: String { utf8.contains(0) ? replacing("\0", with: "") : self }
}
