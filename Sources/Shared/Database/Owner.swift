// The thread that owns a connection. It takes calls from the pool one after the other, and waits in poll(2) for
// its bell and its socket at once: a server that goes away is noticed while nothing runs.

import Foundation
import Glibc
import Platform
import Synchronization

/// One thread with at most one connection.
final class Owner: Sendable {
    let bell: Bell
    private let configuration: Database.Configuration
    private let assigned = Mutex<Request?>(nil)
    private let connected = Atomic(false)

    /// Nil when the process has no file descriptor left.
    init?(_ configuration: Database.Configuration) {
        guard let bell = Bell() else { return nil }
        self.bell = bell
        self.configuration = configuration
    }

    /// Whether it holds an open connection just now.
    var isConnected: Bool { connected.load(ordering: .relaxed) }

    /// Starts the thread with its first request.
    func start(with request: Request, in pool: Pool) {
        assign(request)
        let thread = Thread { self.run(in: pool) }
        thread.name = "postgres"
        thread.stackSize = 512 * 1024
        thread.start()
    }

    /// Hands over a request while the thread is idle.
    func assign(_ request: Request) {
        assigned.withLock { $0 = request }
    }

    private func run(in pool: Pool) {
        var connection: Connection?
        var request = takeAssigned()
        while true {
            if let current = request {
                serve(current, &connection, pool)
                dropIfUnusable(&connection)
                request = nil
            }
            switch pool.next(for: self) {
            case .serve(let next): request = next
            case .wait: request = idle(&connection, pool)
            case .stop:
                connection = nil
                connected.store(false, ordering: .relaxed)
                pool.ended(self)
                return
            }
        }
    }

    private func takeAssigned() -> Request? {
        assigned.withLock { request in
            defer { request = nil }
            return request
        }
    }

    /// Waits until a request was handed over; nil when the pool is closing.
    private func idle(_ connection: inout Connection?, _ pool: Pool) -> Request? {
        let idleSince = ContinuousClock.now
        var restful = configuration.idleTimeout
        while true {
            let socket = connection?.socket ?? -1
            let (rang, readable) = bell.wait(orReadable: socket, atMost: connection == nil ? nil : restful)
            if readable { dropIfDead(&connection) }
            // The bell may ring late for something that was seen before it.
            if rang {
                if let request = takeAssigned() { return request }
                if pool.isClosing { return nil }
            }
            restful = configuration.idleTimeout - idleSince.duration(to: .now)
            if restful <= .zero { drop(&connection) }
        }
    }

    /// Reads all that came unasked: last words are followed by the end.
    private func dropIfDead(_ connection: inout Connection?) {
        while let open = connection {
            guard open.isAliveAfterReading() else { return drop(&connection) }
            guard waitFor(open.socket, events: POLLIN, until: .now) != 0 else { return }
        }
    }

    private func dropIfUnusable(_ connection: inout Connection?) {
        guard let open = connection else { return }
        if open.isSpent || open.isInTransaction || open.expires <= .now { drop(&connection) }
    }

    private func drop(_ connection: inout Connection?) {
        connection = nil
        connected.store(false, ordering: .relaxed)
    }

    private func serve(_ request: Request, _ connection: inout Connection?, _ pool: Pool) {
        guard request.isWaiting else { return }
        do throws(DatabaseError) {
            let open = try open(&connection, pool, for: request)
            guard let continuation = request.claim() else { return }
            switch request.work {
            case .lease(let lease):
                lease.attach(bell)
                continuation.resume(returning: .success([]))
                lend(&connection, lease, pool)
            case .batch, .script:
                let began = ContinuousClock.now
                let answer = answer(request.work, open, &connection, pool)
                pool.measured(began.duration(to: .now), answer)
                continuation.resume(returning: answer)
            }
        } catch {
            pool.couldNotConnect(error, for: request)
        }
    }

    private func open(
        _ connection: inout Connection?,
        _ pool: Pool,
        for request: Request?
    ) throws(DatabaseError) -> Connection {
        if let open = connection { return open }
        if let request { pool.connecting(for: request) }
        defer { if let request { pool.endedConnecting(for: request) } }
        let fresh = try Connection(configuration)
        connection = fresh
        connected.store(true, ordering: .relaxed)
        pool.connected()
        return fresh
    }

    /// Runs a batch or script; once more on a fresh connection when the first surely did nothing.
    private func answer(
        _ work: Request.Work,
        _ open: Connection,
        _ connection: inout Connection?,
        _ pool: Pool
    ) -> Request.Answer {
        switch run(work, on: open) {
        case .done(let results): return .success(results.map(Rows.init))
        case .refused(let error): return .failure(error)
        case .lost(let error, let repeatable):
            drop(&connection)
            guard repeatable else { return .failure(error) }
        }
        do throws(DatabaseError) {
            let fresh = try self.open(&connection, pool, for: nil)
            switch run(work, on: fresh) {
            case .done(let results): return .success(results.map(Rows.init))
            case .refused(let error): return .failure(error)
            case .lost(let error, _):
                drop(&connection)
                return .failure(error)
            }
        } catch {
            pool.couldNotConnect(error, for: nil)
            return .failure(error)
        }
    }

    private func run(_ work: Request.Work, on connection: Connection) -> Connection.Outcome {
        switch work {
        case .batch(let access, let statements, let timeout):
            connection.exchange(
                opening: [access.opening(timeout: timeout)],
                statements,
                timeout: timeout,
                commits: true
            )
        case .script(let sql, let timeout): connection.script(sql, timeout: timeout)
        case .lease: .done([])
        }
    }
}

// An interactive transaction on a lent connection.
extension Owner {
    /// Serves the lease until its end; whatever is in doubt afterwards is closed by `dropIfUnusable`.
    private func lend(_ connection: inout Connection?, _ lease: Lease, _ pool: Pool) {
        var lost: DatabaseError?
        while true {
            guard let errand = lease.next() else {
                let readable = bell.wait(orReadable: connection?.socket ?? -1, atMost: nil).readable
                guard readable, let open = connection else { continue }
                let hadBegun = open.isInTransaction
                dropIfDead(&connection)
                if connection == nil, hadBegun { lost = Self.lostInTransaction }
                continue
            }
            var answer: Request.Answer
            if let lost {
                answer = .failure(lost)
            } else {
                answer = perform(errand.act, &connection, lease, pool)
                if connection == nil { lost = Self.lostInTransaction }
            }
            errand.continuation.resume(returning: answer)
            switch errand.act {
            case .commit, .rollback: return
            case .exchange, .script: break
            }
        }
    }

    private static let lostInTransaction = DatabaseError.unavailable(
        "The connection to PostgreSQL was lost in a transaction, which is rolled back."
    )

    private func perform(
        _ act: Lease.Act,
        _ connection: inout Connection?,
        _ lease: Lease,
        _ pool: Pool
    ) -> Request.Answer {
        do throws(DatabaseError) {
            let open = try self.open(&connection, pool, for: nil)
            let isFirst = !open.isInTransaction
            let answer = perform(act, on: open, lease)
            guard open.isLost else { return answer }
            drop(&connection)
            // Nothing had been done before and nothing is committed yet: begin again elsewhere. Of a script we
            // do not know what it says.
            if case .script = act { return answer }
            guard isFirst, case .failure(.unavailable) = answer else { return answer }
            let again = perform(act, on: try self.open(&connection, pool, for: nil), lease)
            if let second = connection, second.isLost { drop(&connection) }
            return again
        } catch {
            pool.couldNotConnect(error, for: nil)
            return .failure(error)
        }
    }

    private func perform(_ act: Lease.Act, on connection: Connection, _ lease: Lease) -> Request.Answer {
        let begins = !connection.isInTransaction
        let opening = begins ? lease.access.transactionOpening(timeout: lease.timeout) : []
        let timeout = lease.timeout
        switch act {
        case .exchange(let statements):
            let outcome = connection.exchange(
                opening: opening,
                statements,
                timeout: timeout,
                commits: false
            )
            return answer(outcome, connection)
        case .script(let sql):
            if begins {
                let begun = connection.exchange(opening: opening, [], timeout: timeout, commits: false)
                guard case .done = begun else { return answer(begun, connection) }
            }
            let answer = answer(connection.script(sql, timeout: timeout + .seconds(1)), connection)
            // A script in a transaction commits nothing by itself.
            if case .failure(.unknownOutcome) = answer { return .failure(Self.lostInTransaction) }
            return answer
        case .commit:
            return begins ? .success([]) : commit(connection, timeout)
        case .rollback:
            guard !begins else { return .success([]) }
            let outcome = connection.exchange(
                opening: [],
                ["ROLLBACK"],
                timeout: timeout,
                commits: false
            )
            return answer(outcome, connection)
        }
    }

    private func commit(_ connection: Connection, _ timeout: Duration) -> Request.Answer {
        let outcome = connection.exchange(
            opening: [],
            ["COMMIT"],
            timeout: timeout,
            commits: !connection.isTransactionFailed
        )
        // PostgreSQL answers COMMIT of a failed transaction with success and the tag ROLLBACK.
        if case .done(let results) = outcome, results.last?.tag != "COMMIT" {
            return .failure(
                .failed(sqlstate: "25P02", message: "a statement had failed, so all was rolled back")
            )
        }
        return answer(outcome, connection)
    }

    private func answer(_ outcome: Connection.Outcome, _ connection: Connection) -> Request.Answer {
        switch outcome {
        case .done(let results): return .success(results.map(Rows.init))
        case .refused(let error): return .failure(error)
        case .lost(let error, _):
            connection.isLost = true
            return .failure(error)
        }
    }
}
