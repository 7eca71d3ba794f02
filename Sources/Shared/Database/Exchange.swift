// Statements out, results in: one write, one wait and one read where everything fits a packet.
//
// All statements and one Sync are sent together. PostgreSQL runs them in one transaction, which the Sync commits;
// after an error it skips the rest up to the Sync and rolls back. So before the Sync is answered we know that
// nothing is committed as long as one of the statements has not succeeded, and nothing at all once all have.

import CPostgres
import Glibc
import Platform

extension Connection {
    /// How an exchange ended.
    enum Outcome {
        case done([StatementResult])
        /// Refused by PostgreSQL and undone; the connection is usable.
        case refused(DatabaseError)
        /// The connection is not usable any more. `repeatable`: it was the connection's fault alone, and surely
        /// nothing was committed.
        case lost(DatabaseError, repeatable: Bool)
    }

    /// PostgreSQL's own limit comes first; then ours with a request to cancel; then the connection is given up.
    private static let cancelAfter: Duration = .seconds(1)
    private static let giveUpAfter: Duration = .seconds(1)

    /// Runs `opening`, whose results nobody wants, and `statements`.
    ///
    /// `commits`: the exchange ends a transaction, so that its outcome is unknown when the answer is lost.
    func exchange(
        opening: [Statement],
        _ statements: [Statement],
        timeout: Duration,
        commits: Bool
    ) -> Outcome {
        var progress = Progress(commits: commits)
        for statement in opening where progress.canSend { send(statement, isOpening: true, &progress) }
        for statement in statements where progress.canSend { send(statement, isOpening: false, &progress) }
        defer { preparedStatements?.endExchange() }
        guard progress.canSend, PQpipelineSync(handle) == 1 else {
            return .lost(connectionLost, repeatable: true)
        }
        return collect(&progress, timeout: timeout)
    }

    private func send(_ statement: Statement, isOpening: Bool, _ progress: inout Progress) {
        let purpose = isOpening ? Progress.Command.opening : .statement
        guard preparedStatements != nil else {
            let sent = parameters.with(statement.parameters) { arguments in
                PQsendQueryParams(
                    handle,
                    statement.text,
                    arguments.count,
                    arguments.types,
                    arguments.values,
                    arguments.lengths,
                    arguments.formats,
                    1
                )
            }
            progress.sent(purpose, sent)
            return
        }
        sendPrepared(statement, purpose, &progress)
    }

    private func sendPrepared(
        _ statement: Statement,
        _ purpose: Progress.Command,
        _ progress: inout Progress
    ) {
        let key = PreparedStatements.Key(statement)
        let name: String
        switch preparedStatements?.lookUp(key) ?? .unnamed {
        case .prepared(let known): name = known
        case .new(let new): (name, progress.newStatement) = (new, key)
        case .unnamed: name = ""
        }
        let isUnprepared = progress.newStatement != nil || name.isEmpty
        let sent = parameters.with(statement.parameters) { arguments in
            if isUnprepared {
                let prepared = PQsendPrepare(handle, name, statement.text, arguments.count, arguments.types)
                guard prepared == 1 else { return 0 }
            }
            return PQsendQueryPrepared(
                handle,
                name,
                arguments.count,
                arguments.values,
                arguments.lengths,
                arguments.formats,
                1
            )
        }
        if isUnprepared { progress.sent(.prepare(progress.newStatement), sent) }
        progress.newStatement = nil
        progress.sent(purpose, sent)
    }

    private func collect(_ progress: inout Progress, timeout: Duration) -> Outcome {
        var deadline = ContinuousClock.now.advanced(by: timeout + Self.cancelAfter)
        var isOpen = true
        while true {
            if takeResults(&progress) { return ended(progress) }
            guard isOpen else { return lost(progress) }
            let flushed = PQflush(handle)
            progress.isFlushed = flushed == 0
            // TLS may hold bytes that poll(2) does not see: look again soon.
            let soon = usesTLS ? min(deadline, .now.advanced(by: .milliseconds(50))) : deadline
            let events = waitFor(socket, events: flushed == 1 ? POLLIN | POLLOUT : POLLIN, until: soon)
            if events == 0, deadline <= .now {
                guard !isSpent else { return lost(progress) }
                cancelInBackground()
                deadline = .now.advanced(by: Self.giveUpAfter)
                continue
            }
            // An error is noted and what was read before it is still looked at.
            isOpen = PQconsumeInput(handle) == 1
            if usesTLS, isOpen { isOpen = PQconsumeInput(handle) == 1 }
        }
    }

    /// Takes the results that are there; true when the Sync was answered.
    private func takeResults(_ progress: inout Progress) -> Bool {
        while PQisBusy(handle) == 0, !progress.isPastEnd {
            guard let pointer = PQgetResult(handle) else {
                progress.position += 1
                continue
            }
            switch PQresultStatus(pointer) {
            case PGRES_PIPELINE_SYNC:
                PQclear(pointer)
                return true
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK:
                succeeded(StatementResult(owning: pointer), &progress)
            case PGRES_PIPELINE_ABORTED:
                PQclear(pointer)
            default:
                progress.failed(ServerError(pointer))
                PQclear(pointer)
            }
        }
        return false
    }

    private func succeeded(_ result: StatementResult, _ progress: inout Progress) {
        progress.succeeded += 1
        guard progress.position < progress.commands.count else { return }
        switch progress.commands[progress.position] {
        case .opening: break
        case .prepare(let key): if let key { preparedStatements?.confirm(key) }
        case .statement: progress.results.append(result)
        }
    }

    private func ended(_ progress: Progress) -> Outcome {
        guard let error = progress.error else {
            guard progress.commits, isInTransaction else { return .done(progress.results) }
            // A statement said BEGIN, so the Sync has committed nothing: closing undoes it.
            let message = "a batch began a transaction of its own, which is rolled back"
            return .lost(.failed(sqlstate: "25001", message: message), repeatable: false)
        }
        // The plan or the name we relied on is gone: after a migration, or behind a PgBouncer that does not know
        // named statements.
        if preparedStatements != nil, error.isStalePlan { return .lost(error.cause, repeatable: true) }
        if case .unavailable = error.cause { isSpent = true }
        return .refused(error.cause)
    }

    private func lost(_ progress: Progress) -> Outcome {
        if let error = progress.error, !error.isFatal { return .lost(error.cause, repeatable: false) }
        // "Terminating connection due to administrator command" before all had succeeded: rolled back. Other
        // last words (a crash, PgBouncer's own) prove nothing.
        if let error = progress.error, error.sqlstate == "57P01", progress.succeeded < progress.commands.count
        {
            return .lost(error.cause, repeatable: true)
        }
        guard progress.isFlushed, progress.commits else {
            let timedOut = isSpent ? DatabaseError.timedOut : connectionLost
            return .lost(timedOut, repeatable: !progress.isFlushed && !isSpent)
        }
        return .lost(.unknownOutcome, repeatable: false)
    }

    private var connectionLost: DatabaseError {
        .unavailable("The connection to PostgreSQL was lost; nothing was committed.")
    }
}

extension Connection {
    /// Runs SQL text of any number of statements by the simple protocol, which pipeline mode does not know.
    func script(_ sql: String, timeout: Duration) -> Outcome {
        guard PQexitPipelineMode(handle) == 1, PQsendQuery(handle, sql) == 1 else {
            return .lost(connectionLost, repeatable: true)
        }
        var progress = Progress(commits: true)
        var deadline = ContinuousClock.now.advanced(by: timeout)
        while true {
            while PQisBusy(handle) == 0 {
                guard let pointer = PQgetResult(handle) else { return scriptEnded(progress) }
                switch PQresultStatus(pointer) {
                case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY: break
                case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
                    PQclear(pointer)
                    return .lost(
                        .failed(sqlstate: "0A000", message: "COPY is not supported"),
                        repeatable: false
                    )
                default: progress.failed(ServerError(pointer))
                }
                PQclear(pointer)
            }
            let flushed = PQflush(handle)
            let soon = usesTLS ? min(deadline, .now.advanced(by: .milliseconds(50))) : deadline
            let events = waitFor(socket, events: flushed == 1 ? POLLIN | POLLOUT : POLLIN, until: soon)
            if events == 0, deadline <= .now {
                guard !isSpent else { return .lost(.unknownOutcome, repeatable: false) }
                cancelInBackground()
                deadline = .now.advanced(by: Self.giveUpAfter)
            } else if PQconsumeInput(handle) == 0 {
                return .lost(progress.error?.cause ?? .unknownOutcome, repeatable: false)
            }
        }
    }

    private func scriptEnded(_ progress: Progress) -> Outcome {
        guard PQstatus(handle) == CONNECTION_OK, PQenterPipelineMode(handle) == 1 else {
            return .lost(progress.error?.cause ?? .unknownOutcome, repeatable: false)
        }
        return progress.error.map { .refused($0.cause) } ?? .done([])
    }
}

/// How far the answers of an exchange have come.
private struct Progress {
    enum Command {
        /// Begins the transaction; its result is dropped.
        case opening
        /// Prepares a statement, under a name to remember if there is a key.
        case prepare(PreparedStatements.Key?)
        case statement
    }

    let commits: Bool
    var commands: [Command] = []
    var canSend = true
    var newStatement: PreparedStatements.Key?
    var position = 0
    var succeeded = 0
    var isFlushed = false
    var results: [StatementResult] = []
    var error: ServerError?

    init(commits: Bool) {
        self.commits = commits
        commands.reserveCapacity(16)
    }

    /// libpq has more answers for us than we had questions: it has lost the connection.
    var isPastEnd: Bool { position > commands.count }

    mutating func sent(_ command: Command, _ status: Int32) {
        commands.append(command)
        if status != 1 { canSend = false }
    }

    /// The first error counts, but last words come after it.
    mutating func failed(_ failure: ServerError?) {
        guard let failure else { return }
        if error == nil || failure.isFatal { error = failure }
    }
}

/// An error as PostgreSQL reported it.
private struct ServerError {
    let sqlstate: String
    let isFatal: Bool
    let cause: DatabaseError
    let isStalePlan: Bool

    /// Nil for an error that libpq made up itself because the connection broke.
    init?(_ result: OpaquePointer) {
        func field(_ code: Character) -> String? {
            PQresultErrorField(result, Int32(code.asciiValue ?? 0)).map { String(cString: $0) }
        }
        guard let sqlstate = field("C") else { return nil }
        self.sqlstate = sqlstate
        let message = field("M") ?? ""
        let severity = field("V") ?? field("S")
        isFatal = severity == "FATAL" || severity == "PANIC"
        cause = DatabaseError(sqlstate: sqlstate, message: message, constraint: field("n") ?? "")
        isStalePlan =
            sqlstate == "26000" || sqlstate == "42P05"
            || (sqlstate == "0A000" && message.contains("cached plan"))
    }
}
