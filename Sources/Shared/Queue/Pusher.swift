// After the commit: tells the schedule about new jobs, many at a time.
//
// The push is best effort. A caller hands its tickets over and goes on; what is lost with this process, or with Redis,
// was committed in PostgreSQL and is brought by the feeder.

package import Logging
import Platform
import ServiceLifecycle
import Synchronization

/// Collects tickets and pushes them in batches.
package final class Pusher: Service {
    /// Tickets that may wait here; more are left to the feeder.
    package static let waitingMax = 10_000
    private static let batchMax = 200

    private let schedule: Schedule
    private let logger: Logger
    private let waiting = Mutex<[Ticket]>([])
    // One element is enough: it says "look", and the look takes everything.
    private let signal = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))

    /// A pusher for one schedule.
    package init(_ schedule: Schedule, logger: Logger) {
        self.schedule = schedule
        self.logger = logger
    }

    /// Hands over tickets of committed jobs.
    package func push(_ tickets: [Ticket]) {
        guard !tickets.isEmpty else { return }
        waiting.withLock { waiting in
            waiting.append(contentsOf: tickets.prefix(Self.waitingMax - waiting.count))
        }
        signal.continuation.yield()
    }

    /// Pushes until graceful shutdown, and then what is left.
    package func run() async throws {
        await withGracefulShutdownHandler {
            for await _ in signal.stream { await pushWaiting() }
            await pushWaiting()
        } onGracefulShutdown: {
            self.signal.continuation.finish()
        }
    }

    private func pushWaiting() async {
        let tickets = waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        for (queue, ofQueue) in Dictionary(grouping: tickets, by: \.queue) {
            for start in stride(from: 0, to: ofQueue.count, by: Self.batchMax) {
                let batch = Array(ofQueue[start..<min(start + Self.batchMax, ofQueue.count)])
                do {
                    try await schedule.push(batch, queue: queue)
                } catch {
                    // Redis tells its own absence once; a schedule that does not stand is set up by a worker.
                    logger.debug(
                        "Jobs were committed but not pushed; the feeder brings them.",
                        metadata: ["queue": "\(queue)", "jobs": "\(batch.count)", "error": "\(error)"]
                    )
                }
            }
        }
    }
}
