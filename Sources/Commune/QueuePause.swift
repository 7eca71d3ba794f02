// commune queues pause, resume, drain: holding a queue back, durably.

import ArgumentParser
import Database
import Foundation
import Platform
import Queue
import Store

/// Which part of a queue is meant.
struct QueueSelection: ParsableArguments {
    @Argument(help: "The queue.")
    var queue: String

    @Option(help: "Only this organization's jobs (its name).")
    var org: String?

    @Option(help: "Only this lane.")
    var lane: String?

    func validate() throws {
        try Queues.check(queue)
        guard org == nil || lane == nil else { throw ValidationError("Give --org or --lane, not both.") }
    }

    func scope(_ installation: Installation) async throws -> ControlScope {
        if let lane { return .lane(lane) }
        return try await installation.organization(named: org).map { .org($0) } ?? .queue
    }

    /// What is meant, in words.
    var name: String {
        if let lane { return "lane \(lane) of \(queue)" }
        return org.map { "\($0) in \(queue)" } ?? queue
    }
}

struct QueuePause: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Stops jobs from being taken; what runs goes on, what comes waits.",
        discussion: """
            It stays paused over restarts of everything, until resume.

            Example: commune queues pause send --org acme
            """
    )

    @OptionGroup var selection: QueueSelection

    func run() async throws {
        try await Installation.open { installation in
            try await installation.withControl { control, _ in
                try await control.set(
                    .paused,
                    selection.queue,
                    selection.scope(installation),
                    defaults: .of(selection.queue)
                )
            }
            print("Paused \(selection.name).")
        }
    }
}

struct QueueResume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Lets jobs be taken again after pause or drain.",
        discussion: "Example: commune queues resume send"
    )

    @OptionGroup var selection: QueueSelection

    func run() async throws {
        try await Installation.open { installation in
            try await installation.withControl { control, _ in
                try await control.set(
                    .running,
                    selection.queue,
                    selection.scope(installation),
                    defaults: .of(selection.queue)
                )
            }
            print("Resumed \(selection.name).")
        }
    }
}

struct QueueDrain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Takes no new jobs and, with --wait, waits until none runs.",
        discussion: """
            The API goes on accepting; what it accepts waits. A drained queue stays so over restarts of everything, until \
            resume. With --timeout the wait ends with status 1 when jobs still run.

            Example: commune queues drain send --wait --timeout 600
            """
    )

    @Argument(help: "The queue.")
    var queue: String

    @Flag(help: "Wait until no job runs, showing how many do.")
    var wait = false

    @Option(help: "Seconds to wait at most.")
    var timeout: Int?

    func validate() throws { try Queues.check(queue) }

    func run() async throws {
        try await Installation.open { installation in
            try await installation.withControl { control, schedule in
                try await control.set(.draining, queue, .queue, defaults: .of(queue))
                guard wait else {
                    print("Draining \(queue).")
                    return
                }
                let deadline = timeout.map { ContinuousClock.now + .seconds($0) }
                while true {
                    let (running, waiting) = try await counts(installation.database, schedule)
                    print("\(Timestamp.now.iso8601) \(queue): running \(running), waiting \(waiting)")
                    flush()
                    if running == 0 { break }
                    if let deadline, ContinuousClock.now >= deadline {
                        throw Failure(
                            "\(running) jobs of \(queue) still run after \(timeout ?? 0) s; it stays draining."
                        )
                    }
                    try await Task.sleep(for: .milliseconds(500))
                }
                print("Drained \(queue). Resume it with: commune queues resume \(queue)")
            }
        }
    }

    /// A job that is leased but not claimed yet is known to Redis alone; so the larger number is the true one.
    private func counts(
        _ database: Database,
        _ schedule: Schedule
    ) async throws -> (running: Int, waiting: Int) {
        let leased = (try? await schedule.counts(queue: queue).leased) ?? 0
        let rows = try await database.query(
            .worker,
            """
            SELECT count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'queued') AS waiting
            FROM jobs WHERE queue = \(queue) AND state IN ('running', 'queued')
            """
        )
        guard let row = rows.first else { return (leased, 0) }
        return (max(leased, try row("running")), try row("waiting"))
    }
}
