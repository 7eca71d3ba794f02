// The door to PostgreSQL: batches, queries and transactions over a pool of connections. libpq runs on threads of
// the pool's own and never on Swift's cooperative ones.

package import Logging
import Platform
import ServiceLifecycle

/// A database, reached over at most `connectionsMax` connections that open when they are first needed.
///
/// `limited(to:)` and `joined` make narrower doors to the same connections.
package final class Database: Sendable, Service {
    private let configuration: Configuration
    private let connections: Connections
    private let limits: KeyLimits?
    private let joint: JointTransaction?

    /// Makes the pool; nothing is connected yet.
    package convenience init(_ configuration: Configuration, logger: Logger) {
        self.init(configuration, Connections(Pool(configuration, logger: logger)), nil, nil)
    }

    private init(
        _ configuration: Configuration,
        _ connections: Connections,
        _ limits: KeyLimits?,
        _ joint: JointTransaction?
    ) {
        self.configuration = configuration
        self.connections = connections
        self.limits = limits
        self.joint = joint
    }

    /// The pool, which closes when the last door to it is gone.
    private final class Connections: Sendable {
        let pool: Pool

        init(_ pool: Pool) { self.pool = pool }

        deinit { pool.beginClosing() }
    }

    var pool: Pool { connections.pool }

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
        let access = try narrowed(access)
        if let joint { return try await joint.batch(access, statements) }
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
        let access = try narrowed(access)
        if let joint { return try await joint.transaction(access, body) }
        let lease = try await lease(access, timeout: timeout)
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

    private func lease(_ access: Access, timeout: Duration? = nil) async throws(DatabaseError) -> Lease {
        let lease = Lease(access: access, timeout: timeout ?? configuration.statementTimeout)
        _ = try await perform(.lease(lease))
        return lease
    }

    private func perform(_ work: Request.Work) async throws(DatabaseError) -> [Rows] {
        guard !Task.isCancelled else { throw .cancelled }
        let request = Request(work, deadline: .now.advanced(by: configuration.acquireTimeout))
        return try await request.answer { pool.submit(request) }.get()
    }
}

extension Database {
    /// The same database as a limited key sees it: every `.tenant` call speaks as `.limited`.
    package func limited(to limits: KeyLimits?) -> Database {
        guard let limits else { return self }
        return Database(configuration, connections, limits, joint)
    }

    /// For what is read before the work, and may be read again: a joint transaction need not begin for it.
    package var beforehand: Database {
        guard let joint, !joint.hasBegun else { return self }
        return Database(configuration, connections, limits, nil)
    }

    /// Runs `body` with a door to this database through which all calls go into one transaction.
    ///
    /// It begins with the first call, by `opening`, which may refuse; `closing` makes the last statements out of the
    /// value. A call that fails is undone by itself, as it would be without this. Nothing stays when `body` throws.
    package func joined<Value: Sendable>(
        _ access: Access,
        opening: @escaping @Sendable (Transaction) async throws -> Void,
        closing: (Value) throws -> [Statement],
        _ body: (Database) async throws -> Value
    ) async throws -> Value {
        let access = try narrowed(access)
        let joint = JointTransaction(access, opening) { [self] () async throws(DatabaseError) in
            try await lease(access)
        }
        do {
            let value = try await body(Database(configuration, connections, limits, joint))
            _ = try await joint.batch(access, closing(value))
            guard !Task.isCancelled else { throw DatabaseError.cancelled }
            try await joint.commit()
            return value
        } catch {
            await joint.rollback()
            throw joint.refusal ?? error
        }
    }

    /// A limited door lets nobody speak as more than it is limited to.
    private func narrowed(_ access: Access) throws(DatabaseError) -> Access {
        guard let limits else { return access }
        switch access {
        case .tenant(let org): return .limited(org, limits)
        case .limited, .lookup: return access
        case .worker, .owner:
            throw .failed(sqlstate: "42501", message: "a limited key cannot see every organization")
        }
    }
}
