// Inboxes: addresses that send and receive.

import Database
import Mail
package import Platform

/// A mailbox of an organization.
package struct Inbox: Sendable {
    package let id: InboxID
    package let domain: DomainID
    package let domainName: String
    package let localPart: String
    package let displayName: String?
    /// nil and `active` work; `inactive` refuses mail and sending.
    package let status: String?
    /// Its mail carries one-click unsubscribe headers unless a send says otherwise.
    package let listUnsubscribe: Bool
    package let createdAt: Timestamp

    /// The bare address.
    package var address: String { "\(localPart)@\(domainName)" }

    init(_ row: Row) throws {
        id = try row("id")
        domain = try row("domain_id")
        domainName = try row("domain_name")
        localPart = try row("local_part")
        displayName = try row("display_name")
        status = try row("status")
        listUnsubscribe = try row("list_unsubscribe")
        createdAt = try row("created_at")
    }

    static let columns: Statement = """
        id, domain_id, domain_name, local_part, display_name, status, list_unsubscribe, created_at
        """
}

extension Store {
    /// Local parts of the shared domain that nobody may take: `agent` sends for all, the others are the platform's.
    package static let reservedLocalParts: Set<String> = [
        "agent", "postmaster", "abuse", "hostmaster", "webmaster", "mailer-daemon", "dmarc", "bounce",
        "noreply",
    ]

    /// Makes an inbox on the platform's domain, where a local part belongs to the first that takes it.
    package func createInbox(
        org: OrgID,
        localPart: String,
        displayName: String?,
        listUnsubscribe: Bool = false,
        on domain: PlatformDomain
    ) async throws -> Inbox {
        let taken = StoreFault.taken("The address \(localPart)@\(domain.name) is taken.")
        guard !Self.reservedLocalParts.contains(localPart) else { throw taken }
        let id = InboxID()
        do {
            let results = try await database.batch(
                .tenant(org),
                [
                    """
                    INSERT INTO shared_addresses (domain_name, local_part, org_id, inbox_id)
                    VALUES (\(domain.name), \(localPart), \(org), \(id))
                    """,
                    """
                    INSERT INTO inboxes (org_id, id, domain_id, domain_name, local_part, display_name, list_unsubscribe)
                    VALUES (\(org), \(id), \(domain.id), \(domain.name), \(localPart), \(displayName),
                        \(listUnsubscribe))
                    RETURNING \(fragment: Inbox.columns)
                    """,
                ]
            )
            guard let row = results[1].first else { throw DatabaseError.decoding("INSERT returned no inbox") }
            return try Inbox(row)
        } catch DatabaseError.unique {
            throw taken
        }
    }

    /// The organization's inboxes, oldest first.
    package func inboxes(org: OrgID) async throws -> [Inbox] {
        try await database.query(
            .tenant(org),
            """
            SELECT \(fragment: Inbox.columns) FROM inboxes
            WHERE org_id = \(org) AND deleted_at IS NULL ORDER BY created_at, id
            """
        ).map(Inbox.init)
    }

    /// One inbox, unless it was deleted.
    package func inbox(_ id: InboxID, org: OrgID) async throws -> Inbox? {
        try await database.query(.tenant(org), Self.inbox(id, org)).first.map(Inbox.init)
    }

    static func inbox(_ id: InboxID, _ org: OrgID) -> Statement {
        "SELECT \(fragment: Inbox.columns) FROM inboxes WHERE org_id = \(org) AND id = \(id) AND deleted_at IS NULL"
    }

    static func inbox(address: EmailAddress, _ org: OrgID) -> Statement {
        """
        SELECT \(fragment: Inbox.columns) FROM inboxes
        WHERE org_id = \(org) AND domain_name = \(address.domain) AND local_part = \(address.local.lowercased())
            AND deleted_at IS NULL
        """
    }
}
