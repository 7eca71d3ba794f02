// One libpq connection, in non-blocking and pipeline mode for its whole life. Made, used and closed by one
// thread; every wait is our own poll(2) with a deadline.

import CPostgres
import Foundation
import Platform

/// A connection that is open.
final class Connection {
    let handle: OpaquePointer
    /// When it is old enough to be replaced.
    let expires: ContinuousClock.Instant
    /// Whether it must be closed after the current work.
    var isSpent = false
    /// Whether it is known to be of no use any more.
    var isLost = false
    let usesTLS: Bool
    var parameters = ParameterBuffer()
    var preparedStatements: PreparedStatements?

    /// Connects within `connectTimeout`.
    init(_ configuration: Database.Configuration) throws(DatabaseError) {
        let deadline = ContinuousClock.now.advanced(by: configuration.connectTimeout)
        guard let handle = Self.start(configuration) else {
            throw .unavailable("PostgreSQL is out of reach: there is no memory for a connection.")
        }
        do throws(DatabaseError) {
            try Self.finish(handle, by: deadline)
        } catch {
            PQfinish(handle)
            throw error
        }
        // libpq would print notices to standard error.
        PQsetNoticeReceiver(handle, { _, _ in }, nil)
        guard PQsetnonblocking(handle, 1) == 0, PQenterPipelineMode(handle) == 1 else {
            PQfinish(handle)
            throw .unavailable("PostgreSQL is out of reach: the connection refuses pipeline mode.")
        }
        self.handle = handle
        usesTLS = PQsslInUse(handle) == 1
        preparedStatements = configuration.prepared ? PreparedStatements() : nil
        // Spread, so that connections opened together do not all end together.
        expires = .now.advanced(by: configuration.connectionLifetime * Double.random(in: 0.8...1))
    }

    deinit { PQfinish(handle) }

    var socket: Int32 { PQsocket(handle) }

    /// Reads what came unasked while nothing was running; false when that was the end.
    func isAliveAfterReading() -> Bool {
        PQconsumeInput(handle) == 1 && PQisBusy(handle) == 0 && PQstatus(handle) == CONNECTION_OK
    }

    /// Whether a transaction was begun and has not ended.
    var isInTransaction: Bool { PQtransactionStatus(handle) != PQTRANS_IDLE }

    /// Whether only a rollback is left.
    var isTransactionFailed: Bool { PQtransactionStatus(handle) == PQTRANS_INERROR }

    /// Asks PostgreSQL to stop what runs.
    ///
    /// A thread of its own: the request is a connection of its own, which libpq opens blocking. The
    /// connection is spent then, as the request may arrive late and hit the next.
    func cancelInBackground() {
        isSpent = true
        guard let request = PQgetCancel(handle) else { return }
        let cancellation = Cancellation(request)
        Thread.detachNewThread { cancellation.send() }
    }

    private static func start(_ configuration: Database.Configuration) -> OpaquePointer? {
        // The URL may override what stands before it, and not what stands behind. No `options`: PgBouncer
        // refuses them.
        let settings = [
            ("fallback_application_name", configuration.applicationName),
            ("keepalives_idle", "30"), ("keepalives_interval", "10"), ("keepalives_count", "3"),
            ("tcp_user_timeout", "30000"),
            // Looking for Kerberos tickets costs every connection a few file accesses.
            ("gssencmode", "disable"),
            ("dbname", configuration.url),
            ("client_encoding", "UTF8"),
        ]
        var keywords = settings.map { UnsafePointer(strdup($0.0)) } + [nil]
        var values = settings.map { UnsafePointer(strdup($0.1)) } + [nil]
        defer {
            for copy in keywords + values { free(UnsafeMutablePointer(mutating: copy)) }
        }
        return PQconnectStartParams(&keywords, &values, 1)
    }

    private static func finish(
        _ handle: OpaquePointer,
        by deadline: ContinuousClock.Instant
    ) throws(DatabaseError) {
        guard PQstatus(handle) != CONNECTION_BAD else { throw outOfReach(handle) }
        var step = PGRES_POLLING_WRITING
        while step != PGRES_POLLING_OK {
            guard step != PGRES_POLLING_FAILED else { throw outOfReach(handle) }
            let events = step == PGRES_POLLING_WRITING ? POLLOUT : POLLIN
            guard waitFor(PQsocket(handle), events: events, until: deadline) != 0 else {
                throw .unavailable("PostgreSQL is out of reach: no answer in time while connecting.")
            }
            step = PQconnectPoll(handle)
        }
    }

    /// libpq's message names host, port, user and database, and never the password.
    private static func outOfReach(_ handle: OpaquePointer) -> DatabaseError {
        let message = PQerrorMessage(handle).map { String(cString: $0) } ?? ""
        let line = message.split(whereSeparator: \.isNewline).joined(separator: " ").prefix(400)
        return .unavailable("PostgreSQL is out of reach: \(line)")
    }
}

/// Waits for events of a socket; the events that came, or 0 when the deadline did.
func waitFor(_ socket: Int32, events: Int32, until deadline: ContinuousClock.Instant) -> Int16 {
    var descriptor = pollfd(fd: socket, events: Int16(events), revents: 0)
    while true {
        let ready = poll(&descriptor, 1, pollMilliseconds(deadline - .now))
        if ready > 0 { return descriptor.revents }
        if ready == 0, deadline <= .now { return 0 }
    }
}

/// Owns one `PGcancel`.
///
/// Unchecked: made by the connection's thread and handed to the one thread that sends it; libpq documents
/// `PQcancel` as safe there while the connection is used or closed.
private final class Cancellation: @unchecked Sendable {
    private let request: OpaquePointer

    init(_ request: OpaquePointer) { self.request = request }
    deinit { PQfreeCancel(request) }

    func send() {
        var reason = [CChar](repeating: 0, count: 256)
        // If it fails, the connection is closed all the same.
        _ = PQcancel(request, &reason, Int32(reason.count))
    }
}
