// A private unbound that knows some names and no network.

import Foundation
import Synchronization

/// An unbound on a free loopback port that answers from local data alone; every other name does not exist.
package final class DNSServer: Sendable {
    /// Port on 127.0.0.1, UDP and TCP.
    package let port: Int
    private let folder: URL
    private let process: Mutex<ServerProcess?>

    /// Starts one.
    ///
    /// `records` are lines such as `example.test. 300 IN MX 10 mail.example.test.`; `forwarding` sends whole
    /// zones to another `address@port`.
    package init(_ records: [String], forwarding: [String: String] = [:]) async throws {
        let folder = try ServerProcess.makeFolder("dns")
        let (port, started) = try await ServerProcess.onFreePort { port in
            try Self.configuration(records, forwarding, port: port, folder: folder)
                .write(to: folder.appendingPathComponent("unbound.conf"), atomically: true, encoding: .utf8)
            return try await Self.launch(in: folder)
        }
        self.folder = folder
        self.port = port
        process = Mutex(started)
    }

    private static func launch(in folder: URL) async throws -> ServerProcess {
        let log = folder.appendingPathComponent("log")
        let file = folder.appendingPathComponent("unbound.conf")
        let started = try ServerProcess("/usr/sbin/unbound", ["-d", "-p", "-c", file.path], log: log)
        let isUp = await started.waits {
            (try? String(contentsOf: log, encoding: .utf8))?.contains("start of service") == true
        }
        guard isUp else {
            let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
            throw ServerProcess.Fault(description: "unbound did not start: \(text.suffix(500))")
        }
        return started
    }

    deinit {
        process.withLock { $0?.end() }
        try? FileManager.default.removeItem(at: folder)
    }

    /// Starts it again after `kill()`.
    package func start() async throws {
        let started = try await Self.launch(in: folder)
        process.withLock { $0 = started }
    }

    /// SIGKILL.
    package func kill() { process.withLock { $0?.end() } }

    private static func configuration(
        _ records: [String],
        _ forwarding: [String: String],
        port: Int,
        folder: URL
    ) -> String {
        var lines = [
            "server:", "  directory: \"\(folder.path)\"", "  interface: 127.0.0.1", "  port: \(port)",
            "  do-daemonize: no", "  use-syslog: no", "  logfile: \"\"", "  username: \"\"", "  chroot: \"\"",
            "  pidfile: \"\"", "  num-threads: 1", "  module-config: \"iterator\"", "  verbosity: 1",
            "  access-control: 127.0.0.0/8 allow", "  do-not-query-localhost: no",
            "  local-zone: \".\" static",
            // Names below localhost are data like others; a dead server is given up at once.
            "  local-zone: \"localhost.\" nodefault", "  outbound-msg-retry: 1",
        ]
        lines += forwarding.keys.sorted().map { "  local-zone: \"\($0)\" transparent" }
        lines += records.map { "  local-data: '\($0)'" }
        for (zone, address) in forwarding.sorted(by: { $0.key < $1.key }) {
            lines += ["forward-zone:", "  name: \"\(zone)\"", "  forward-addr: \(address)"]
        }
        lines += ["remote-control:", "  control-enable: no"]
        return lines.joined(separator: "\n") + "\n"
    }
}
