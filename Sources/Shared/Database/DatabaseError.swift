// What can go wrong between us and PostgreSQL, as cases a caller can act on.

/// Why a statement, batch or transaction did not do its work.
package enum DatabaseError: Error, Sendable, Equatable {
    /// No connection: out of reach, shutting down, read-only, or all connections busy. Nothing was done.
    case unavailable(String)
    /// The statement ran past its time and was undone.
    case timedOut
    /// The connection died after the end of the transaction was sent: it may be committed or not.
    case unknownOutcome
    /// The calling task was cancelled before anything was committed.
    case cancelled
    /// A unique constraint or index was violated (23505).
    case unique(constraint: String)
    /// Another constraint was violated (class 23).
    case constraint(name: String, sqlstate: String)
    /// PostgreSQL chose this transaction as the victim of a conflict or deadlock (40001, 40P01).
    case serialization
    /// A lock was not free under NOWAIT or `lock_timeout` (55P03).
    case lockNotAvailable
    /// Any other refusal; `message` is PostgreSQL's primary message without quoted values of class 22.
    case failed(sqlstate: String, message: String)
    /// A column was not what the caller expected.
    case decoding(String)

    /// Whether the same call may succeed later and can do no harm when repeated.
    package var isTransient: Bool {
        switch self {
        case .unavailable, .timedOut, .serialization, .lockNotAvailable: true
        case .unknownOutcome, .cancelled, .unique, .constraint, .failed, .decoding: false
        }
    }
}

extension DatabaseError: CustomStringConvertible {
    /// One sentence for a log; never holds a parameter.
    package var description: String {
        switch self {
        case .unavailable(let reason): reason
        case .timedOut: "The statement took too long and was cancelled."
        case .unknownOutcome: "The connection was lost while a transaction ended: it may be committed or not."
        case .cancelled: "The task was cancelled before the transaction ended."
        case .unique(let constraint): "The unique constraint \(constraint) was violated."
        case .constraint(let name, let sqlstate): "The constraint \(name) was violated (\(sqlstate))."
        case .serialization: "The transaction lost a conflict with another one."
        case .lockNotAvailable: "A lock was not available."
        case .failed(let sqlstate, let message): "PostgreSQL refused the statement (\(sqlstate)): \(message)"
        case .decoding(let reason): reason
        }
    }
}

extension DatabaseError {
    /// Translates a SQLSTATE (PostgreSQL manual, appendix A).
    init(sqlstate: String, message: String, constraint: String) {
        switch sqlstate {
        case "23505": self = .unique(constraint: constraint)
        case "40001", "40P01": self = .serialization
        case "55P03": self = .lockNotAvailable
        // query_canceled: statement_timeout, or somebody's pg_cancel_backend.
        case "57014": self = .timedOut
        // A standby after a failover: another connection may reach the primary.
        case "25006": self = .unavailable("PostgreSQL is read-only here.")
        case "25P03", "25P04": self = .unavailable("PostgreSQL ended an idle transaction.")
        case _ where sqlstate.hasPrefix("23"): self = .constraint(name: constraint, sqlstate: sqlstate)
        case _ where sqlstate.hasPrefix("08") || sqlstate.hasPrefix("53") || sqlstate.hasPrefix("57P"):
            self = .unavailable("PostgreSQL is not available (\(sqlstate)): \(message).")
        // Data exceptions quote the value that was wrong; errors may end up in logs.
        case _ where sqlstate.hasPrefix("22"):
            let harmless = message.prefix { $0 != ":" && $0 != "\"" }
            self = .failed(sqlstate: sqlstate, message: String(harmless))
        default: self = .failed(sqlstate: sqlstate, message: message)
        }
    }
}
