// What the schedule ought to hold, kept beside it by a test that does random things to both.

import Platform
import Redis
import TestSupport
import Testing

@testable import Queue

/// The rows as PostgreSQL would have them, what Redis should know of them, and the steps that change both.
struct ScheduleModel {
    enum RowState { case queued, running, ended }

    struct Row {
        let ticket: Ticket
        /// In the order of their making, so that the same seed takes the same steps.
        let number: Int
        var state = RowState.queued
        var generation = 0
        var due: Timestamp?

        /// As the feeder would push it.
        var current: Ticket { ticket.fenced(generation, due: due) }
    }

    enum Place: Equatable {
        case ready, delayed
        case leased(token: String, isExpired: Bool)
    }

    struct Violation: Error, CustomStringConvertible {
        let description: String
    }

    /// None expires but by the test's hand.
    static let leaseLength: Duration = .seconds(3600)

    let fixture: ScheduleFixture
    var generator: SeededGenerator
    var rows: [JobID: Row] = [:]
    var known: [JobID: Place] = [:]
    var rules: [String: String] = [:]
    /// Tokens that stopped working.
    var oldTokens: [(id: JobID, token: String)] = []
    var ended = 0

    let orgs = (0..<6).map { _ in OrgID() }
    /// The lanes of every organization; "" is the organization itself.
    let lanes = ["", "a", "b"]

    init(_ fixture: ScheduleFixture, seed: UInt64) {
        self.fixture = fixture
        generator = SeededGenerator(seed: seed)
    }

    func all(_ wanted: (Place) -> Bool) -> [JobID] {
        known.filter { wanted($0.value) }.keys.sorted { rows[$0]?.number ?? 0 < rows[$1]?.number ?? 0 }
    }

    mutating func some(_ ids: [JobID], atMost: Int) -> [JobID] {
        Array(ids.shuffled(using: &generator).prefix(Int.random(in: 1...atMost, using: &generator)))
    }

    func require(_ condition: Bool, _ what: @autoclosure () -> String) throws {
        if !condition { throw Violation(description: what()) }
    }

    /// Does one thing of many.
    mutating func step() async throws {
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<22: try await insert()
        case 22..<45: try await lease()
        case 45..<70: try await settle()
        case 70..<75: try await settleLate()
        case 75..<79: try await extend()
        case 79..<83: try await expire()
        case 83..<88: try await reap()
        case 88..<91: try await withdraw()
        case 91..<94: try await makeDue()
        case 94..<96: try await configure()
        case 96..<98: try await feed()
        case 98: try await loseLease()
        default: if Int.random(in: 0..<10, using: &generator) == 0 { try await flush() }
        }
    }
}

// MARK: Steps

extension ScheduleModel {
    private mutating func insert() async throws {
        let org = orgs[min(orgs.count - 1, Int.random(in: 0..<12, using: &generator) / 2)]
        // Now and then a flood, so that windows fill.
        let count =
            Int.random(in: 0..<60, using: &generator) == 0 ? 600 : Int.random(in: 1...8, using: &generator)
        var tickets: [Ticket] = []
        for _ in 0..<count {
            let lane = lanes[count > 8 ? 0 : Int.random(in: 0..<lanes.count, using: &generator)]
            let due: Timestamp? =
                switch Int.random(in: 0..<10, using: &generator) {
                case 0: .now + .seconds(58)
                case 1: .now + .seconds(600)
                default: nil
                }
            let priority = Priority(rawValue: Int.random(in: 0...2, using: &generator)) ?? .normal
            let name = lane.isEmpty ? org.description : "\(org)-\(lane)"
            let ticket = Ticket.new(org, lane: name, count > 8 ? .last : priority, due: count > 8 ? nil : due)
            rows[ticket.id] = Row(ticket: ticket, number: rows.count, due: ticket.due)
            tickets.append(ticket)
        }
        try await push(tickets)
    }

    mutating func push(_ tickets: [Ticket]) async throws {
        let results = try await fixture.push(tickets)
        var windows: [String: Int] = [:]
        for ticket in known.keys.compactMap({ rows[$0]?.ticket }) {
            windows["\(ticket.lane) \(ticket.priority)", default: 0] += 1
        }
        for (ticket, result) in zip(tickets, results) {
            switch result {
            case .known: try require(known[ticket.id] != nil, "\(ticket.id) was said to be known")
            case .taken:
                try require(known[ticket.id] == nil, "\(ticket.id) was taken twice")
                known[ticket.id] = (ticket.due ?? .now) > .now ? .delayed : .ready
                windows["\(ticket.lane) \(ticket.priority)", default: 0] += 1
            case .refused:
                try require(known[ticket.id] == nil, "\(ticket.id) was refused and known")
                let inLane = windows["\(ticket.lane) \(ticket.priority)"] ?? 0
                let isFar = ticket.due.map { $0 > .now + .seconds(50) } ?? false
                try require(isFar || inLane >= 50, "\(ticket.id) was refused by a window of \(inLane)")
            }
        }
    }

    /// The feeder's sweep over all that wait.
    mutating func feed() async throws {
        let waiting = rows.values.filter { $0.state == .queued && ($0.due ?? .now) < .now + .seconds(59) }
            .sorted { $0.number < $1.number }.map(\.current)
        for start in stride(from: 0, to: waiting.count, by: 500) {
            try await push(Array(waiting[start..<min(start + 500, waiting.count)]))
        }
    }

    @discardableResult
    mutating func lease(_ limit: Int? = nil) async throws -> Int {
        let leases = try await fixture.lease(
            limit ?? Int.random(in: 1...20, using: &generator),
            Self.leaseLength
        )
        var stale: [Lease] = []
        for lease in leases {
            let place = known[lease.id]
            try require(
                place == .ready || place == .delayed,
                "\(lease.id) was leased from \(String(describing: place))"
            )
            known[lease.id] = .leased(token: lease.token, isExpired: false)
            guard let row = rows[lease.id] else { throw Violation(description: "an unknown job was leased") }
            let org = row.ticket.org
            try require(lease.org == org && lease.lane == row.ticket.lane, "\(lease.id) changed hands")
            let isPaused = ["pause", "pause:o:\(org)", "pause:l:\(lease.lane)"].contains { rules[$0] != nil }
            try require(!isPaused, "\(lease.id) was leased while paused")
            if row.state == .queued {
                // A fence behind the row's would leave a crash to the sweep.
                try require(lease.generation == row.generation, "\(lease.id) has fence \(lease.generation)")
                rows[lease.id]?.state = .running
                rows[lease.id]?.generation += 1
            } else {
                stale.append(lease)
            }
        }
        try checkCaps(of: leases)
        for id in stale.map(\.id) { known[id] = nil }
        try require(try await fixture.settle(stale).allSatisfy { $0 }, "a fresh lease was refused")
        return leases.count
    }

    private func checkCaps(of leases: [Lease]) throws {
        let running = known.compactMap { id, place -> Ticket? in
            if case .leased = place { rows[id]?.ticket } else { nil }
        }
        for lease in leases {
            if let cap = rules["cap:o:\(lease.org)"].flatMap({ Int($0) }) {
                try require(
                    running.count { $0.org == lease.org } <= cap,
                    "the cap of \(lease.org) was exceeded"
                )
            }
            if let cap = rules["cap:l:\(lease.lane)"].flatMap({ Int($0) }) {
                try require(
                    running.count { $0.lane == lease.lane } <= cap,
                    "the cap of \(lease.lane) was exceeded"
                )
            }
        }
    }

    /// Ends an attempt in the row and returns what Redis is told.
    private mutating func end(_ id: JobID, _ kind: Int) -> Settlement {
        guard rows[id]?.state == .running, let generation = rows[id]?.generation else { return .done }
        switch kind {
        case 0..<6:
            rows[id]?.state = .ended
            ended += 1
            return .done
        case 6: rows[id]?.due = nil
        case 7: rows[id]?.due = .now + .seconds(58)
        case 8: rows[id]?.due = .now + .seconds(3600)
        default:
            rows[id]?.state = .queued
            rows[id]?.due = nil
            return .back(generation: generation)
        }
        rows[id]?.state = .queued
        return .again(generation: generation, due: rows[id]?.due)
    }

    mutating func settle(all: Bool = false) async throws {
        let leased = self.leased()
        guard !leased.isEmpty else { return }
        let ids = all ? leased : some(leased, atMost: 20)
        var items: [(id: JobID, token: String, settlement: Settlement)] = []
        for id in ids {
            guard case .leased(let token, _)? = known[id] else { continue }
            let settlement = end(id, all ? 0 : Int.random(in: 0..<10, using: &generator))
            items.append((id, token, settlement))
            oldTokens.append((id, token))
            switch settlement {
            case .done: known[id] = nil
            case .back: known[id] = .ready
            case .again(_, let due):
                let wait = due.map { $0 - .now } ?? .zero
                known[id] = wait > .seconds(60) ? nil : wait > .zero ? .delayed : .ready
            }
        }
        let settled = try await fixture.schedule.settle(items, queue: fixture.queue)
        try require(settled.allSatisfy { $0 }, "a rightful settlement was refused")
    }

    func leased() -> [JobID] {
        all { if case .leased = $0 { true } else { false } }
    }

    private mutating func settleLate() async throws {
        guard !oldTokens.isEmpty else { return }
        let late = (0..<5).compactMap { _ in oldTokens.randomElement(using: &generator) }
        let settled = try await fixture.schedule.settle(
            late.map { ($0.id, $0.token, .done) },
            queue: fixture.queue
        )
        try require(!settled.contains(true), "an old token settled")
        let kept = try await fixture.schedule.extend(late, queue: fixture.queue, length: Self.leaseLength)
        try require(!kept.contains(.kept), "an old token renewed")
    }

    private mutating func extend() async throws {
        let leased = self.leased()
        guard !leased.isEmpty else { return }
        let ids = some(leased, atMost: 20)
        var items: [(id: JobID, token: String)] = []
        for id in ids {
            guard case .leased(let token, _)? = known[id] else { continue }
            items.append((id, token))
            known[id] = .leased(token: token, isExpired: false)
        }
        let kept = try await fixture.schedule.extend(items, queue: fixture.queue, length: Self.leaseLength)
        try require(kept.allSatisfy { $0 == .kept }, "a rightful renewal was refused")
    }

    mutating func expire(all: Bool = false) async throws {
        let leased = self.leased()
        guard !leased.isEmpty else { return }
        for id in all ? leased : some(leased, atMost: 10) {
            guard case .leased(let token, _)? = known[id] else { continue }
            try await fixture.makeDue(id, in: "lease")
            known[id] = .leased(token: token, isExpired: true)
        }
    }

    mutating func reap() async throws {
        let expired = try await fixture.schedule.reap(
            queue: fixture.queue,
            limit: 8,
            length: Self.leaseLength
        ).1
        let expected = known.values.count { if case .leased(_, true) = $0 { true } else { false } }
        try require(
            expired.count == min(8, expected),
            "\(expired.count) of \(expected) expired leases were reaped"
        )
        var items: [(id: JobID, token: String, settlement: Settlement)] = []
        for lease in expired {
            guard case .leased(let old, true)? = known[lease.id] else {
                throw Violation(description: "\(lease.id) was reaped and had not expired")
            }
            oldTokens.append((lease.id, old))
            known[lease.id] = .leased(token: lease.token, isExpired: false)
            // Some reapers die half-way.
            if Int.random(in: 0..<5, using: &generator) == 0 { continue }
            if rows[lease.id]?.state == .running, rows[lease.id]?.generation == lease.generation + 1 {
                rows[lease.id]?.state = .queued
                rows[lease.id]?.generation += 1
                rows[lease.id]?.due = nil
            }
            oldTokens.append((lease.id, lease.token))
            guard let row = rows[lease.id], row.state == .queued else {
                items.append((lease.id, lease.token, .done))
                known[lease.id] = nil
                continue
            }
            items.append((lease.id, lease.token, .again(generation: row.generation, due: nil)))
            known[lease.id] = .ready
        }
        let settled = try await fixture.schedule.settle(items, queue: fixture.queue)
        try require(settled.allSatisfy { $0 }, "a reaper's settlement was refused")
    }

    private mutating func withdraw() async throws {
        guard !known.isEmpty else { return }
        let ids = some(all { _ in true }, atMost: 5)
        let gone = try await fixture.schedule.withdraw(ids, queue: fixture.queue)
        for (id, isGone) in zip(ids, gone) {
            if case .leased? = known[id] {
                try require(!isGone, "a leased job was withdrawn")
            } else {
                try require(isGone, "a waiting job was not withdrawn")
                known[id] = nil
                // Cancelled for good, or, the other times, brought again by the feeder.
                if Bool.random(using: &generator) {
                    rows[id]?.state = .ended
                    ended += 1
                }
            }
        }
    }

    mutating func makeDue(all: Bool = false) async throws {
        let delayed = self.all { $0 == .delayed }
        guard !delayed.isEmpty else { return }
        for id in all ? delayed : some(delayed, atMost: 20) {
            try await fixture.makeDue(id, in: "delayed")
            rows[id]?.due = nil
        }
    }

    private mutating func configure() async throws {
        rules = [:]
        for org in orgs {
            let lane = "\(org)-a"
            switch Int.random(in: 0..<12, using: &generator) {
            case 0: rules["pause:o:\(org)"] = "1"
            case 1: rules["pause:l:\(lane)"] = "1"
            case 2: rules["cap:o:\(org)"] = String(Int.random(in: 0...4, using: &generator))
            case 3: rules["cap:l:\(lane)"] = String(Int.random(in: 0...3, using: &generator))
            case 4: rules["rate:o:\(org)"] = ["0", "0.5", "40", "2000"].randomElement(using: &generator)
            case 5: rules["rate:l:\(lane)"] = ["0", "0.5", "40", "2000"].randomElement(using: &generator)
            case 6: rules["weight:o:\(org)"] = String(Int.random(in: 1...5, using: &generator))
            default: break
            }
        }
        if Int.random(in: 0..<15, using: &generator) == 0 { rules["pause"] = "1" }
        try await fixture.schedule.configure(queue: fixture.queue, rules)
    }

    /// A lease vanishes by somebody's hand: its holder's heartbeat, or the feeder after the sweep, puts it right.
    private mutating func loseLease() async throws {
        guard
            let id = leased().randomElement(using: &generator), case .leased(let token, _)? = known[id],
            let row = rows[id]
        else { return }
        try await fixture.redis.command("ZREM", RedisArgument(fixture.key("lease")), RedisArgument(id))
        if Bool.random(using: &generator) || row.state != .running {
            let kept = try await fixture.schedule.extend(
                [(id, token)],
                queue: fixture.queue,
                length: Self.leaseLength
            )
            try require(kept == [.kept], "a heartbeat did not mend the lease")
            known[id] = .leased(token: token, isExpired: false)
        } else {
            rows[id]?.state = .queued
            rows[id]?.generation += 1
            rows[id]?.due = nil
            oldTokens.append((id, token))
            guard let ticket = rows[id]?.current else { return }
            try require(try await fixture.push([ticket]) == [.taken], "a push did not mend the lease")
            known[id] = .ready
        }
    }

    private mutating func flush() async throws {
        try await fixture.redis.command("FLUSHALL")
        do {
            _ = try await fixture.lease()
            throw Violation(description: "a flushed schedule leased")
        } catch is Schedule.NotStanding {}
        for (id, place) in known {
            if case .leased(let token, _) = place { oldTokens.append((id, token)) }
        }
        known = [:]
        oldTokens = oldTokens.suffix(200)
        try await fixture.schedule.configure(queue: fixture.queue, rules)
        var adopted: [(job: ClaimedJob, token: String)] = []
        for (id, row) in rows where row.state == .running {
            let job = ClaimedJob.running(
                id,
                row.ticket.org,
                lane: row.ticket.lane,
                row.ticket.priority,
                generation: row.generation
            )
            adopted.append((job, "adopted \(id) \(row.generation) \(ended)"))
        }
        try await fixture.schedule.adopt(adopted, queue: fixture.queue, length: Self.leaseLength)
        for (job, token) in adopted { known[job.id] = .leased(token: token, isExpired: false) }
        try await feed()
    }
}
