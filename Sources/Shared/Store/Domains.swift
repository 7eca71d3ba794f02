// Domains of an organization: made with keys of their own, listed, shown.

import Database
import Foundation
package import Mail
package import Platform

/// A domain of an organization.
package struct Domain: Sendable {
    /// Where its verification stands.
    package enum Status: String, Sendable, Codable {
        case notStarted = "not_started"
        case pending, verified, failed
    }

    package let id: DomainID
    /// Lower-case A-labels.
    package let name: String
    /// As the caller wrote it.
    package let givenName: String
    package let region: String
    package let status: Status
    /// Why it failed, as a sentence.
    package let failure: String?
    package let records: [DomainRecord]
    /// When the verification began that is under way, or came to its end last.
    package let verifyFrom: Timestamp?
    package let checkedAt: Timestamp?
    package let verifiedAt: Timestamp?
    /// Since when it lacks a record that it needs, although it was verified.
    package let recordsLostAt: Timestamp?
    package let createdAt: Timestamp

    var cursor: Cursor { Cursor(time: createdAt, id: id.uuid) }

    init(_ row: Row) throws {
        id = try row("id")
        name = try row("name")
        givenName = try row("given_name")
        region = try row("region")
        status = try row("status")
        failure = try row("failure")
        records = try row.json("records", as: [DomainRecord].self)
        verifyFrom = try row("verify_from")
        checkedAt = try row("checked_at")
        verifiedAt = try row("verified_at")
        recordsLostAt = try row("records_lost_at")
        createdAt = try row("created_at")
    }

    static let columns: Statement = """
        id, name, given_name, region, status, failure, records, verify_from, checked_at, verified_at, records_lost_at,
        created_at
        """
}

/// What a list of domains shows of an inbox.
package struct InboxSummary: Sendable {
    package let id: InboxID
    package let localPart: String
    package let address: String
}

extension Store {
    /// Inboxes that a domain is shown with.
    package static let inboxesPerDomainMax = 100

    /// Makes a domain with fresh keys, or says who has the name.
    package func createDomain(
        org: OrgID,
        name: DomainName,
        givenName: String,
        region: Region,
        hosts: MailHosts
    ) async throws -> Domain {
        let yours = StoreFault.taken("You have the domain \(name.ascii) already.")
        // Before the keys, which cost more than the question.
        let known = try await database.batch(
            .tenant(org),
            [
                "SELECT is_domain_taken(\(name.ascii)) AS taken",
                "SELECT id FROM domains WHERE org_id = \(org) AND name = \(name.ascii)",
            ]
        )
        if let row = known[0].first, try row("taken") {
            throw StoreFault.taken("The domain \(name.ascii) was verified by somebody else.")
        }
        guard known[1].isEmpty else { throw yours }
        let id = DomainID()
        let keys = try await DomainKeys.generate()
        let records = DomainRecord.expected(
            for: name,
            rsa: (DKIMSelector.rsa, try keys.rsa.publicRecord),
            ed25519: (DKIMSelector.ed25519, try keys.ed25519.publicRecord),
            receivingHost: hosts.receiving,
            bounceHost: hosts.bounce,
            spfInclude: hosts.spfInclude
        )
        do {
            let results = try await database.batch(
                .tenant(org),
                [
                    """
                    INSERT INTO domains (org_id, id, name, given_name, region, records)
                    VALUES (\(org), \(id), \(name.ascii), \(givenName), \(region), \(json: records))
                    RETURNING \(fragment: Domain.columns)
                    """
                ] + keys.statements(of: id, org: org, secrets)
            )
            guard let row = results[0].first else {
                throw DatabaseError.decoding("INSERT returned no domain")
            }
            return try Domain(row)
        } catch DatabaseError.unique {
            throw yours
        }
    }

    /// A page of the organization's domains, oldest first.
    package func domains(org: OrgID, after cursor: Cursor?, limit: Int) async throws -> Page<Domain> {
        var query: Statement = "SELECT \(fragment: Domain.columns) FROM domains WHERE org_id = \(org)"
        query += Self.keyset("created_at", .ascending, cursor, limit: limit)
        let rows = try await database.query(.tenant(org), query)
        return Page(try rows.map(Domain.init), limit: limit, cursor: \.cursor)
    }

    /// One domain.
    package func domain(_ id: DomainID, org: OrgID) async throws -> Domain? {
        try await database.query(
            .tenant(org),
            "SELECT \(fragment: Domain.columns) FROM domains WHERE org_id = \(org) AND id = \(id)"
        ).first.map(Domain.init)
    }

    /// Domains of that name, whoever has them; for operators, who see all.
    package func domains(named name: DomainName) async throws -> [(org: OrgID, domain: Domain)] {
        try await database.query(
            .worker,
            "SELECT org_id, \(fragment: Domain.columns) FROM domains WHERE name = \(name.ascii) ORDER BY created_at"
        ).map { (try $0("org_id"), try Domain($0)) }
    }

    /// The oldest inboxes of each of these domains, at most `inboxesPerDomainMax` of one.
    package func inboxSummaries(
        of domains: [DomainID],
        org: OrgID
    ) async throws -> [DomainID: [InboxSummary]] {
        guard !domains.isEmpty else { return [:] }
        let rows = try await database.query(
            .tenant(org),
            """
            SELECT d.id AS domain_id, i.id, i.local_part, i.domain_name
            FROM unnest(\(domains)::uuid[]) AS d (id) CROSS JOIN LATERAL (
                SELECT id, local_part, domain_name, created_at FROM inboxes
                WHERE org_id = \(org) AND domain_id = d.id AND deleted_at IS NULL AND NOT is_hidden
                ORDER BY created_at, id LIMIT \(Self.inboxesPerDomainMax)
            ) AS i ORDER BY d.id, i.created_at, i.id
            """
        )
        var summaries: [DomainID: [InboxSummary]] = [:]
        for row in rows {
            let (local, domain): (String, String) = (try row("local_part"), try row("domain_name"))
            summaries[try row("domain_id"), default: []].append(
                InboxSummary(id: try row("id"), localPart: local, address: "\(local)@\(domain)")
            )
        }
        return summaries
    }
}
