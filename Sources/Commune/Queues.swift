// commune queues: what waits, what runs, what died.

import ArgumentParser
import Database
import Queue
import Store

struct Queues: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The job queues.",
        discussion: "Example: commune queues status",
        subcommands: [Status.self]
    )

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "How many jobs each queue has, by state.",
            discussion: "Example: commune queues status"
        )

        func run() async throws {
            try await Installation.open { installation in
                let rows = try await installation.database.query(.worker, Jobs.depths)
                print(Self.line("QUEUE", "READY", "DELAYED", "RUNNING", "DEAD", "OLDEST"))
                var known = Set<String>()
                for row in rows {
                    let queue: String = try row("queue")
                    known.insert(queue)
                    let oldest: Double = try row("oldest_seconds")
                    print(
                        Self.line(
                            queue,
                            "\(try row("ready") as Int)",
                            "\(try row("delayed") as Int)",
                            "\(try row("running") as Int)",
                            "\(try row("dead") as Int)",
                            "\(Int(oldest)) s"
                        )
                    )
                }
                for queue in QueueName.all where !known.contains(queue) {
                    print(Self.line(queue, "0", "0", "0", "0", "0 s"))
                }
            }
        }

        private static func line(_ columns: String...) -> String {
            columns.enumerated().map { index, text in
                let width = index == 0 ? 20 : 9
                let padding = String(repeating: " ", count: max(0, width - text.count))
                return index == 0 ? text + padding : padding + text
            }.joined(separator: " ")
        }
    }
}
