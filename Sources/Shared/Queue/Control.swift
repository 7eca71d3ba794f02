// Pauses, drains, caps, rates and weights: rows in PostgreSQL, so that they outlive everything, applied to the
// schedule whenever they change or it is set up anew.

package import Database
package import Platform

/// What a pause or a limit is about.
package enum ControlScope: Sendable, Hashable {
    case queue
    case org(OrgID)
    case lane(String)

    /// Reads `scope` and `subject` of a row; nil when an operator's hand wrote what means nothing.
    package init?(_ row: Row) throws {
        let (scope, subject): (String, String) = (try row("scope"), try row("subject"))
        switch scope {
        case "queue": self = .queue
        case "lane": self = .lane(subject)
        default:
            guard let org = OrgID(subject) else { return nil }
            self = .org(org)
        }
    }

    /// The columns `scope` and `subject`.
    var columns: (scope: String, subject: String) {
        switch self {
        case .queue: ("queue", "")
        case .org(let org): ("org", org.description)
        case .lane(let lane): ("lane", lane)
        }
    }
}

/// Reads, writes and applies the rows of `queue_control`.
package struct QueueControl: Sendable {
    /// Whether jobs are taken: `paused` and `draining` stop the taking alike, and tell an operator why.
    package enum State: String, Sendable {
        case running, paused, draining
    }

    /// What an operator limits: running jobs at a time, starts a second, turns in the ring.
    ///
    /// nil is left as it was.
    package struct Limits: Sendable, Equatable {
        package var concurrencyMax: Int?
        package var ratePerSecond: Double?
        package var weight: Int?

        /// Leaves all as it was.
        package init() {}
    }

    /// Weights, caps and rates that a queue has unless an operator says otherwise.
    package struct Defaults: Sendable {
        /// Running jobs of one lane at a time; nil is no limit.
        package var laneConcurrencyMax: Int?
        /// Running jobs of one organization at a time; nil is no limit.
        package var orgConcurrencyMax: Int?
        /// Jobs started per second for one organization; nil is no limit.
        package var orgRatePerSecond: Double?

        /// No limits.
        package init() {}
    }

    private let database: Database
    private let schedule: Schedule

    /// Control over the queues of one database and schedule.
    package init(_ database: Database, _ schedule: Schedule) {
        self.database = database
        self.schedule = schedule
    }

    /// Pauses, drains or resumes; durable when it returns, whether or not Redis is there to be told.
    ///
    /// Workers apply it within seconds at the latest; throws only when PostgreSQL cannot keep it.
    package func set(_ state: State, _ queue: String, _ scope: ControlScope, defaults: Defaults) async throws
    {
        let (name, subject) = scope.columns
        try await database.query(
            .worker,
            """
            INSERT INTO queue_control (queue, scope, subject, state) VALUES (\(queue), \(name), \(subject), \(state))
            ON CONFLICT (queue, scope, subject) DO UPDATE SET state = excluded.state, updated_at = now()
            """
        )
        // Best effort: a worker's chore applies the rows again and again.
        try? await apply(queue, defaults: defaults)
    }

    /// Sets those limits that are given, or with nil lifts all; durable when it returns.
    ///
    /// Limits of a whole queue are those of each of its organizations that has none of its own.
    package func limit(
        _ limits: Limits?,
        _ queue: String,
        _ scope: ControlScope,
        defaults: Defaults
    )
        async throws
    {
        let (name, subject) = scope.columns
        let statement: Statement =
            if let limits {
                """
                INSERT INTO queue_control AS c (queue, scope, subject, concurrency_max, rate_per_second, weight)
                VALUES (\(queue), \(name), \(subject), \(limits.concurrencyMax), \(limits.ratePerSecond), \(limits.weight))
                ON CONFLICT (queue, scope, subject) DO UPDATE SET updated_at = now(),
                    concurrency_max = coalesce(excluded.concurrency_max, c.concurrency_max),
                    rate_per_second = coalesce(excluded.rate_per_second, c.rate_per_second),
                    weight = coalesce(excluded.weight, c.weight)
                """
            } else {
                """
                UPDATE queue_control SET concurrency_max = NULL, rate_per_second = NULL, weight = NULL, updated_at = now()
                WHERE queue = \(queue) AND scope = \(name) AND subject = \(subject)
                """
            }
        try await database.query(.worker, statement)
        try? await apply(queue, defaults: defaults)  // best effort, as above
    }

    /// Every pause, drain and limit: `queue, scope, subject, state, concurrency_max, rate_per_second, weight`.
    package static let rules: Statement = """
        SELECT queue, scope, subject, state, concurrency_max, rate_per_second, weight FROM queue_control
        WHERE state <> 'running' OR concurrency_max IS NOT NULL OR rate_per_second IS NOT NULL OR weight IS NOT NULL
        ORDER BY queue, scope, subject
        """

    /// The state of every queue that was ever held back: `queue, state`.
    package static let states: Statement = "SELECT queue, state FROM queue_control WHERE scope = 'queue'"

    /// The state of a whole queue.
    package func state(of queue: String) async throws -> State {
        let rows = try await database.query(
            .worker,
            "SELECT state FROM queue_control WHERE queue = \(queue) AND scope = 'queue'"
        )
        guard let row = rows.first, let state = State(rawValue: try row("state")) else { return .running }
        return state
    }

    /// A worker whose heartbeat in PostgreSQL is no older than this takes part.
    private static let freshHeartbeat: Duration = .seconds(15)

    /// Applies what PostgreSQL says of a queue to its schedule, setting it up if need be.
    ///
    /// `slots` are how many jobs the caller runs at a time, if it is a worker, whose first heartbeat may be still to come.
    package func apply(_ queue: String, defaults: Defaults, slots own: Int = 0) async throws {
        let results = try await database.batch(
            .worker,
            [
                """
                SELECT scope, subject, state, concurrency_max, rate_per_second, weight FROM queue_control
                WHERE queue = \(queue)
                """,
                """
                SELECT id, coalesce(slots[array_position(queues, \(queue))], 0) AS slots FROM workers
                WHERE \(queue) = ANY (queues)
                    AND seen_at > now() - \(Self.freshHeartbeat.microseconds) * interval '1 microsecond'
                """,
            ]
        )
        let slots = max(own, try results[1].reduce(0) { try $0 + $1("slots") })
        var fields = try Self.fields(results[0], defaults)
        if slots > 0 { fields["slots"] = String(slots) }
        try await schedule.configure(
            queue: queue,
            fields,
            awaiting: try results[1].map { try $0("id") as WorkerID }
        )
    }

    private static func fields(_ rows: Rows, _ defaults: Defaults) throws -> [String: String] {
        var fields: [String: String] = [:]
        fields["cap:l"] = defaults.laneConcurrencyMax.map { String($0) }
        fields["cap:o"] = defaults.orgConcurrencyMax.map { String($0) }
        fields["rate:o"] = defaults.orgRatePerSecond.map { String($0) }
        for row in rows {
            let suffix = try suffix(scope: row("scope"), subject: row("subject"))
            if try row("state") != "running" { fields["pause" + suffix] = "1" }
            // The whole queue's are those of every organization that has none of its own.
            let limited = suffix.isEmpty ? ":o" : suffix
            if let cap: Int = try row("concurrency_max") { fields["cap" + limited] = String(cap) }
            if let rate: Double = try row("rate_per_second") { fields["rate" + limited] = String(rate) }
            if let weight: Int = try row("weight"), !suffix.isEmpty {
                fields["weight" + limited] = String(weight)
            }
        }
        return fields
    }

    private static func suffix(scope: String, subject: String) -> String {
        switch scope {
        case "org": ":o:\(subject)"
        case "lane": ":l:\(subject)"
        default: ""
        }
    }
}
