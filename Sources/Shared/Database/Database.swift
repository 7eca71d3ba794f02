// The door to PostgreSQL: batches, queries and transactions over a pool of connections. libpq runs on threads of
// the pool's own and never on Swift's cooperative ones.

package import Logging
import Platform
import ServiceLifecycle

/// A database, reached over at most `connectionsMax` connections that open when they are first needed.
package final class Database: Sendable, Service {
    private let configuration: Configuration
    let pool: Pool

    /// Makes the pool; nothing is connected yet.
    package init(_ configuration: Configuration, logger: Logger) {
        self.configuration = configuration
        pool = Pool(configuration, logger: logger)
    }

    deinit { pool.beginClosing() }

    /// Runs all statements in one round trip and one transaction; results in order.
    ///
    /// The first error undoes all of them. `timeout` bounds each statement, and a little later the whole.
    @discardableResult
    package func batch(
        _ access: Access,
        _ statements: [Statement],
        timeout: Duration? = nil
    ) async throws(DatabaseError) -> [Rows] {
        for statement in statements {
            if let fault = statement.fault { throw fault }
        }
        guard !statements.isEmpty else { return [] }
        return try await perform(
            .batch(access, statements, timeout: timeout ?? configuration.statementTimeout)
        )
    }

    /// Runs one statement in a transaction of its own.
    @discardableResult
    package func query(
        _ access: Access,
        _ statement: Statement,
        timeout: Duration? = nil
    ) async throws(DatabaseError) -> Rows {
        try await batch(access, [statement], timeout: timeout).first ?? Rows()
    }

    /// Runs `body` in a transaction that is committed when it returns, and rolled back when it throws or its
    /// task is cancelled.
    ///
    /// `timeout` bounds each statement. The transaction begins with the first statement.
    package func transaction<Value: Sendable>(
        _ access: Access,
        timeout: Duration? = nil,
        _ body: (Transaction) async throws -> Value
    ) async throws -> Value {
        let lease = Lease(access: access, timeout: timeout ?? configuration.statementTimeout)
        _ = try await perform(.lease(lease))
        let value: Value
        do {
            value = try await body(Transaction(lease: lease))
            guard !Task.isCancelled else { throw DatabaseError.cancelled }
        } catch {
            // Whether the rollback arrived or the connection was closed: nothing of it stays.
            _ = await lease.perform(.rollback)
            throw error
        }
        _ = try await lease.perform(.commit).get()
        return value
    }

    /// Runs SQL text of any number of statements as the URL's role and outside a transaction of ours:
    /// `CREATE DATABASE`, `CREATE INDEX CONCURRENTLY`.
    package func script(_ sql: String, timeout: Duration? = nil) async throws(DatabaseError) {
        _ = try await perform(.script(sql, timeout: timeout ?? configuration.statementTimeout))
    }

    /// Asks for one answer, for `/readyz`.
    package func ping() async throws(DatabaseError) {
        try await query(.owner, "SELECT 1", timeout: min(.seconds(2), configuration.statementTimeout))
    }

    /// Refuses new calls, lets the running ones finish within their time, and closes every connection.
    package func close() async {
        await pool.close()
    }

    /// Holds the pool open until the service group shuts down.
    ///
    /// Calls work before and without it.
    package func run() async throws {
        // Cancellation ends it as shutdown does.
        try? await gracefulShutdown()
        await close()
    }

    private func perform(_ work: Request.Work) async throws(DatabaseError) -> [Rows] {
        guard !Task.isCancelled else { throw .cancelled }
        let request = Request(work, deadline: .now.advanced(by: configuration.acquireTimeout))
        return try await request.answer { pool.submit(request) }.get()
    }
}
