// The organization's list of addresses that it does not write to: read, added to and taken from by the caller.

import Database
import Foundation
package import Mail
package import Platform

/// A suppression as its list shows it.
package struct SuppressionEntry: Sendable {
    /// Lower-cased address.
    package let email: String
    /// `hard_bounce`, `soft_bounce`, `complaint`, `unsubscribe` or `manual`.
    package let reason: String
    package let createdAt: Timestamp
    let place: UUID

    var cursor: Cursor { Cursor(time: createdAt, id: place) }

    init(_ row: Row) throws {
        email = try row("address_key")
        reason = try row("reason")
        createdAt = try row("created_at")
        place = try row("place")
    }

    static let columns: Statement = "address_key, reason, created_at, md5(address_key)::uuid AS place"
}

extension Store {
    /// A page of the addresses that are suppressed now, the newest first.
    ///
    /// A suppression holds for the whole organization. `inbox` and `domain` show those that mail from there led to, and
    /// those that come of no mail; asked for one address they change nothing, since it holds for them too.
    package func suppressions(
        org: OrgID,
        address: EmailAddress?,
        inbox: InboxID?,
        domain: DomainID?,
        after cursor: Cursor?,
        limit: Int
    ) async throws -> Page<SuppressionEntry> {
        var query: Statement = """
            SELECT \(fragment: SuppressionEntry.columns) FROM suppressions
            WHERE org_id = \(org) AND (expires_at IS NULL OR expires_at > now())
            """
        if let address {
            query += " AND address_key = \(address.key)"
        } else {
            if let inbox { query += " AND (inbox_id = \(inbox) OR inbox_id IS NULL)" }
            if let domain { query += " AND (domain_id = \(domain) OR domain_id IS NULL)" }
        }
        if let cursor {
            query += """
                 AND created_at <= \(cursor.time)
                AND (created_at, md5(address_key)::uuid) < (\(cursor.time), \(cursor.id))
                """
        }
        query += " ORDER BY created_at DESC, md5(address_key)::uuid DESC LIMIT \(limit + 1)"
        let rows = try await database.query(.tenant(org), query)
        return Page(try rows.map(SuppressionEntry.init), limit: limit, cursor: \.cursor)
    }

    /// Suppresses an address until somebody lifts it; one that is suppressed for good already stays as it is.
    ///
    /// `isNew` tells whether it was not on the list.
    package func addSuppression(
        of address: EmailAddress,
        org: OrgID
    ) async throws -> (entry: SuppressionEntry, isNew: Bool) {
        let results = try await database.batch(
            .tenant(org),
            [
                """
                INSERT INTO suppressions AS s (org_id, address_key, reason) VALUES (\(org), \(address.key), 'manual')
                ON CONFLICT (org_id, address_key) DO UPDATE SET reason = 'manual', detail = '', message_id = NULL,
                    inbox_id = NULL, domain_id = NULL, created_at = now(), expires_at = NULL
                WHERE s.expires_at IS NOT NULL
                """,
                """
                SELECT \(fragment: SuppressionEntry.columns) FROM suppressions
                WHERE org_id = \(org) AND address_key = \(address.key)
                """,
            ]
        )
        guard let entry = try results[1].first.map(SuppressionEntry.init) else {
            throw StoreFault.unknown("Suppression not found")
        }
        return (entry, results[0].affected == 1)
    }

    /// Lets mail to an address through again, and forgets its soft bounces; false when it was not suppressed.
    package func removeSuppression(of address: EmailAddress, org: OrgID) async throws -> Bool {
        try await database.batch(
            .tenant(org),
            [
                """
                DELETE FROM suppressions WHERE org_id = \(org) AND address_key = \(address.key)
                    AND (expires_at IS NULL OR expires_at > now())
                """,
                "DELETE FROM soft_bounces WHERE org_id = \(org) AND address_key = \(address.key)",
            ]
        )[0].affected == 1
    }
}
