// An interactive transaction, for work that must look at a result before it decides what to write. Where the
// statements are known beforehand, `Database.batch` does the same in one round trip.

/// A transaction in progress; it ends with the closure it was given to.
package struct Transaction: Sendable {
    let lease: Lease

    /// Runs one statement.
    @discardableResult
    package func query(_ statement: Statement) async throws(DatabaseError) -> Rows {
        try await batch([statement]).first ?? Rows()
    }

    /// Runs statements in one round trip; results in order.
    ///
    /// After an error only the end of the transaction is left.
    @discardableResult
    package func batch(_ statements: [Statement]) async throws(DatabaseError) -> [Rows] {
        guard !Task.isCancelled else { throw .cancelled }
        for statement in statements {
            if let fault = statement.fault { throw fault }
        }
        guard !statements.isEmpty else { return [] }
        return try await lease.perform(.exchange(statements)).get()
    }

    /// Runs SQL text of any number of statements, without parameters: migrations.
    package func script(_ sql: String) async throws(DatabaseError) {
        guard !Task.isCancelled else { throw .cancelled }
        _ = try await lease.perform(.script(sql)).get()
    }
}
