// commune queues dead: jobs that no further try can help, until an operator has looked.

import ArgumentParser
import Database
import Platform
import Queue
import Store

struct DeadLetters: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead",
        abstract: "Dead letters: list, show, replay, drop.",
        discussion: "Example: commune queues dead list send",
        subcommands: [List.self, Show.self, Replay.self, Drop.self]
    )

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The newest dead letters of a queue.",
            discussion: "Example: commune queues dead list send --limit 20"
        )

        @Argument(help: "The queue.")
        var queue: String

        @Option(help: "How many at most.")
        var limit = 100

        func validate() throws {
            try Queues.check(queue)
            guard (1...10_000).contains(limit) else {
                throw ValidationError("--limit must be from 1 to 10000.")
            }
        }

        func run() async throws {
            try await Installation.open { installation in
                let rows = try await installation.database.query(
                    .worker,
                    Jobs.dead(queue: queue, limit: limit)
                )
                for row in rows {
                    let (id, org): (JobID, OrgID) = (try row("id"), try row("org_id"))
                    let died: Timestamp = try row("finished_at")
                    let error: String? = try row("last_error")
                    print("\(id)  \(died.iso8601)  org \(org)  \(error ?? "")")
                }
                if rows.isEmpty { print("No dead letters in \(queue).") }
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "One dead letter, with its payload and its last error.",
            discussion: "Example: commune queues dead show 01980a3c-0000-7000-8000-000000000000"
        )

        @Argument(help: "The job's id.")
        var id: String

        func run() async throws {
            guard let job = JobID(id) else { throw ValidationError("\(id) is not a job's id.") }
            try await Installation.open { installation in
                guard let row = try await installation.database.query(.worker, Jobs.dead(job)).first else {
                    throw Failure("There is no dead letter \(id).")
                }
                let (created, died): (Timestamp, Timestamp) = (try row("created_at"), try row("finished_at"))
                print(
                    """
                    id        \(id)
                    queue     \(try row("queue") as String)
                    org       \(try row("org_id") as OrgID)
                    lane      \(try row("lane") as String)
                    made      \(created.iso8601)
                    died      \(died.iso8601)
                    attempts  \(try row("attempt") as Int) of \(try row("max_attempts") as Int)
                    crashes   \(try row("crash_count") as Int)
                    error     \(try row("last_error") as String? ?? "")
                    payload   \(try row("payload") as String)
                    """
                )
            }
        }
    }

    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lets dead letters run again: one, or all of a queue, behind fresh jobs.",
            discussion: """
                Example: commune queues dead replay send --id 01980a3c-0000-7000-8000-000000000000
                Example: commune queues dead replay send --all
                Example: commune queues dead replay send --all --org acme
                """
        )

        @OptionGroup var selection: DeadSelection

        func run() async throws {
            try await Installation.open { installation in
                let count = try await installation.store().replayDead(selection.filter(installation)) {
                    selection.show("Replaying", $0)
                }
                guard selection.all || count > 0 else { throw Failure(selection.missing) }
                print("Replaying \(count); the feeder brings them within seconds.")
            }
        }
    }

    struct Drop: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Deletes dead letters: one, or all of a queue.",
            discussion: "Example: commune queues dead drop send --all"
        )

        @OptionGroup var selection: DeadSelection

        func run() async throws {
            try await Installation.open { installation in
                let count = try await installation.store().dropDead(selection.filter(installation)) {
                    selection.show("Dropped", $0)
                }
                guard selection.all || count > 0 else { throw Failure(selection.missing) }
                print("Dropped \(count).")
            }
        }
    }
}

/// One dead letter of a queue, or all.
struct DeadSelection: ParsableArguments {
    @Argument(help: "The queue.")
    var queue: String

    @Option(help: "One job's id.")
    var id: String?

    @Flag(help: "All dead letters of the queue, a thousand at a time.")
    var all = false

    @Option(help: "With --all: only this organization's (its name).")
    var org: String?

    func filter(_ installation: Installation) async throws -> DeadLetterFilter {
        DeadLetterFilter(
            queue: queue,
            id: id.flatMap { JobID($0) },
            org: try await installation.organization(named: org)
        )
    }

    /// How far it is, where there is more than one batch.
    func show(_ what: String, _ count: Int) {
        guard all else { return }
        print("\(Timestamp.now.iso8601) \(what) \(count) so far.")
        flush()
    }

    var missing: String { "\(queue) has no dead letter \(id ?? "")." }

    func validate() throws {
        try Queues.check(queue)
        guard (id == nil) == all else { throw ValidationError("Give --id or --all.") }
        guard org == nil || all else { throw ValidationError("--org goes with --all.") }
        if let id, JobID(id) == nil { throw ValidationError("\(id) is not a job's id.") }
    }
}
