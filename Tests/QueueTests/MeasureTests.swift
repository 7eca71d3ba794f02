import Database
import Foundation
import Logging
import Platform
import Queue
import Redis
import Store
import TestSupport
import Testing

private func redisTime(_ redis: Redis, _ what: String, per count: Int) async throws {
    let text = try await redis.command("INFO", "commandstats").string ?? ""
    let line = text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("cmdstat_evalsha:") } ?? ""
    let usec = line.firstMatch(of: /usec=(\d+)/).flatMap { Int($0.output.1) } ?? 0
    print("  redis \(what): \(Double(usec) / Double(count)) µs/job")
    try await redis.command("CONFIG", "RESETSTAT")
}

@Suite("Measure", .enabled(if: ProcessInfo.processInfo.environment["MEASURE_QUEUE"] != nil))
struct MeasureTests {
@Test func measure() async throws {
let server = try PostgresServer(settings: ["fsync = on", "synchronous_commit = on", "full_page_writes = on", "shared_buffers = 256MB"])
var configuration = Database.Configuration(url: server.url())
configuration.connectionsMax = 8
let database = Database(configuration, logger: quiet)
try await Migrator(database, logger: quiet).run()
let redisServer = try await RedisServer()
let redis = Redis(try Redis.Configuration(url: redisServer.url), logger: quiet)
let schedule = Schedule(redis)
try await schedule.configure(queue: "q", [:])

for orgCount in [100, 1000] {
    let total = orgCount == 1 ? 500 : 20_000
    let rounds = orgCount == 1 ? 40 : 1
    print("organizations \(orgCount), jobs \(total) x \(rounds)")
    var spent: [Duration] = []
    var pushing = Duration.zero, inserting = Duration.zero
    for _ in 0..<rounds {
        let orgs = (0..<orgCount).map { _ in OrgID() }
        let jobs = try (0..<total).map { try NewJob(org: orgs[$0 % orgCount], queue: "q", payload: ["n": $0]) }
        try await redis.command("CONFIG", "RESETSTAT")
        for start in stride(from: 0, to: total, by: 500) {
            let some = Array(jobs[start..<min(start + 500, total)])
            inserting += try await ContinuousClock().measure { _ = try await database.query(.worker, Jobs.insert(some)) }
            pushing += try await ContinuousClock().measure { _ = try await schedule.push(some.map(\.ticket), queue: "q") }
        }
        if rounds == 1 { try await redisTime(redis, "push", per: total) }
        if rounds == 1 {
            let used = try await redis.command("INFO", "memory").string ?? ""
            print("  " + (used.split(whereSeparator: \.isNewline).first { $0.hasPrefix("used_memory:") } ?? ""))
        }
        let time = try await ContinuousClock().measure {
            try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        var done = 0
                        while true {
                            let leases = try await schedule.lease(queue: "q", limit: 100, length: .seconds(30)).leases
                            if leases.isEmpty { return done }
                            let rows = try await database.query(.worker, Jobs.claim(leases, worker: WorkerID()))
                            let tokens = Dictionary(leases.map { ($0.id, $0.token) }, uniquingKeysWith: { a, _ in a })
                            let claimed = try rows.map(Jobs.claimed)
                            let ended = try await database.query(.worker, Jobs.finish(claimed.map { Ending($0, .succeeded) }))
                            try await schedule.settle(claimed.map { ($0.id, tokens[$0.id] ?? "", .done) }, queue: "q")
                            done += ended.count
                        }
                    }
                }
                var done = 0
                for try await some in group { done += some }
                if done != total { print("  only \(done)") }
            }
        }
        spent.append(time)
    }
    let all = spent.reduce(.zero, +)
    print("  insert \(Int(Double(total * rounds) / inserting.inSeconds))/s, push \(Int(Double(total * rounds) / pushing.inSeconds))/s")
    print("  claim+finish \(Int(Double(total * rounds) / all.inSeconds)) jobs/s")
    if rounds == 1 { try await redisTime(redis, "lease+settle", per: total) }
}
// Degraded mode: a backlog of one organization, and many.
for (orgCount, total) in [(1, 100_000), (1000, 20_000)] {
    try await database.query(.owner, "TRUNCATE jobs")
    let orgs = (0..<orgCount).map { _ in OrgID() }
    for start in stride(from: 0, to: total, by: 1000) {
        let some = try (start..<start + 1000).map { try NewJob(org: orgs[$0 % orgCount], queue: "q", payload: ["n": $0]) }
        try await database.query(.worker, Jobs.insert(some))
    }
    var claimed = 0
    let time = try await ContinuousClock().measure {
        for _ in 0..<50 {
            claimed += try await database.query(.worker, Jobs.claimWithoutSchedule(queue: "q", limit: 100, worker: WorkerID())).count
        }
    }
    print("without schedule, \(orgCount) orgs, \(total) jobs: \(claimed) in 50 calls, \(time / 50) a call")
    let feed = try await ContinuousClock().measure {
        for _ in 0..<10 {
            _ = try await database.query(.worker, Jobs.waiting(queue: "q", after: nil, lanes: 200, window: 501, horizon: .seconds(60)))
        }
    }
    print("  feeder's walk of 200 lanes: \(feed / 10)")
}
await redis.close()
await database.close()
}
}
