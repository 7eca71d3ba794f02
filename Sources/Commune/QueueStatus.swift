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
        abstract: "How many jobs each queue has, by state, and what holds any of them back.",
        discussion: """
            READY may run now, DELAYED waits for its time, PARKED are lanes and organizations that wait for their rate \
            (“-” while Redis is away), OLDEST is how long the oldest READY job has been due. Pauses and limits follow.

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

    func run() async throws {
        try await Installation.open { installation in
            try await installation.withControl { _, schedule in
                repeat {
                    let depths = try await QueueDepth.all(installation.database, schedule, byOrg: byOrg)
                    draw(json ? try QueueDepth.json(depths) : QueueDepth.table(depths))
                    if watch { try await Task.sleep(for: .seconds(1)) }
                } while watch
            }
        }
    }

    private func draw(_ lines: [String]) {
        if watch, isatty(STDOUT_FILENO) == 1 {
            // From the corner, each line and then the rest cleared behind it: nothing flickers.
            let text = lines.map { $0 + "\u{1b}[K\n" }.joined()
            print("\u{1b}[H" + text + "\u{1b}[J", terminator: "")
        } else {
            print(lines.joined(separator: "\n"))
        }
        flush()
    }
}
