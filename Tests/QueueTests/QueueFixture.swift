// Schedules and databases of one test each, and the words that the tests share.

import Database
import Foundation
import Logging
import Platform
import Redis
import Store
import TestSupport
import Testing

@testable import Queue

let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

/// How the Redis is run that holds the schedule.
enum Mode: String, Sendable, CaseIterable {
    case standalone
    /// One node that holds every slot: scripts that touch keys of two slots, or undeclared nodes, fail.
    case cluster

    private static let sharedCluster = Task { try await server(.cluster) }

    /// A server that the test may flush, fill and kill.
    static func server(_ mode: Mode, _ arguments: [String] = []) async throws -> RedisServer {
        guard mode == .cluster else { return try await RedisServer(arguments) }
        let bus = try ServerProcess.freePort()
        let server = try await RedisServer(
            ["--cluster-enabled", "yes", "--cluster-port", "\(bus)"] + arguments
        )
        let redis = try patientRedis(server.url)
        try await redis.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        try await eventually("the cluster stands") {
            try await redis.command("CLUSTER", "INFO").string?.contains("cluster_state:ok") == true
        }
        await redis.close()
        return server
    }

    /// The server that tests share which harm only their own keys.
    var url: String {
        get async throws {
            switch self {
            case .standalone: try await RedisServer.sharedURL()
            case .cluster: try await Self.sharedCluster.value.url
            }
        }
    }
}

/// A schedule with its own keys, and the eyes and hands of the test on them.
struct ScheduleFixture: Sendable {
    let schedule: Schedule
    let redis: Redis
    let namespace: String
    let queue = "q"

    /// Runs `body` with a schedule that stands, on `server` or the shared one of `mode`.
    static func with(
        _ mode: Mode = .standalone,
        on server: RedisServer? = nil,
        standing: Bool = true,
        _ body: (ScheduleFixture) async throws -> Void
    ) async throws {
        let url: String
        if let server { url = server.url } else { url = try await mode.url }
        let redis = try patientRedis(url)
        let namespace = "test-\(UUID().uuidString)"
        let fixture = ScheduleFixture(
            schedule: Schedule(redis, namespace: namespace),
            redis: redis,
            namespace: namespace
        )
        do {
            if standing { try await fixture.schedule.configure(queue: fixture.queue, [:]) }
            try await body(fixture)
        } catch {
            await redis.close()
            throw error
        }
        await redis.close()
    }

    func key(_ name: String) -> String { "\(namespace):{\(queue).0}:\(name)" }

    /// The names of the keys that are there.
    func keys() async throws -> Set<String> {
        let names = try await redis.command("KEYS", "\(namespace):*").array ?? []
        let prefix = key("").count
        return Set(names.compactMap { $0.string.map { String($0.dropFirst(prefix)) } })
    }

    func push(_ tickets: [Ticket]) async throws -> [Schedule.Pushed] {
        try await schedule.push(tickets, queue: queue)
    }

    func lease(_ limit: Int = 100, _ length: Duration = .seconds(30)) async throws -> [Lease] {
        try await schedule.lease(queue: queue, limit: limit, length: length).leases
    }

    func settle(_ leases: [Lease], _ settlement: Settlement = .done) async throws -> [Bool] {
        try await schedule.settle(leases.map { ($0.id, $0.token, settlement) }, queue: queue)
    }

    /// Ready, delayed, leased.
    func counts() async throws -> [Int] {
        let counts = try await schedule.counts(queue: queue)
        return [counts.ready, counts.delayed, counts.leased]
    }

    /// Moves the hands of the clock: a lease or a delayed job is due now.
    func makeDue(_ job: JobID, in set: String) async throws {
        try await redis.command("ZADD", RedisArgument(key(set)), "XX", 1, RedisArgument(job))
    }
}

extension Ticket {
    /// A ticket of a new job; the lane is the organization unless given.
    static func new(
        _ org: OrgID,
        lane: String? = nil,
        _ priority: Priority = .normal,
        generation: Int = 0,
        due: Timestamp? = nil
    ) -> Ticket {
        Ticket(
            id: JobID(),
            org: org,
            queue: "q",
            lane: lane ?? org.description,
            priority: priority,
            generation: generation,
            due: due
        )
    }

    /// The same job as it stands behind another fence.
    func fenced(_ generation: Int, due: Timestamp? = nil) -> Ticket {
        Ticket(
            id: id,
            org: org,
            queue: queue,
            lane: lane,
            priority: priority,
            generation: generation,
            due: due
        )
    }

    static func many(
        _ count: Int,
        _ org: OrgID,
        lane: String? = nil,
        _ priority: Priority = .normal
    ) -> [Ticket] {
        (0..<count).map { _ in new(org, lane: lane, priority) }
    }
}

/// Runs `body` with a pool on a migrated database of its own.
func withDatabase(_ body: (Database) async throws -> Void) async throws {
    let migrate: @Sendable (String) async throws -> Void = { url in
        let database = Database(Database.Configuration(url: url), logger: quiet)
        try await Migrator(database, logger: quiet).run()
        await database.close()
    }
    try await TestDatabase.with(template: Migrator.fingerprint, migrating: migrate) { made in
        let database = Database(Database.Configuration(url: made.url), logger: quiet)
        try await body(database)
        await database.close()
    }
}

/// Asks every 20 ms until it is so, for at most half a minute.
func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while ContinuousClock.now < deadline {
        if (try? await condition()) == true { return }
        // Nothing announces it; asking is the only way.
        try await Task.sleep(for: .milliseconds(20))
    }
    Issue.record("it never came true: \(what)")
}

/// A client to which a busy machine does not look like a Redis that hangs.
private func patientRedis(_ url: String) throws -> Redis {
    var configuration = try Redis.Configuration(url: url)
    configuration.commandTimeout = .seconds(20)
    configuration.connectTimeout = .seconds(20)
    return Redis(configuration, logger: quiet)
}
