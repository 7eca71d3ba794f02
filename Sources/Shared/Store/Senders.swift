// Who a message is from, in the documented order: the address given, the inbox given, `agent@` of the domain given, the
// installation's default.
//
// On the platform's domain `agent@` and the default belong to nobody, and all may send from them. Each organization has
// an inbox of its own for what it sends so: hidden, in no directory, and reached by the thread's token alone.

import Database
import Mail
import Platform

extension Inbox {
    /// The local part that sends for a domain.
    package static let agent = "agent"
}

extension Store {
    static let noSender = StoreFault.refused(
        "No sender: give inboxId, from with the address of one of your inboxes, or domainId."
    )

    /// The submission with an address or inbox that stands for its sender; what stands for all is made when it is missing.
    func withSender(_ submission: Submission, org: OrgID) async throws -> Submission {
        var resolved = submission
        if let from = submission.from {
            let isCommon =
                from.address.local.lowercased() == Inbox.agent
                || from.address.key == submission.defaultFrom?.address.key
            if isCommon { try await makeCommonInbox(from.address, org: org) }
        } else if submission.inbox == nil {
            if let domain = submission.domain {
                resolved.inbox = try await agent(of: domain, org: org)
            } else if let from = submission.defaultFrom {
                try await makeCommonInbox(from.address, org: org)
                resolved.from = from
            }
        }
        return resolved
    }

    func senderStatement(_ submission: Submission, _ org: OrgID) throws -> Statement {
        if let from = submission.from { return Self.inbox(address: from.address, org) }
        if let inbox = submission.inbox { return Self.inbox(inbox, org) }
        throw Self.noSender
    }

    func sender(_ rows: Rows, of submission: Submission) throws -> Inbox {
        guard let inbox = try rows.first.map(Inbox.init) else {
            throw submission.from == nil
                ? StoreFault.unknown("Inbox not found")
                : StoreFault.forbidden("The from address is not one of your inboxes.")
        }
        guard inbox.status != "inactive" else {
            throw StoreFault.refused("The inbox is inactive and cannot send.")
        }
        guard inbox.mayUseDomain else { throw StoreFault.refused("Domain not verified") }
        return inbox
    }

    /// The organization's inbox behind an address of the platform's that belongs to nobody; elsewhere nothing is made.
    private func makeCommonInbox(_ address: EmailAddress, org: OrgID) async throws {
        let found = try await database.beforehand.batch(
            .tenant(org),
            [
                Self.inbox(address: address, org),
                "SELECT id, name FROM platform_domains WHERE name = \(address.domain)",
            ]
        )
        guard found[0].isEmpty, let row = found[1].first else { return }
        let domain = InboxDomain(id: try row("id"), name: try row("name"), isShared: true)
        _ = try await makeSender(address.local.lowercased(), on: domain, org: org)
    }

    /// `agent@` of the organization's own domain, which is made when it is missing, or of the platform's.
    private func agent(of domain: DomainID, org: OrgID) async throws -> InboxID {
        let found = try await database.beforehand.batch(
            .tenant(org),
            [
                """
                SELECT id FROM inboxes WHERE org_id = \(org) AND domain_id = \(domain) AND local_part = \(Inbox.agent)
                    AND deleted_at IS NULL
                """,
                """
                SELECT id, name, false AS shared, status = 'verified' AS usable FROM domains
                WHERE org_id = \(org) AND id = \(domain)
                UNION ALL SELECT id, name, true, true FROM platform_domains WHERE id = \(domain)
                """,
            ]
        )
        guard let row = found[1].first else { throw StoreFault.unknown("Domain not found") }
        guard try row("usable") else { throw StoreFault.refused("Domain not verified") }
        if let inbox = found[0].first { return try inbox("id") }
        let home = InboxDomain(id: try row("id"), name: try row("name"), isShared: try row("shared"))
        return try await makeSender(Inbox.agent, on: home, org: org)
    }

    /// Makes an inbox that is asked for by sending from it; two sends at once make one.
    private func makeSender(_ localPart: String, on domain: InboxDomain, org: OrgID) async throws -> InboxID {
        let results = try await database.batch(
            .tenant(org),
            [
                """
                INSERT INTO inboxes (org_id, id, domain_id, domain_name, local_part, is_hidden)
                VALUES (\(org), \(InboxID()), \(domain.id), \(domain.name), \(localPart), \(domain.isShared))
                ON CONFLICT (org_id, domain_id, local_part) WHERE deleted_at IS NULL DO NOTHING
                """,
                """
                SELECT id FROM inboxes WHERE org_id = \(org) AND domain_id = \(domain.id) AND local_part = \(localPart)
                    AND deleted_at IS NULL
                """,
            ]
        )
        guard let row = results[1].first else { throw StoreFault.unknown("Inbox not found") }
        return try row("id")
    }
}
