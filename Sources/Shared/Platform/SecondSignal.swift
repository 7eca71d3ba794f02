// The first SIGTERM or SIGINT asks a program to end well; whoever sends a second one does not want to wait for that.
//
// Nothing is lost by it: what the API answered and inbound mail accepted is committed, and a worker's leases expire, so
// that the reaper takes its jobs back.

@preconcurrency import Dispatch
import Foundation
package import Logging
import ServiceLifecycle
import Synchronization

/// Ends the program at once at the second signal, with status 128 and the signal's number: 143, or 130.
///
/// The last service of its group: groups shut down in reverse, so it hears of the first signal before all others.
package final class SecondSignal: Service {
    /// Within this time a signal is the same order again: a terminal and a supervisor may both pass on one Ctrl-C.
    private static let sameOrder: Duration = .milliseconds(500)

    private let logger: Logger
    private let sources = Mutex<[any DispatchSourceSignal]>([])

    /// Says in `logger` that it ends the program.
    package init(logger: Logger) { self.logger = logger }

    /// Waits for the graceful shutdown, and listens from then on.
    package func run() async throws {
        try? await gracefulShutdown()  // ends when cancelled, too
        let first = ContinuousClock.now
        sources.withLock { sources in
            sources = [SIGTERM, SIGINT].map { number in
                // A queue of its own: it must work when everything else hangs.
                let source = DispatchSource.makeSignalSource(
                    signal: number,
                    queue: .global(qos: .userInteractive)
                )
                source.setEventHandler { [logger] in
                    guard ContinuousClock.now - first > Self.sameOrder else { return }
                    logger.warning(
                        "A second signal: ending at once. Running jobs are taken back when their leases expire.",
                        metadata: ["signal": "\(number)"]
                    )
                    _exit(128 + number)
                }
                source.resume()
                return source
            }
        }
    }
}
