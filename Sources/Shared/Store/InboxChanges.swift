// What becomes of an inbox after it was made: changed in parts, or deleted.

import Database
package import Platform

/// A part of a row that is changed, or left as it is.
package enum Change<Value: Sendable>: Sendable {
    case keep
    case set(Value)

    /// The new value, else `current`.
    package func applied(to current: Value) -> Value {
        switch self {
        case .keep: current
        case .set(let value): value
        }
    }
}

/// Changes of an inbox; each part is checked already.
package struct InboxChanges: Sendable {
    package var localPart: Change<String> = .keep
    package var displayName: Change<String?> = .keep
    package var status: Change<String?> = .keep
    package var listUnsubscribe: Change<Bool> = .keep
    package var webhook: Change<WebhookChange> = .keep

    /// No change yet.
    package init() {}
}

extension Store {
    /// Changes an inbox, of one domain if one is given, and returns it as it is now.
    package func updateInbox(
        _ id: InboxID,
        of domain: DomainID? = nil,
        org: OrgID,
        _ changes: InboxChanges
    ) async throws -> Inbox {
        var wanted = ""
        do {
            return try await database.transaction(.tenant(org)) { transaction in
                let current = try await locked(id, of: domain, org: org, transaction)
                let localPart = changes.localPart.applied(to: current.localPart)
                if localPart != current.localPart {
                    wanted = "\(localPart)@\(current.domainName)"
                    let home = InboxDomain(
                        id: current.domain,
                        name: current.domainName,
                        isShared: current.domainStatus == nil
                    )
                    try await transaction.batch(
                        try Self.takeAddress(localPart, on: home, for: id, org: org)
                            + [
                                "UPDATE inboxes SET local_part = \(localPart) WHERE org_id = \(org) AND id = \(id)"
                            ]
                    )
                }
                if case .set(let change) = changes.webhook {
                    let webhook = try webhookColumns(change, of: id, org: org, having: current.webhook)
                    try await transaction.query(
                        """
                        UPDATE inboxes SET webhook_endpoint = \(webhook.endpoint), webhook_events = \(webhook.events),
                            webhook_secret = \(webhook.secret)
                        WHERE org_id = \(org) AND id = \(id)
                        """
                    )
                }
                let rows = try await transaction.query(
                    """
                    UPDATE inboxes SET display_name = \(changes.displayName.applied(to: current.displayName)),
                        status = \(changes.status.applied(to: current.status)),
                        list_unsubscribe = \(changes.listUnsubscribe.applied(to: current.listUnsubscribe))
                    WHERE org_id = \(org) AND id = \(id) RETURNING \(fragment: Inbox.columns)
                    """
                )
                guard let row = rows.first else { throw StoreFault.unknown("Inbox not found") }
                return try Inbox(row)
            }
        } catch DatabaseError.unique {
            throw StoreFault.taken("The address \(wanted) is taken.")
        }
    }

    /// Deletes an inbox: its mail is refused from now on, its messages stay.
    package func deleteInbox(_ id: InboxID, of domain: DomainID, org: OrgID) async throws {
        let deleted = try await database.query(
            .tenant(org),
            """
            UPDATE inboxes SET deleted_at = now(), webhook_endpoint = NULL, webhook_events = NULL, webhook_secret = NULL
            WHERE org_id = \(org) AND id = \(id) AND domain_id = \(domain) AND deleted_at IS NULL
                AND NOT is_hidden
            """
        )
        guard deleted.affected == 1 else { throw StoreFault.unknown("Inbox not found") }
    }

    private func locked(
        _ id: InboxID,
        of domain: DomainID?,
        org: OrgID,
        _ transaction: Transaction
    ) async throws -> Inbox {
        let rows = try await transaction.query(
            """
            SELECT \(fragment: Inbox.columns) FROM inboxes WHERE org_id = \(org) AND id = \(id) AND deleted_at IS NULL
                AND NOT is_hidden AND (\(domain)::uuid IS NULL OR domain_id = \(domain)) FOR UPDATE OF inboxes
            """
        )
        guard let row = rows.first else { throw StoreFault.unknown("Inbox not found") }
        return try Inbox(row)
    }
}
