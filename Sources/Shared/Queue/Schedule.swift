// The queue's schedule in Redis: who is next, who waits, who is throttled. Nothing here is precious; whatever is lost
// comes back from PostgreSQL. The scripts beside this file hold the rules, their prelude names the keys.

import Foundation
package import Platform
package import Redis

/// The right to run one job until it expires.
package struct Lease: Sendable, Hashable {
    package let id: JobID
    package let org: OrgID
    package let lane: String
    /// The fence as the ticket had it; the claim adds one.
    package let generation: Int
    /// Compared by every script that ends or renews the lease.
    package let token: String
}

/// A lease whose holder did not renew it.
package struct ExpiredLease: Sendable {
    package let id: JobID
    package let org: OrgID
    package let generation: Int
    /// The reaper's own token, to settle with.
    package let token: String
}

/// What Redis is told at the end of an attempt.
package enum Settlement: Sendable {
    /// Finished, dead, or not to be run from here.
    case done
    /// Runs again at this time, with its new generation.
    case again(generation: Int, due: Timestamp?)
    /// Handed back as it was.
    case back(generation: Int)
}

/// The schedule of all queues on one Redis.
package struct Schedule: Sendable {
    /// Leases of a call to `lease`, and when to look again if nothing is announced before.
    package struct Leases: Sendable {
        package let leases: [Lease]
        /// Until the next delayed job or parked lane is due; nil when there is none.
        package let nextDue: Duration?
    }

    /// The schedule is not set up, as Redis was flushed or is new; or it is, and the caller has not registered what it runs.
    package struct NotStanding: Error {}

    private let redis: Redis
    private let namespace: String

    /// A schedule under a key prefix, `commune` unless tests share a server.
    package init(_ redis: Redis, namespace: String = "commune") {
        self.redis = redis
        self.namespace = namespace
    }

    /// The channels on which a queue says that there is work, and that a window runs low.
    package func channels(of queue: String) -> (wake: String, feed: String) {
        (prefix(queue) + "wake", prefix(queue) + "feed")
    }

    /// What became of a pushed ticket.
    package enum Pushed: Int, Sendable {
        /// It is in the schedule already.
        case known = 0
        case taken = 1
        /// Its window is full, or it is due too late: the feeder brings it.
        case refused = 2
    }

    /// Makes jobs of one queue known; those that did not fit are brought later by the feeder.
    @discardableResult
    package func push(_ tickets: [Ticket], queue: String) async throws -> [Pushed] {
        guard !tickets.isEmpty else { return [] }
        var arguments: [RedisArgument] = []
        arguments.reserveCapacity(tickets.count * 6)
        for ticket in tickets {
            arguments.append(RedisArgument(ticket.id.description))
            arguments.append(RedisArgument(ticket.org.description))
            arguments.append(RedisArgument(ticket.lane))
            arguments.append(RedisArgument(ticket.priority.rawValue))
            arguments.append(RedisArgument(ticket.generation))
            arguments.append(RedisArgument(milliseconds(ticket.due)))
        }
        return try await run(.push, queue, arguments).map { $0.int.flatMap(Pushed.init) ?? .refused }
    }

    /// Leases up to `limit` jobs for `length`; throws `NotStanding` also when the schedule was set up anew and `worker` has
    /// not registered what it runs.
    package func lease(
        queue: String,
        limit: Int,
        length: Duration,
        worker: WorkerID? = nil
    ) async throws -> Leases {
        let token = [UInt8].random(count: 12).base64URL
        let reply = try await run(
            .lease,
            queue,
            [
                RedisArgument(limit), RedisArgument(token), RedisArgument(Int(length.milliseconds)),
                RedisArgument(worker?.description ?? ""),
            ]
        )
        let wait = reply.first?.int ?? -1
        var leases: [Lease] = []
        for index in stride(from: 1, to: reply.count - 3, by: 4) {
            guard
                let id = reply[index].string.flatMap({ JobID($0) }),
                let org = reply[index + 1].string.flatMap({ OrgID($0) }),
                let lane = reply[index + 2].string,
                let generation = reply[index + 3].string.flatMap(Int.init)
            else { continue }
            leases.append(Lease(id: id, org: org, lane: lane, generation: generation, token: token))
        }
        return Leases(leases: leases, nextDue: wait < 0 ? nil : .milliseconds(wait))
    }

    /// Ends leases; false where a lease was no longer ours.
    @discardableResult
    package func settle(
        _ items: [(id: JobID, token: String, settlement: Settlement)],
        queue: String
    ) async throws -> [Bool] {
        guard !items.isEmpty else { return [] }
        var arguments: [RedisArgument] = []
        arguments.reserveCapacity(items.count * 5)
        for item in items {
            arguments.append(RedisArgument(item.id.description))
            arguments.append(RedisArgument(item.token))
            switch item.settlement {
            case .done: arguments += ["done", 0, 0]
            case .again(let generation, let due):
                arguments += ["again", RedisArgument(generation), RedisArgument(milliseconds(due))]
            case .back(let generation): arguments += ["back", RedisArgument(generation), 0]
            }
        }
        return try await run(.settle, queue, arguments).map { $0.int == 1 }
    }

    /// What became of a lease that was to be renewed.
    package enum Renewal: Int, Sendable {
        /// Somebody else has the job now.
        case lost = 0
        case kept = 1
        /// The schedule was lost and set up again: the holder registers what it runs with `adopt`.
        case unknown = 2
    }

    /// Renews leases for `length`.
    package func extend(
        _ leases: [(id: JobID, token: String)],
        queue: String,
        length: Duration
    ) async throws -> [Renewal] {
        guard !leases.isEmpty else { return [] }
        var arguments: [RedisArgument] = [RedisArgument(Int(length.milliseconds))]
        for lease in leases {
            arguments.append(RedisArgument(lease.id.description))
            arguments.append(RedisArgument(lease.token))
        }
        return try await run(.extend, queue, arguments).map { $0.int.flatMap(Renewal.init) ?? .lost }
    }

    /// How far Redis' clock may be from where a reaper expects it.
    package static let clockTolerance: Duration = .seconds(1)

    /// Takes over leases that expired; the caller has `length` to put their rows right and settle them.
    ///
    /// Returns Redis' time. Where that is not what the caller expects, within `clockTolerance`, nothing was taken.
    package func reap(
        queue: String,
        limit: Int,
        length: Duration,
        expecting expected: Timestamp? = nil
    ) async throws -> (now: Timestamp, [ExpiredLease]) {
        let token = "reaper-" + [UInt8].random(count: 12).base64URL
        let reply = try await run(
            .reap,
            queue,
            [
                RedisArgument(limit), RedisArgument(token), RedisArgument(Int(length.milliseconds)),
                RedisArgument(expected.map { String(milliseconds($0)) } ?? ""),
                RedisArgument(Int(Self.clockTolerance.milliseconds)),
            ]
        )
        let now = Timestamp(microseconds: Int64(reply.first?.int ?? 0) * 1000)
        var expired: [ExpiredLease] = []
        for index in stride(from: 1, to: reply.count - 2, by: 3) {
            guard
                let id = reply[index].string.flatMap({ JobID($0) }),
                let org = reply[index + 1].string.flatMap({ OrgID($0) }),
                let generation = reply[index + 2].string.flatMap(Int.init)
            else { continue }
            expired.append(ExpiredLease(id: id, org: org, generation: generation, token: token))
        }
        return (now, expired)
    }

    /// Registers running jobs after the schedule was lost; true where the lease is now under the given token.
    ///
    /// `worker` says that this worker runs nothing else, so that leasing need not wait for it any longer.
    @discardableResult
    package func adopt(
        _ running: [(job: ClaimedJob, token: String)],
        queue: String,
        length: Duration,
        all worker: WorkerID? = nil
    ) async throws -> [Bool] {
        guard !running.isEmpty || worker != nil else { return [] }
        var arguments: [RedisArgument] = [
            RedisArgument(Int(length.milliseconds)), RedisArgument(worker?.description ?? ""),
        ]
        for (job, token) in running {
            arguments.append(RedisArgument(job.id.description))
            arguments.append(RedisArgument(job.org.description))
            arguments.append(RedisArgument(job.lane))
            arguments.append(RedisArgument(job.priority.rawValue))
            // The ticket's generation: the reaper adds one, as the claim did.
            arguments.append(RedisArgument(job.generation - 1))
            arguments.append(RedisArgument(token))
        }
        return try await run(.adopt, queue, arguments).map { $0.int == 1 }
    }

    /// Takes out jobs that nobody runs; false where somebody does, or it is unknown.
    @discardableResult
    package func withdraw(_ jobs: [JobID], queue: String) async throws -> [Bool] {
        guard !jobs.isEmpty else { return [] }
        return try await run(.withdraw, queue, jobs.map { RedisArgument($0.description) }).map { $0.int == 1 }
    }

    /// How long nothing is leased after the schedule was set up, at most, for workers to register what they run.
    package static let awaitedAtMost: Duration = .seconds(5)

    /// Sets the schedule up, with pauses and limits as they are in PostgreSQL; returns its epoch.
    ///
    /// Where it did not stand, nothing is leased until the workers `awaited` have registered what they run.
    @discardableResult
    package func configure(
        queue: String,
        _ settings: [String: String],
        awaiting awaited: [WorkerID] = []
    ) async throws -> String {
        var arguments: [RedisArgument] = [
            RedisArgument(UUID().text),
            RedisArgument(Int(Self.awaitedAtMost.milliseconds)), RedisArgument(awaited.count),
        ]
        arguments += awaited.map { RedisArgument($0.description) }
        for (field, value) in settings.sorted(by: { $0.key < $1.key }) {
            arguments.append(RedisArgument(field))
            arguments.append(RedisArgument(value))
        }
        let reply = try await redis.run(.configure, keys: [prefix(queue)], arguments: arguments)
        return reply.string ?? ""
    }

    /// Exact counts, and lanes whose window ran low.
    package func counts(
        queue: String,
        hungry: Int = 0
    ) async throws -> (ready: Int, delayed: Int, leased: Int, hungry: [LaneCursor]) {
        let reply = try await run(.counts, queue, [RedisArgument(hungry)])
        guard reply.count >= 3 else { return (0, 0, 0, []) }
        let lanes = reply.dropFirst(3).compactMap { lane -> LaneCursor? in
            guard
                let parts = lane.string?.split(separator: " ", maxSplits: 1),
                parts.count == 2,
                let org = OrgID(parts[0])
            else { return nil }
            return LaneCursor(org: org, lane: String(parts[1]))
        }
        return (reply[0].int ?? 0, reply[1].int ?? 0, reply[2].int ?? 0, lanes)
    }

    /// A lane or an organization that its rate holds back.
    package struct Parked: Sendable {
        package let scope: ControlScope
        package let org: OrgID?
        /// Until it is asked again.
        package let wait: Duration
    }

    /// How many lanes and organizations are held back by a rate at the moment, and some of them, the next to return first.
    package func parked(queue: String, naming most: Int) async throws -> (count: Int, some: [Parked]) {
        let reply = try await run(.parked, queue, [RedisArgument(most)])
        let some = stride(from: 1, to: reply.count - 2, by: 3).compactMap { index -> Parked? in
            guard let held = reply[index].string, let wait = reply[index + 2].int else { return nil }
            let org = reply[index + 1].string.flatMap { OrgID($0) }
            let isLane = held.hasPrefix("l:")
            guard let scope = isLane ? ControlScope.lane(String(held.dropFirst(2))) : org.map({ .org($0) })
            else {
                return nil
            }
            return Parked(scope: scope, org: org, wait: .milliseconds(wait))
        }
        return (reply.first?.int ?? 0, some)
    }

    @discardableResult
    private func run(_ script: Script, _ queue: String, _ arguments: [RedisArgument]) async throws -> [RESP] {
        do {
            return try await redis.run(script, keys: [prefix(queue)], arguments: arguments).array ?? []
        } catch {
            // A script that had to be loaded first has its name in front.
            if case .server(let message) = error,
                message.contains("NOEPOCH") || message.contains("UNREGISTERED")
            {
                throw NotStanding()
            }
            throw error
        }
    }

    private func prefix(_ queue: String) -> String { "\(namespace):{\(queue).0}:" }

    private func milliseconds(_ time: Timestamp?) -> Int { time.map { Int($0.microseconds / 1000) } ?? 0 }
}

extension Script {
    fileprivate static let push = scheduleScript("push", PackageResources.push_lua)
    fileprivate static let lease = scheduleScript("lease", PackageResources.lease_lua)
    fileprivate static let settle = scheduleScript("settle", PackageResources.settle_lua)
    fileprivate static let extend = scheduleScript("extend", PackageResources.extend_lua)
    fileprivate static let reap = scheduleScript("reap", PackageResources.reap_lua)
    fileprivate static let adopt = scheduleScript("adopt", PackageResources.adopt_lua)
    fileprivate static let withdraw = scheduleScript("withdraw", PackageResources.withdraw_lua)
    fileprivate static let configure = scheduleScript("configure", PackageResources.configure_lua)
    fileprivate static let parked = scheduleScript("parked", PackageResources.parked_lua)
    fileprivate static let counts = scheduleScript("counts", PackageResources.counts_lua)

    private static func scheduleScript(_ name: String, _ source: [UInt8]) -> Script {
        Script(name: name, source: PackageResources.prelude_lua + source)
    }
}
