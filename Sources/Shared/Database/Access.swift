// As whom a transaction speaks. Behind PgBouncer a session belongs to nobody, so role, organization and time
// limit are set locally, by the first statement of every transaction.

package import Platform

/// As whom a transaction speaks.
package enum Access: Sendable, Equatable {
    /// The role that the URL names, unchanged: migrations.
    case owner
    /// Role `commune_app` for one organization; row-level security shows only its rows.
    case tenant(OrgID)
    /// Role `commune_app` without an organization: SECURITY DEFINER functions only.
    case lookup
    /// Role `commune_worker`, which sees every organization.
    case worker
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
