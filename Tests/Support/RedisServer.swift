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

    /// Starts one; `arguments` follow our own on the command line.
    ///
    /// With `usesTLS` they must name certificate and key.
    package init(_ arguments: [String] = [], usesTLS: Bool = false) async throws {
        let folder = try ServerProcess.makeFolder("redis")
        let (port, started) = try await ServerProcess.onFreePort { port in
            let words = Self.words(port, usesTLS, folder) + arguments
            return (words, try await Self.launch(words, in: folder))
        }
        self.folder = folder
        self.port = port
        self.arguments = started.0
        process = Mutex(started.1)
    }

    private static func words(_ port: Int, _ usesTLS: Bool, _ folder: URL) -> [String] {
        (usesTLS ? ["--port", "0", "--tls-port", "\(port)"] : ["--port", "\(port)"]) + [
            "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--maxmemory-policy", "noeviction", "--dir", folder.path,
        ]
    }

    private static func launch(_ arguments: [String], in folder: URL) async throws -> ServerProcess {
        let log = folder.appendingPathComponent("log")
        let started = try ServerProcess("redis-server", arguments, log: log)
        let isUp = await started.waits {
            (try? String(contentsOf: log, encoding: .utf8))?.contains("Ready to accept connections") == true
        }
        guard isUp else {
            let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
            throw ServerProcess.Fault(description: "redis-server did not start: \(text.suffix(500))")
        }
        return started
    }

    deinit {
        process.withLock { $0?.end() }
        try? FileManager.default.removeItem(at: folder)
    }

    /// Starts it again after `kill()`, on the same port and empty.
    package func start() async throws {
        let started = try await Self.launch(arguments, in: folder)
        process.withLock { $0 = started }
    }

    /// SIGKILL; all is lost.
    package func kill() { process.withLock { $0?.end() } }

    /// SIGSTOP: the server hangs with its connections open.
    package func hang() { process.withLock { $0?.signal(SIGSTOP) } }

    /// SIGCONT: it goes on.
    package func goOn() { process.withLock { $0?.signal(SIGCONT) } }

    private static let shared = Task { try await RedisServer() }

    /// The server that tests share which neither flush nor break it: `TEST_REDIS_URL`, or a private one.
    ///
    /// Use key prefixes of your own.
    package static func sharedURL() async throws -> String {
        if let url = ProcessInfo.processInfo.environment["TEST_REDIS_URL"], !url.isEmpty { return url }
        return try await shared.value.url
    }
}
