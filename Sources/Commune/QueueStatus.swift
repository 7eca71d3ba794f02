// commune queues status: counts by queue, or by organization, once or again and again.

import ArgumentParser
import Database
import Foundation
import Platform
import Queue
import Store

struct QueueStatus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "How many jobs each queue has, by state.",
        discussion: """
            Example: commune queues status
            Example: commune queues status --by-org --watch
            """
    )

    @Flag(help: "One line for each queue and organization.")
    var byOrg = false

    @Flag(help: "Redraw every second until Ctrl-C.")
    var watch = false

    @Flag(help: "As JSON.")
    var json = false

    /// One line of the answer.
    private struct Depth: Encodable {
        let queue: String
        let org: String?
        let state: String
        let ready: Int
        let delayed: Int
        let running: Int
        let dead: Int
        let oldestSeconds: Int

        enum CodingKeys: String, CodingKey {
            case queue, org, state, ready, delayed, running, dead
            case oldestSeconds = "oldest_seconds"
        }
    }

    func run() async throws {
        try await Installation.open { installation in
            repeat {
                let depths = try await depths(installation.database)
                // Home and clear: the table stays in its place.
                if watch { print("\u{1b}[H\u{1b}[2J", terminator: "") }
                try show(depths)
                if watch { try await Task.sleep(for: .seconds(1)) }
            } while watch
        }
    }

    private func depths(_ database: Database) async throws -> [Depth] {
        let results = try await database.batch(.worker, [Jobs.depths(byOrg: byOrg), QueueControl.states])
        var states: [String: String] = [:]
        for row in results[1] { states[try row("queue")] = try row("state") as String }
        let found = try results[0].map { row in
            let queue: String = try row("queue")
            let oldest: Double = try row("oldest_seconds")
            return Depth(
                queue: queue,
                org: try row("org"),
                state: states[queue] ?? "running",
                ready: try row("ready"),
                delayed: try row("delayed"),
                running: try row("running"),
                dead: try row("dead"),
                oldestSeconds: Int(oldest)
            )
        }
        let idle = QueueName.all.filter { name in !found.contains { $0.queue == name } }.map { name in
            Depth(
                queue: name,
                org: nil,
                state: states[name] ?? "running",
                ready: 0,
                delayed: 0,
                running: 0,
                dead: 0,
                oldestSeconds: 0
            )
        }
        return found + idle
    }

    private func show(_ depths: [Depth]) throws {
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            print(String(decoding: try encoder.encode(depths), as: UTF8.self))
            return
        }
        print(Queues.line(["QUEUE", "STATE", "READY", "DELAYED", "RUNNING", "DEAD", "OLDEST"]))
        for depth in depths {
            let name = depth.org.map { "\(depth.queue) \($0)" } ?? depth.queue
            let numbers = [depth.ready, depth.delayed, depth.running, depth.dead].map { String($0) }
            print(Queues.line([name, depth.state] + numbers + ["\(depth.oldestSeconds) s"]))
        }
    }
}
