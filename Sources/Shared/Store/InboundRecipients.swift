// Whom mail from outside is for: one of our inboxes, or a name that every domain of ours must answer to.

package import Database
package import Mail
package import Platform

/// One of our inboxes among the recipients of an SMTP transaction.
package struct InboundRecipient: Sendable, Codable, Hashable {
    /// The address of RCPT TO.
    package let address: String
    package let org: OrgID
    package let inbox: InboxID

    /// Whether it was to a return path of ours, whose inbox is only the one that the message went out from.
    package var isReturnPath: Bool {
        ((try? EmailAddress(address)).flatMap { ReturnPath($0) }) != nil
    }

    enum CodingKeys: String, CodingKey {
        case address
        case org = "org_id"
        case inbox = "inbox_id"
    }
}

/// A mailbox that a domain of ours has without anybody having made it.
package enum MailRole: String, Sendable, Hashable, Codable, CaseIterable {
    /// RFC 5321 §4.5.1.
    case postmaster
    /// RFC 2142 §4.
    case abuse
    /// Where the DMARC record of our domains asks for reports (RFC 7489 §7), at `send.<domain>`.
    case dmarc
}

/// An address of such a mailbox that no inbox has: its mail is kept as it came.
package struct RoleRecipient: Sendable, Hashable {
    /// The address of RCPT TO.
    package let address: String
    package let role: MailRole
    /// Whose domain it is; nil for the platform's own, which are the operator's.
    package let org: OrgID?
}

/// Where a mail goes that we take.
package enum MailDestination: Sendable, Hashable {
    case inbox(InboundRecipient)
    case role(RoleRecipient)
}

/// What a lookup of a recipient address found.
package enum RecipientLookup: Sendable, Equatable {
    case found(MailDestination)
    /// There is such an inbox, and its organization has switched it off.
    case inactive
    /// The domain is ours, the mailbox does not exist.
    case noSuchMailbox
    case notOurDomain
}

extension Store {
    /// Finds where mail for an address goes; plus-tags belong to the inbox before them.
    ///
    /// `mailHost` is our own name, whose postmaster there must be though nobody has an inbox there.
    package func recipient(
        _ address: EmailAddress,
        mailHost: String? = nil
    ) async throws(DatabaseError) -> RecipientLookup {
        if let path = ReturnPath(address) { return try await bounced(to: path, address) }
        if let token = ThreadToken(address, secrets: secrets), let found = try await recipient(token, address)
        {
            return .found(.inbox(found))
        }
        let local = address.withoutTag.local.lowercased()
        let role = MailRole(rawValue: local)
        if let place = try await place(local, at: address.domain) {
            switch place {
            case .inbox(let org, let inbox, let isActive):
                guard isActive else { return .inactive }
                let recipient = InboundRecipient(address: address.description, org: org, inbox: inbox)
                return .found(.inbox(recipient))
            case .domain(let org):
                guard let role, role != .dmarc else { return .noSuchMailbox }
                return .found(.role(RoleRecipient(address: address.description, role: role, org: org)))
            }
        }
        if let role, let domain = ReturnPath.sendingDomain(of: address.domain),
            let place = try await place("", at: domain)
        {
            return .found(.role(RoleRecipient(address: address.description, role: role, org: place.org)))
        }
        if let role, role != .dmarc, address.domain == mailHost?.lowercased() {
            return .found(.role(RoleRecipient(address: address.description, role: role, org: nil)))
        }
        return .notOurDomain
    }

    private enum Place {
        case inbox(OrgID, InboxID, isActive: Bool)
        /// The domain is ours, and nobody has the name; nil is the platform's domain.
        case domain(OrgID?)

        var org: OrgID? {
            switch self {
            case .inbox(let org, _, _): org
            case .domain(let org): org
            }
        }
    }

    private func place(_ local: String, at domain: String) async throws(DatabaseError) -> Place? {
        let rows = try await database.query(
            .lookup,
            "SELECT org_id, inbox_id, status FROM find_recipient(\(domain), \(local))"
        )
        guard let row = rows.first else { return nil }
        let org: OrgID? = try row("org_id")
        guard let org, let inbox: InboxID = try row("inbox_id") else { return .domain(org) }
        return .inbox(org, inbox, isActive: try row("status") as String? != "inactive")
    }

    /// A return path of ours belongs to the inbox whose message went out under it; a forged one to nobody.
    private func bounced(
        to path: ReturnPath,
        _ address: EmailAddress
    ) async throws(DatabaseError) -> RecipientLookup {
        guard let token = RecipientToken(path.token, .returnPath, secrets: secrets) else {
            return try await place("", at: path.domain) == nil ? .notOurDomain : .noSuchMailbox
        }
        guard let subject = try await subject(of: token) else { return .noSuchMailbox }
        return .found(
            .inbox(InboundRecipient(address: address.description, org: subject.org, inbox: subject.inbox))
        )
    }
}
