// A PostgreSQL of our own for tests: on a free port of the loopback, its data in a temporary folder, gone with
// the process that started it, however that ends.

import Foundation
import Glibc
import Synchronization

/// A private PostgreSQL server that a test may stop, start and throw away.
package final class PostgresServer: Sendable {
    /// Why a server could not be made.
    package struct Fault: Error, CustomStringConvertible {
        package let description: String

        /// Takes a sentence for the test's output.
        package init(description: String) { self.description = description }
    }

    /// The port on 127.0.0.1.
    package let port: Int
    private let folder: String
    private let guardian: Process
    private let lifeline = Pipe()
    private let answers = Pipe()

    private static let sharedURL = Mutex<String?>(nil)
    private static let sharedServer = Mutex<PostgresServer?>(nil)

    /// A URL of a server for the whole test process: `TEST_DATABASE_URL`, or one started on first use.
    package static func url() throws -> String {
        try sharedURL.withLock { known in
            if let known { return known }
            let given = ProcessInfo.processInfo.environment["TEST_DATABASE_URL"] ?? ""
            let url: String
            if given.isEmpty {
                let server = try PostgresServer()
                sharedServer.withLock { $0 = server }
                url = server.url()
            } else {
                url = given
            }
            known = url
            return url
        }
    }

    /// Makes and starts a server.
    ///
    /// `settings` are lines of `postgresql.conf`; with `ssl = on` it gets a certificate that it signed itself.
    package init(settings: [String] = []) throws {
        port = try ServerProcess.freePort()
        folder = "/var/tmp/commune-test-postgres-\(getpid())-\(port)"
        guardian = Process()
        let lines = [
            "port = \(port)", "listen_addresses = '127.0.0.1'", "unix_socket_directories = ''",
            "fsync = off", "full_page_writes = off", "max_connections = 200",
            "autovacuum_naptime = 10min", "log_min_messages = fatal",
        ]
        try launch(with: lines + settings)
    }

    deinit {
        // The guardian reads it, stops the server and removes the folder. Nobody waits: `waitUntilExit` would
        // hold one of Swift's few threads.
        try? lifeline.fileHandleForWriting.write(contentsOf: Data("end\n".utf8))
    }

    /// The superuser's URL of a database.
    package func url(database: String = "postgres") -> String {
        "postgres://postgres@127.0.0.1:\(port)/\(database)"
    }

    /// Stops at once, as a crash would; connections are cut.
    package func stop() async throws { try await control("stop") }

    /// Starts again with the same data.
    package func start() async throws { try await control("start") }

    /// What the guardian does: makes the server, says so, does what it is told, and cleans up
    /// at the order to end or when we are gone.
    private static let guardianScript = """
        set -e
        folder=$1; bin=$2; settings=$3
        trap 'cd /; "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1; rm -rf "$folder"' EXIT
        trap '' INT TERM HUP
        mkdir -m 700 "$folder"; cd "$folder"
        "$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C -N >initdb.log 2>&1
        printf '%s\\n' "$settings" >>data/postgresql.conf
        case $settings in *'ssl = on'*)
            openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 \\
                -keyout data/server.key -out data/server.crt >/dev/null 2>&1;;
        esac
        "$bin/pg_ctl" -D data -w -t 60 -l log start >/dev/null
        echo ready
        while read -r order; do
            case $order in
                stop) "$bin/pg_ctl" -D data -m immediate stop >/dev/null;;
                start) "$bin/pg_ctl" -D data -w -t 60 -l log start >/dev/null;;
                *) break;;
            esac
            echo ready
        done
        """

    private func launch(with settings: [String]) throws {
        let command = [
            "/bin/sh", "-c", Self.guardianScript, "postgres", folder, try Self.programs(),
            settings.joined(separator: "\n"),
        ]
        Self.prepare(guardian, command)
        guardian.standardInput = lifeline
        guardian.standardOutput = answers
        try guardian.run()
        let said = answers.fileHandleForReading.readData(ofLength: 6)
        guard String(decoding: said, as: UTF8.self) == "ready\n" else {
            throw Fault(description: "PostgreSQL did not start; see its messages above (\(folder))")
        }
    }

    /// Has the guardian do it, on a thread of its own as the answer takes a second.
    private func control(_ order: String) async throws {
        let isDone = await withCheckedContinuation { continuation in
            Thread.detachNewThread { [lifeline, answers] in
                try? lifeline.fileHandleForWriting.write(contentsOf: Data("\(order)\n".utf8))
                let said = answers.fileHandleForReading.readData(ofLength: 6)
                continuation.resume(returning: String(decoding: said, as: UTF8.self) == "ready\n")
            }
        }
        guard isDone else { throw Fault(description: "PostgreSQL did not \(order)") }
    }

    /// PostgreSQL refuses to run as root: the package's own user runs it then.
    private static func prepare(_ process: Process, _ command: [String]) {
        let arguments = getuid() == 0 ? ["/usr/sbin/runuser", "-u", "postgres", "--"] + command : command
        process.executableURL = URL(fileURLWithPath: arguments[0])
        process.arguments = Array(arguments.dropFirst())
        process.currentDirectoryURL = URL(fileURLWithPath: "/var/tmp")
    }

    /// Debian keeps the server's programs outside PATH, a folder a version.
    private static func programs() throws -> String {
        let versions = "/usr/lib/postgresql"
        let installed = (try? FileManager.default.contentsOfDirectory(atPath: versions)) ?? []
        let newest = installed.compactMap(Int.init).max()
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        let candidates =
            (newest.map { ["\(versions)/\($0)/bin"] } ?? []) + path.split(separator: ":").map(String.init)
        guard let folder = candidates.first(where: { access("\($0)/initdb", X_OK) == 0 }) else {
            throw Fault(description: "PostgreSQL's server is not installed (apt-get install postgresql)")
        }
        return folder
    }
}
