// As whom a transaction speaks. Behind PgBouncer a session belongs to nobody, so role, organization and time
// limit are set locally, by the first statement of every transaction.

package import Platform

/// As whom a transaction speaks.
package enum Access: Sendable, Equatable {
    /// The role that the URL names, unchanged: migrations.
    case owner
    /// Role `commune_app` for one organization; row-level security shows only its rows.
    case tenant(OrgID)
    /// Role `commune_limited`: of one organization, what a limited key may see.
    case limited(OrgID, KeyLimits)
    /// Role `commune_app` without an organization: SECURITY DEFINER functions only.
    case lookup
    /// Role `commune_worker`, which sees every organization.
    case worker
}

/// To what a key is limited within its organization; each set that is not empty narrows what it sees.
package struct KeyLimits: Sendable, Hashable {
    package let key: KeyID
    /// Empty: no limit to inboxes.
    package let inboxes: Set<InboxID>
    /// Empty: no limit to domains.
    package let domains: Set<DomainID>

    /// Takes a key's own lists; nil when it is not limited at all.
    package init?(key: KeyID, inboxes: Set<InboxID>, domains: Set<DomainID>) {
        guard !inboxes.isEmpty || !domains.isEmpty else { return nil }
        (self.key, self.inboxes, self.domains) = (key, inboxes, domains)
    }
}

extension Access {
    /// How long an interactive transaction may sit idle before PostgreSQL ends it, should we hang or be cut off.
    private static let idleInTransactionSeconds = 60

    /// The statement that begins a batch.
    func opening(timeout: Duration) -> Statement {
        // 0 would mean no limit at all.
        let limit = BoundParameter(Int(min(max(timeout.milliseconds, 1), Int64(Int32.max))))
        return switch self {
        case .owner:
            Statement(
                text: "SELECT set_config('statement_timeout', $1::text, true)",
                parameters: [limit]
            )
        case .tenant(let org):
            Statement(
                text: """
                    SELECT set_config('role', 'commune_app', true), \
                    set_config('commune.org', $2::text, true), \
                    set_config('statement_timeout', $1::text, true)
                    """,
                parameters: [limit, BoundParameter(org)]
            )
        case .limited(let org, let limits):
            Statement(
                text: """
                    SELECT set_config('role', 'commune_limited', true), \
                    set_config('commune.org', $2::text, true), \
                    set_config('commune.key', $3::text, true), \
                    set_config('commune.inboxes', $4::text, true), \
                    set_config('commune.domains', $5::text, true), \
                    set_config('statement_timeout', $1::text, true)
                    """,
                parameters: [
                    limit, BoundParameter(org), BoundParameter(limits.key),
                    BoundParameter(Self.array(limits.inboxes)), BoundParameter(Self.array(limits.domains)),
                ]
            )
        case .lookup: Self.opening(as: "commune_app", limit)
        case .worker: Self.opening(as: "commune_worker", limit)
        }
    }

    /// The statements that begin an interactive transaction.
    func transactionOpening(timeout: Duration) -> [Statement] {
        [
            Statement(text: "BEGIN", parameters: []),
            opening(timeout: timeout),
            Statement(
                text: """
                    SELECT set_config('idle_in_transaction_session_timeout', \
                    '\(Self.idleInTransactionSeconds)s', true)
                    """,
                parameters: []
            ),
        ]
    }

    /// An array as PostgreSQL reads it from text; "" for none.
    private static func array<Noun>(_ ids: Set<ID<Noun>>) -> String {
        ids.isEmpty ? "" : "{\(ids.map(\.description).sorted().joined(separator: ","))}"
    }

    private static func opening(as role: StaticString, _ limit: BoundParameter) -> Statement {
        Statement(
            text: """
                SELECT set_config('role', '\(role)', true), \
                set_config('statement_timeout', $1::text, true)
                """,
            parameters: [limit]
        )
    }
}
