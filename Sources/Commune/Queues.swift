// commune queues: what waits, what runs, what died; and how to hold a queue back.

import ArgumentParser
import Platform
import Queue
import Redis
import Store

struct Queues: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The job queues.",
        discussion: "Example: commune queues status",
        subcommands: [
            QueueStatus.self, QueuePause.self, QueueResume.self, QueueDrain.self, QueueLimit.self,
            QueueCancel.self, DeadLetters.self, QueueProbe.self,
        ]
    )

    /// A queue's name, checked.
    static func check(_ name: String) throws {
        guard QueueName.all.contains(name) else {
            throw ValidationError(
                "Unknown queue \(name). Queues are: \(QueueName.all.joined(separator: ", "))."
            )
        }
    }

    /// Columns of text, the first to the left, the others to the right.
    static func line(_ columns: [String]) -> String {
        columns.enumerated().map { index, text in
            let padding = String(repeating: " ", count: max(0, (index == 0 ? 36 : 9) - text.count))
            return index == 0 ? text + padding : padding + text
        }.joined(separator: " ")
    }
}

extension Installation {
    /// The queues' control; closes its Redis client after `body`.
    func withControl<Value>(_ body: (QueueControl, Schedule) async throws -> Value) async throws -> Value {
        var settings = Settings()
        let configuration = Redis.Configuration(reading: &settings)
        settings.exitOnFaults()
        guard let configuration else { preconditionFailure("a missing URL is a fault") }
        let redis = Redis(configuration, logger: logger)
        let schedule = Schedule(redis)
        do {
            let value = try await body(QueueControl(database, schedule), schedule)
            await redis.close()
            return value
        } catch {
            await redis.close()
            throw error
        }
    }
}
