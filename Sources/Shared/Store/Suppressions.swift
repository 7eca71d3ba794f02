// Addresses that an organization does not write to any more, and how they come to be so.
//
// A hard bounce, a complaint, an unsubscribe or the organization's own word suppress at once; a full mailbox and the
// like only when three come in a row, and for seven days. Refusals that are about us never get here.

package import Database
import Mail
package import Platform

/// The rules of suppressions, and their statements.
package enum Suppression {
    /// Why an address is not written to.
    package enum Reason: String, Sendable, CaseIterable, Column {
        case hardBounce = "hard_bounce"
        case softBounce = "soft_bounce"
        case complaint, unsubscribe, manual
    }

    /// Soft bounces in a row that suppress.
    package static let softBouncesMax = 3
    /// How long they do.
    package static let softBounceDays = 7
}

/// The message that a suppression follows from.
package struct SuppressionSource: Sendable {
    package let message: MessageID
    package let inbox: InboxID
    package let domain: DomainID

    /// Takes a message and where it came from.
    package init(message: MessageID, inbox: InboxID, domain: DomainID) {
        self.message = message
        self.inbox = inbox
        self.domain = domain
    }
}

extension Suppression {
    /// Those of the addresses that are suppressed now.
    static func active(_ keys: [String], org: OrgID) -> Statement {
        """
        SELECT address_key, reason FROM suppressions
        WHERE org_id = \(org) AND address_key = ANY (\(keys)) AND (expires_at IS NULL OR expires_at > now())
        """
    }

    /// What `active` found, by key.
    static func reasons(_ rows: Rows) throws -> [String: Reason] {
        var reasons: [String: Reason] = [:]
        for row in rows { reasons[try row("address_key")] = try row("reason") }
        return reasons
    }

    /// Suppresses addresses until somebody lifts it; what suppressed them for a time only gives way.
    ///
    /// `details` has a text for each address.
    package static func insert(
        _ keys: [String],
        reason: Reason,
        details: [String],
        source: SuppressionSource?,
        org: OrgID
    ) -> Statement {
        """
        INSERT INTO suppressions (org_id, address_key, reason, detail, message_id, inbox_id, domain_id)
        SELECT \(org), s.key, \(reason.rawValue), s.detail, \(source?.message), \(source?.inbox), \(source?.domain)
        FROM (SELECT DISTINCT ON (key) key, detail FROM unnest(\(keys)::text[], \(details)::text[]) AS t (key, detail)
            ORDER BY key) AS s
        ON CONFLICT (org_id, address_key) DO UPDATE SET reason = excluded.reason, detail = excluded.detail,
            message_id = excluded.message_id, inbox_id = excluded.inbox_id, domain_id = excluded.domain_id,
            created_at = now(), expires_at = NULL
        WHERE suppressions.expires_at IS NOT NULL
        """
    }

    /// Counts a soft bounce of each address, and suppresses for seven days those that had their third in a row.
    ///
    /// A message that was taken and comes back after all does not count as the success that it was taken for.
    /// Statements of one transaction; in the order of the addresses, so that two cannot wait for each other.
    package static func countSoftBounces(
        _ keys: [String],
        details: [String],
        source: SuppressionSource?,
        org: OrgID
    ) -> [Statement] {
        [
            """
            INSERT INTO soft_bounces AS b (org_id, address_key)
            SELECT \(org), key FROM (SELECT DISTINCT key FROM unnest(\(keys)::text[]) AS t (key) ORDER BY key) AS s
            ON CONFLICT (org_id, address_key) DO UPDATE SET last_at = now(), forgiven = 0, forgiven_by = NULL,
                count = 1 + CASE WHEN b.forgiven_by = \(source?.message) THEN b.forgiven ELSE b.count END
            """,
            """
            INSERT INTO suppressions (org_id, address_key, reason, detail, message_id, inbox_id, domain_id, expires_at)
            SELECT \(org), b.address_key, \(Reason.softBounce.rawValue), s.detail, \(source?.message),
                \(source?.inbox), \(source?.domain), now() + make_interval(days => \(softBounceDays)::integer)
            FROM (SELECT DISTINCT ON (key) key, detail
                FROM unnest(\(keys)::text[], \(details)::text[]) AS t (key, detail) ORDER BY key) AS s
            JOIN soft_bounces b ON b.org_id = \(org) AND b.address_key = s.key
            WHERE b.count >= \(softBouncesMax) ORDER BY b.address_key
            ON CONFLICT (org_id, address_key) DO UPDATE SET reason = excluded.reason, detail = excluded.detail,
                message_id = excluded.message_id, inbox_id = excluded.inbox_id, domain_id = excluded.domain_id,
                created_at = now(), expires_at = excluded.expires_at
            WHERE suppressions.expires_at IS NOT NULL
            """,
            """
            DELETE FROM soft_bounces
            WHERE org_id = \(org) AND address_key = ANY (\(keys)) AND count >= \(softBouncesMax)
            """,
        ]
    }

    /// Forgives soft bounces of addresses that took a message; kept until the next success, since it may come back.
    package static func forgiveSoftBounces(_ keys: [String], message: MessageID, org: OrgID) -> [Statement] {
        let locked: Statement = """
            SELECT address_key FROM soft_bounces WHERE org_id = \(org) AND address_key = ANY (\(keys))
            ORDER BY address_key FOR UPDATE
            """
        return [
            """
            DELETE FROM soft_bounces WHERE org_id = \(org) AND count = 0 AND address_key IN (\(fragment: locked))
            """,
            """
            UPDATE soft_bounces SET forgiven = count, forgiven_by = \(message), count = 0
            WHERE org_id = \(org) AND address_key IN (\(fragment: locked))
            """,
        ]
    }
}

/// What a recipient's word does, by a link's click or a mail program's letter.
enum Unsubscription {
    /// Suppresses the address and tells of it; again changes nothing.
    ///
    /// Statements of one transaction. The recipient's row is locked, so that two of one moment are told of once.
    static func statements(
        _ address: String,
        ordinal: Int,
        source: SuppressionSource,
        org: OrgID
    ) -> [Statement] {
        guard let key = try? EmailAddress(address, allowingLiteral: true).key else { return [] }
        return [
            """
            SELECT FROM recipients WHERE org_id = \(org) AND message_id = \(source.message) AND ordinal = \(ordinal)
            FOR UPDATE
            """,
            """
            INSERT INTO delivery_events (org_id, id, message_id, inbox_id, domain_id, event_type, recipient)
            SELECT \(org), \(EventID()), \(source.message), \(source.inbox), \(source.domain),
                \(EventType.unsubscribed), \(address)
            WHERE NOT EXISTS (SELECT FROM delivery_events WHERE org_id = \(org) AND message_id = \(source.message)
                AND event_type = \(EventType.unsubscribed) AND recipient = \(address))
            """,
            Suppression.insert([key], reason: .unsubscribe, details: [""], source: source, org: org),
        ]
    }
}

extension Store {
    /// Suppresses the recipient whom an unsubscribe token names, for the organization that wrote to it.
    ///
    /// False when the token is not ours or its message was deleted. Again changes nothing.
    package func unsubscribe(_ token: String) async throws(DatabaseError) -> Bool {
        guard let subject = try await unsubscriber(token) else { return false }
        try await database.batch(
            .tenant(subject.org),
            Unsubscription.statements(
                subject.address,
                ordinal: subject.ordinal,
                source: SuppressionSource(
                    message: subject.message,
                    inbox: subject.inbox,
                    domain: subject.domain
                ),
                org: subject.org
            )
        )
        return true
    }

    /// The recipient whom an unsubscribe token names; nothing is changed.
    package func unsubscriber(_ token: String) async throws(DatabaseError) -> TokenSubject? {
        guard let token = RecipientToken(token, .unsubscribe, secrets: secrets) else { return nil }
        return try await subject(of: token)
    }
}
