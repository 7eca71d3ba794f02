// A private redis-server.

import Foundation
import Glibc
import Synchronization

/// A redis-server on a free loopback port, without persistence, that refuses writes rather than evict.
package final class RedisServer: Sendable {
    /// Port of clear-text connections, or of TLS when it was started so.
    package let port: Int
    private let arguments: [String]
    private let folder: URL
    private let process: Mutex<ServerProcess?>

    /// Where it listens, without user or database.
    package var url: String { "redis://127.0.0.1:\(port)" }

    /// Starts one; `arguments` follow our own on the command line. With `usesTLS` they must name certificate and key.
    package init(_ arguments: [String] = [], usesTLS: Bool = false) async throws {
        folder = try ServerProcess.makeFolder("redis")
        port = try ServerProcess.freePort()
        let listening = usesTLS ? ["--port", "0", "--tls-port", "\(port)"] : ["--port", "\(port)"]
        let ours = [
            "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--maxmemory-policy", "noeviction", "--dir", folder.path,
        ]
        self.arguments = listening + ours + arguments
        process = Mutex(nil)
        try await start()
    }

    deinit {
        process.withLock { $0?.end() }
        try? FileManager.default.removeItem(at: folder)
    }

    /// Starts it again after `kill()`, on the same port and empty.
    package func start() async throws {
        let log = folder.appendingPathComponent("log")
        let started = try ServerProcess("redis-server", arguments, log: log)
        process.withLock { $0 = started }
        let isUp = await started.waits {
            (try? String(contentsOf: log, encoding: .utf8))?.contains("Ready to accept connections") == true
        }
        guard isUp else {
            let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
            throw ServerProcess.Fault(description: "redis-server did not start: \(text.suffix(500))")
        }
    }

    /// SIGKILL; all is lost.
    package func kill() { process.withLock { $0?.end() } }

    /// SIGSTOP: the server hangs with its connections open.
    package func hang() { process.withLock { $0?.signal(SIGSTOP) } }

    /// SIGCONT: it goes on.
    package func goOn() { process.withLock { $0?.signal(SIGCONT) } }

    private static let shared = Task { try await RedisServer() }

    /// The server that tests share which neither flush nor break it: `TEST_REDIS_URL`, or a private one. Use key
    /// prefixes of your own.
    package static func sharedURL() async throws -> String {
        if let url = ProcessInfo.processInfo.environment["TEST_REDIS_URL"], !url.isEmpty { return url }
        return try await shared.value.url
    }
}
