// Pauses, drains, caps, rates and weights: rows in PostgreSQL, so that they outlive everything, applied to the
// schedule whenever they change or it is set up anew.

package import Database
import Platform

/// Reads and applies the rows of `queue_control`.
package struct QueueControl: Sendable {
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

    /// Applies what PostgreSQL says of a queue to its schedule, setting it up if need be.
    package func apply(_ queue: String, defaults: Defaults = Defaults()) async throws {
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
