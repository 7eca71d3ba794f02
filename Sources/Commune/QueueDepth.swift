// What `commune queues status` shows: counts from PostgreSQL, who waits for a rate from Redis, rules from queue_control.

import Database
import Foundation
import Platform
import Queue
import Store

/// One queue, or one organization in it.
struct QueueDepth: Encodable {
    /// A pause or a limit of a queue's organization or lane, or of every organization.
    struct Rule: Encodable {
        let scope: String
        let subject: String
        let state: String
        let concurrency: Int?
        let rate: Double?
        let weight: Int?
    }

    /// A lane or an organization that waits for its rate.
    struct Held: Encodable {
        let scope: String
        let subject: String
        let waitSeconds: Double

        enum CodingKeys: String, CodingKey {
            case scope, subject
            case waitSeconds = "wait_seconds"
        }
    }

    let queue: String
    let org: String?
    let state: String
    var ready = 0
    var delayed = 0
    var running = 0
    /// nil while Redis is away.
    var parked: Int?
    var dead = 0
    var oldestSeconds = 0
    /// Some of those that are parked, the next to go on first.
    var parkedSome: [Held] = []
    var rules: [Rule] = []

    enum CodingKeys: String, CodingKey {
        case queue, org, state, ready, delayed, running, parked, dead, rules
        case oldestSeconds = "oldest_seconds"
        case parkedSome = "parked_some"
    }

    private static let parkedNamed = 1000
    private static let parkedShown = 5

    /// All queues, idle ones too; by organization those that have something.
    static func all(_ database: Database, _ schedule: Schedule, byOrg: Bool) async throws -> [QueueDepth] {
        let results = try await database.batch(.worker, [Jobs.depths(byOrg: byOrg), QueueControl.rules])
        let rules = try Dictionary(
            grouping: results[1].map { try (queue: $0("queue") as String, rule: rule($0)) }
        ) {
            $0.queue
        }.mapValues { $0.map(\.rule) }
        func state(_ queue: String, _ org: String?) -> String {
            let found = rules[queue]?.first { $0.scope == "queue" && $0.state != "running" }
            let own = org.flatMap { org in rules[queue]?.first { $0.scope == "org" && $0.subject == org } }
            return found?.state ?? own?.state ?? "running"
        }
        var depths = try results[0].map { row in
            let (queue, org): (String, String?) = (try row("queue"), try row("org"))
            var depth = QueueDepth(queue: queue, org: org, state: state(queue, org))
            depth.ready = try row("ready")
            depth.delayed = try row("delayed")
            depth.running = try row("running")
            depth.dead = try row("dead")
            depth.oldestSeconds = Int(try row("oldest_seconds") as Double)
            return depth
        }
        for name in QueueName.all where !depths.contains(where: { $0.queue == name }) {
            depths.append(QueueDepth(queue: name, org: nil, state: state(name, nil)))
        }
        for queue in Set(depths.map(\.queue)) {
            let parked = try? await schedule.parked(queue: queue, naming: parkedNamed)
            for index in depths.indices where depths[index].queue == queue {
                depths[index].add(parked, rules[queue] ?? [])
            }
        }
        return depths
    }

    private static func rule(_ row: Row) throws -> Rule {
        Rule(
            scope: try row("scope"),
            subject: try row("subject"),
            state: try row("state"),
            concurrency: try row("concurrency_max"),
            rate: try row("rate_per_second"),
            weight: try row("weight")
        )
    }

    private mutating func add(_ parked: (count: Int, some: [Schedule.Parked])?, _ rules: [Rule]) {
        let own = parked?.some.filter { org == nil || $0.org?.description == org }
        self.parked = org == nil ? parked?.count : own?.count
        parkedSome = (own ?? []).prefix(Self.parkedShown).map { held in
            let (scope, subject) =
                switch held.scope {
                case .lane(let lane): ("lane", lane)
                case .org(let org): ("org", org.description)
                case .queue: ("queue", "")
                }
            return Held(scope: scope, subject: subject, waitSeconds: held.wait.inSeconds)
        }
        self.rules = rules.filter { org == nil || $0.scope == "org" && $0.subject == org }
    }

    // MARK: Shown

    static func json(_ depths: [QueueDepth]) throws -> [String] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        return [String(decoding: try encoder.encode(depths), as: UTF8.self)]
    }

    static func table(_ depths: [QueueDepth]) -> [String] {
        var lines = [
            Queues.line(["QUEUE", "STATE", "READY", "DELAYED", "RUNNING", "PARKED", "DEAD", "OLDEST"])
        ]
        for depth in depths {
            let name = depth.org.map { "\(depth.queue) \($0)" } ?? depth.queue
            let parked = depth.parked.map { String($0) } ?? "-"
            lines.append(
                Queues.line([
                    name, depth.state, "\(depth.ready)", "\(depth.delayed)", "\(depth.running)", parked,
                    "\(depth.dead)", "\(depth.oldestSeconds) s",
                ])
            )
        }
        let notes = depths.flatMap { depth in
            depth.rules.map { "  \(depth.queue): \(text($0))" }
                + depth.parkedSome.map { held in
                    "  \(depth.queue): \(held.scope) \(held.subject) waits \(held.waitSeconds) s for its rate"
                }
        }
        return notes.isEmpty ? lines : lines + [""] + notes
    }

    private static func text(_ rule: Rule) -> String {
        let whom = rule.scope == "queue" ? "every organization" : "\(rule.scope) \(rule.subject)"
        let limits = [
            rule.concurrency.map { "at most \($0) at a time" }, rule.rate.map { "at most \($0) a second" },
            rule.weight.map { "weight \($0)" },
        ].compactMap { $0 }
        let paused = rule.state == "running" ? [] : [rule.state]
        // A pause of the queue is no rule for its organizations, but reads well in the same place.
        return
            "\(limits.isEmpty && rule.scope == "queue" ? "the whole queue" : whom) \((paused + limits).joined(separator: ", "))"
    }
}
