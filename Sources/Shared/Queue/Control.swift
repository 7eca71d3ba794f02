// Pauses, drains, caps, rates and weights: rows in PostgreSQL, so that they outlive everything, applied to the
// schedule whenever they change or it is set up anew.

package import Database
package import Platform

/// What a pause or a limit is about.
package enum ControlScope: Sendable, Hashable {
    case queue
    case org(OrgID)
    case lane(String)

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

    /// Applies what PostgreSQL says of a queue to its schedule, setting it up if need be.
    package func apply(_ queue: String, defaults: Defaults) async throws {
        let rows = try await database.query(
            .worker,
            """
            SELECT scope, subject, state, concurrency_max, rate_per_second, weight FROM queue_control
            WHERE queue = \(queue)
            """
        )
        var fields: [String: String] = [:]
        fields["cap:l"] = defaults.laneConcurrencyMax.map { String($0) }
        fields["cap:o"] = defaults.orgConcurrencyMax.map { String($0) }
        fields["rate:o"] = defaults.orgRatePerSecond.map { String($0) }
        for row in rows {
            let suffix = try Self.suffix(scope: row("scope"), subject: row("subject"))
            if try row("state") != "running" { fields["pause" + suffix] = "1" }
            // A limit of the whole queue has no meaning; it belongs to organizations and lanes.
            guard !suffix.isEmpty else { continue }
            if let cap: Int = try row("concurrency_max") { fields["cap" + suffix] = String(cap) }
            if let rate: Double = try row("rate_per_second") { fields["rate" + suffix] = String(rate) }
            if let weight: Int = try row("weight") { fields["weight" + suffix] = String(weight) }
        }
        try await schedule.configure(queue: queue, fields)
    }

    private static func suffix(scope: String, subject: String) -> String {
        switch scope {
        case "org": ":o:\(subject)"
        case "lane": ":l:\(subject)"
        default: ""
        }
    }
}
