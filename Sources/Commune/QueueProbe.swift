// commune queues probe: empty jobs through PostgreSQL, Redis and a worker, and what they took.

import ArgumentParser
import Database
import Foundation
import Platform
import Queue
import Store

struct QueueProbe: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "probe",
        abstract: "Runs jobs that do nothing through the queue, and says how fast.",
        discussion: """
            It checks an installation from end to end and measures it: rows in PostgreSQL, the schedule in Redis, and a \
            worker that serves the queue “probe” besides its own, because it was told to: commune-worker --queues \
            send,probe. The jobs are removed afterwards.

            With --one-at-a-time each job is inserted when the one before has ended, and the time from its commit to the \
            start of its attempt is told; the clocks of this machine and the worker's must agree.

            Example: commune queues probe --jobs 1000
            Example: commune queues probe --one-at-a-time --jobs 100
            """
    )

    @Option(help: "How many jobs.")
    var jobs = 1000

    @Option(help: "Among how many organizations, all made up, they are spread.")
    var orgs = 10

    @Flag(help: "Insert all before the first is taken, so that only the running is measured.")
    var held = false

    @Flag(help: "One after the other, each when the queue is idle.")
    var oneAtATime = false

    @Option(help: "Seconds to wait at most.")
    var timeout = 60

    @Flag(help: "As JSON.")
    var json = false

    func validate() throws {
        guard (1...10_000_000).contains(jobs) else {
            throw ValidationError("--jobs must be from 1 to 10000000.")
        }
        guard (1...10_000).contains(orgs) else { throw ValidationError("--orgs must be from 1 to 10000.") }
        guard (1...86_400).contains(timeout) else {
            throw ValidationError("--timeout must be from 1 to 86400.")
        }
        guard !(held && oneAtATime) else {
            throw ValidationError("Give --held or --one-at-a-time, not both.")
        }
    }

    func run() async throws {
        try await Installation.open { installation in
            let database = installation.database
            guard try await !database.query(.worker, ProbeJobs.workers(of: QueueName.probe)).isEmpty else {
                throw Failure("No worker serves the queue “probe”. Start one: commune-worker --queues probe")
            }
            let load = ProbeLoad(
                database: database,
                orgs: (0..<orgs).map { _ in OrgID() },
                deadline: .now + .seconds(timeout)
            )
            try await installation.withControl { control, schedule in
                do {
                    if oneAtATime {
                        try show(try await load.oneAtATime(jobs, schedule))
                    } else {
                        try show(try await load.burst(jobs, schedule, holding: held ? control : nil))
                    }
                } catch {
                    try? await load.remove()
                    throw error
                }
                try await load.remove()
            }
        }
    }

    private func show(_ rate: ProbeRate) throws {
        if json { return try print(Self.text(rate)) }
        let seconds = String(format: "%.3f", rate.seconds)
        print(
            "\(rate.jobs) jobs, \(Int(rate.perSecond)) a second: \(seconds) s from the first start to the last end."
        )
    }

    private func show(_ pickup: ProbePickup) throws {
        if json { return try print(Self.text(pickup)) }
        print("\(pickup.jobs) jobs, from commit to start:")
        for (name, value) in [
            ("p50", pickup.p50), ("p90", pickup.p90), ("p99", pickup.p99), ("max", pickup.max),
        ] {
            print("  \(name) \(String(format: "%8.2f", value)) ms")
        }
    }

    private static func text(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}

/// How fast a burst ran.
struct ProbeRate: Encodable {
    let jobs: Int
    let seconds: Double
    let perSecond: Double

    enum CodingKeys: String, CodingKey {
        case jobs, seconds
        case perSecond = "per_second"
    }
}

/// Milliseconds from a job's commit to the start of its attempt, over all jobs.
struct ProbePickup: Encodable {
    let jobs: Int
    let p50, p90, p99, max: Double

    init(_ waits: [Duration]) {
        let sorted = waits.map { $0.inSeconds * 1000 }.sorted()
        // The nearest rank: p99 of 500 is the 495th.
        func percentile(_ share: Double) -> Double {
            sorted.isEmpty ? 0 : sorted[Swift.max(0, Int((share * Double(sorted.count)).rounded(.up)) - 1)]
        }
        jobs = sorted.count
        (p50, p90, p99, max) = (percentile(0.5), percentile(0.9), percentile(0.99), percentile(1))
    }
}
