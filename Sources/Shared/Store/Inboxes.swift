// Inboxes: addresses that send and receive, on the platform's domain or on an organization's own.

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
    package let webhook: Webhook?
    package let createdAt: Timestamp
    /// What the organization sent from an address that belongs to nobody; in no list, and never changed.
    package let isHidden: Bool
    /// Where its domain's verification stands; nil on the platform's domain, which needs none.
    package let domainStatus: Domain.Status?

    /// The bare address.
    package var address: String { "\(localPart)@\(domainName)" }

    /// Whether mail may be sent from it as far as its domain goes.
    package var mayUseDomain: Bool { domainStatus == nil || domainStatus == .verified }

    var cursor: Cursor { Cursor(time: createdAt, id: id.uuid) }

    init(_ row: Row) throws {
        id = try row("id")
        domain = try row("domain_id")
        domainName = try row("domain_name")
        localPart = try row("local_part")
        displayName = try row("display_name")
        status = try row("status")
        listUnsubscribe = try row("list_unsubscribe")
        webhook = try Webhook(row)
        createdAt = try row("created_at")
        isHidden = try row("is_hidden")
        domainStatus = try row("domain_status")
    }

    /// Of the table `inboxes` under its own name.
    static let columns: Statement = """
        id, domain_id, domain_name, local_part, display_name, status, webhook_endpoint, webhook_events, webhook_secret,
        list_unsubscribe, created_at, is_hidden, (SELECT d.status FROM domains d WHERE d.org_id = inboxes.org_id AND d.id = inboxes.domain_id)
            AS domain_status
        """
}

/// A domain on which an organization may have inboxes.
package struct InboxDomain: Sendable {
    package let id: DomainID
    package let name: String
    /// The platform's, on which all organizations have inboxes.
    package let isShared: Bool

    /// The platform's domain.
    package init(_ domain: PlatformDomain) { (id, name, isShared) = (domain.id, domain.name, true) }

    init(id: DomainID, name: String, isShared: Bool) {
        (self.id, self.name, self.isShared) = (id, name, isShared)
    }
}

extension Store {
    /// Local parts of the shared domain that nobody may take: `agent` sends for all, the others are the platform's.
    package static let reservedLocalParts: Set<String> = [
        Inbox.agent, "postmaster", "abuse", "hostmaster", "webmaster", "mailer-daemon", "dmarc", "bounce",
        "noreply",
    ]

    /// The domain for a new inbox that names none: the one that the organization verified first, else `shared`.
    package func defaultInboxDomain(org: OrgID, shared: PlatformDomain) async throws -> InboxDomain {
        let rows = try await database.query(
            .tenant(org),
            """
            SELECT id, name FROM domains WHERE org_id = \(org) AND status = 'verified' ORDER BY verified_at, id LIMIT 1
            """
        )
        guard let row = rows.first else { return InboxDomain(shared) }
        return InboxDomain(id: try row("id"), name: try row("name"), isShared: false)
    }

    /// A domain by its id, if the organization may have inboxes there: its own, verified or not, or the platform's.
    package func inboxDomain(_ id: DomainID, org: OrgID) async throws -> InboxDomain? {
        try await database.query(
            .tenant(org),
            """
            SELECT id, name, false AS shared FROM domains WHERE org_id = \(org) AND id = \(id)
            UNION ALL SELECT id, name, true FROM platform_domains WHERE id = \(id)
            """
        ).first.map { InboxDomain(id: try $0("id"), name: try $0("name"), isShared: try $0("shared")) }
    }

    /// Makes an inbox; on the shared domain a local part belongs to the first organization that takes it.
    package func createInbox(
        org: OrgID,
        localPart: String,
        displayName: String?,
        listUnsubscribe: Bool = false,
        webhook change: WebhookChange = WebhookChange(),
        on domain: InboxDomain
    ) async throws -> Inbox {
        let id = InboxID()
        let webhook = try webhookColumns(change, of: id, org: org, having: nil)
        do {
            let results = try await database.batch(
                .tenant(org),
                try Self.takeAddress(localPart, on: domain, for: id, org: org) + [
                    """
                    INSERT INTO inboxes (org_id, id, domain_id, domain_name, local_part, display_name,
                        list_unsubscribe, webhook_endpoint, webhook_events, webhook_secret)
                    VALUES (\(org), \(id), \(domain.id), \(domain.name), \(localPart), \(displayName),
                        \(listUnsubscribe), \(webhook.endpoint), \(webhook.events), \(webhook.secret))
                    RETURNING \(fragment: Inbox.columns)
                    """
                ]
            )
            guard let row = results.last?.first else {
                throw DatabaseError.decoding("INSERT returned no inbox")
            }
            return try Inbox(row)
        } catch DatabaseError.unique {
            throw Self.taken(localPart, domain.name)
        }
    }

    /// The same on the platform's domain.
    package func createInbox(
        org: OrgID,
        localPart: String,
        displayName: String?,
        listUnsubscribe: Bool = false,
        on domain: PlatformDomain
    ) async throws -> Inbox {
        try await createInbox(
            org: org,
            localPart: localPart,
            displayName: displayName,
            listUnsubscribe: listUnsubscribe,
            on: InboxDomain(domain)
        )
    }

    /// A page of the organization's inboxes, of one domain if one is given, oldest first.
    package func inboxes(
        org: OrgID,
        domain: DomainID? = nil,
        after cursor: Cursor? = nil,
        limit: Int
    ) async throws -> Page<Inbox> {
        var query: Statement = """
            SELECT \(fragment: Inbox.columns) FROM inboxes
            WHERE org_id = \(org) AND deleted_at IS NULL AND NOT is_hidden
            """
        if let domain { query += " AND domain_id = \(domain)" }
        query += Self.keyset("created_at", .ascending, cursor, limit: limit)
        let rows = try await database.query(.tenant(org), query)
        return Page(try rows.map(Inbox.init), limit: limit, cursor: \.cursor)
    }

    /// One inbox, unless it was deleted.
    package func inbox(_ id: InboxID, org: OrgID) async throws -> Inbox? {
        try await database.query(.tenant(org), Self.inbox(id, org)).first.map(Inbox.init)
    }

    /// The inbox of an address as somebody wrote it; nil also for what is no address.
    package func inbox(address text: String, org: OrgID) async throws -> Inbox? {
        guard let address = try? EmailAddress(text) else { return nil }
        return try await database.query(.tenant(org), Self.inbox(address: address, org)).first.map(Inbox.init)
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

    static func taken(_ localPart: String, _ domain: String) -> StoreFault {
        .taken("The address \(localPart)@\(domain) is taken.")
    }

    /// Enters an address of the shared domain in the directory; nothing elsewhere.
    ///
    /// An address stays its organization's when its inbox is deleted or renamed, so that nobody else gets the mail that
    /// still comes for it. The organization itself may use it again.
    static func takeAddress(
        _ localPart: String,
        on domain: InboxDomain,
        for inbox: InboxID,
        org: OrgID
    ) throws -> [Statement] {
        guard domain.isShared else { return [] }
        guard !reservedLocalParts.contains(localPart) else { throw taken(localPart, domain.name) }
        return [
            """
            WITH again AS (
                UPDATE shared_addresses SET inbox_id = \(inbox)
                WHERE domain_name = \(domain.name) AND local_part = \(localPart) AND org_id = \(org)
                    AND NOT EXISTS (SELECT 1 FROM inboxes i WHERE i.org_id = \(org) AND i.domain_name = \(domain.name)
                        AND i.local_part = \(localPart) AND i.deleted_at IS NULL)
                RETURNING 1
            )
            INSERT INTO shared_addresses (domain_name, local_part, org_id, inbox_id)
            SELECT \(domain.name), \(localPart), \(org), \(inbox) WHERE NOT EXISTS (SELECT 1 FROM again)
            """
        ]
    }
}
