import Database
import Foundation
import Platform
import TestSupport
import Testing

@Suite("PgBouncer in transaction mode", .enabled(if: PgBouncer.isInstalled))
struct PgBouncerTests {
    @Test("role and organization never leak to another client of the same server connection")
    func access() async throws {
        try await withPgBouncer(serverConnections: 1) { one, other in
            let (mine, theirs) = (OrgID(), OrgID())
            try await one.query(.tenant(mine), "INSERT INTO notes (id, text) VALUES (1, 'mine')")
            try await other.query(.tenant(theirs), "INSERT INTO notes (id, text) VALUES (2, 'theirs')")
            #expect(try await one.query(.tenant(mine), "SELECT id FROM notes").count == 1)
            #expect(try await other.query(.worker, "SELECT id FROM notes").count == 2)
            #expect(try await one.query(.lookup, "SELECT id FROM notes").count == 0)
            let rows = try await other.query(
                .owner,
                "SELECT current_user::text AS u, current_setting('statement_timeout') AS t"
            )
            #expect(try rows.first?("u") == "postgres")
            #expect(try rows.first?("t") == "10s")
        }
    }

    @Test("many tasks of two pools share two server connections")
    func manyTasks() async throws {
        try await withPgBouncer(serverConnections: 2) { one, other in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<100 {
                    let database = number.isMultiple(of: 2) ? one : other
                    group.addTask {
                        let id = Int32(number)
                        if number.isMultiple(of: 5) {
                            try await database.transaction(.worker) { transaction in
                                try await transaction.query("INSERT INTO counts VALUES (\(id), 0)")
                                try await transaction.query("UPDATE counts SET n = 1 WHERE id = \(id)")
                            }
                        } else {
                            let results = try await database.batch(
                                .worker,
                                [
                                    "INSERT INTO counts VALUES (\(id), 1)",
                                    "SELECT \(number) AS n, \(String(repeating: "x", count: 30_000))::text AS t",
                                ]
                            )
                            #expect(try results[1].first?("n") == number)
                        }
                    }
                }
                try await group.waitForAll()
            }
            let rows = try await one.query(.owner, "SELECT sum(n)::bigint AS n FROM counts")
            #expect(try rows.first?("n") == 100)
        }
    }

    @Test("errors, time limits, scripts and rollbacks leave the connection usable")
    func errors() async throws {
        try await withPgBouncer(serverConnections: 1) { one, other in
            #expect(
                await failure {
                    try await one.batch(
                        .owner,
                        ["INSERT INTO counts VALUES (1, 1)", "INSERT INTO counts VALUES (1, 1)"]
                    )
                } == .unique(constraint: "counts_pkey")
            )
            #expect(
                await failure {
                    try await one.query(.owner, "SELECT pg_sleep(9)", timeout: .milliseconds(100))
                }
                    == .timedOut
            )
            #expect(
                await failure {
                    try await other.batch(
                        .owner,
                        ["SELECT set_config('statement_timeout', '0', true)", "SELECT pg_sleep(9)"],
                        timeout: .milliseconds(100)
                    )
                } == .timedOut
            )
            try await one.script("INSERT INTO counts VALUES (1, 1); INSERT INTO counts VALUES (2, 2)")
            _ = await failure {
                try await other.transaction(.owner) { transaction in
                    try await transaction.script("DELETE FROM counts; SELECT 1")
                    throw CancellationError()
                }
            }
            #expect(try await other.query(.owner, "SELECT * FROM counts").count == 2)
        }
    }

    @Test("backends terminated behind it are replaced, and PgBouncer's own restart too")
    func losses() async throws {
        try await withPgBouncer(serverConnections: 1) { one, _ in
            for _ in 0..<5 {
                let pid = try await backend(one)
                var configuration = Database.Configuration(url: try PostgresServer.url())
                configuration.connectionsMax = 1
                let killer = Database(configuration, logger: quiet)
                try await killer.query(.owner, "SELECT pg_terminate_backend(\(Int32(pid)), 5000)")
                await killer.close()
                // The first call may meet PgBouncer before it knows.
                _ = try? await backend(one)
                #expect(try await backend(one) != pid)
            }
        }
    }

    private func withPgBouncer(
        serverConnections: Int,
        _ body: @Sendable (Database, Database) async throws -> Void
    ) async throws {
        try await withDatabase { direct in
            let name: String = try only(await direct.query(.owner, "SELECT current_database()::text AS d"))(
                "d"
            )
            let bouncer = try PgBouncer(serverConnections: serverConnections)
            let databases = (0..<2).map { _ in
                Database(Database.Configuration(url: bouncer.url(database: name)), logger: quiet)
            }
            try await body(databases[0], databases[1])
            for database in databases { await database.close() }
            bouncer.stop()
        }
    }
}

/// A PgBouncer of one test; it refuses root as PostgreSQL does.
private final class PgBouncer: Sendable {
    private static let program = "/usr/sbin/pgbouncer"
    static let isInstalled = FileManager.default.isExecutableFile(atPath: program)

    private let port: Int
    private let process: Process
    private let lifeline = Pipe()

    /// KILL, as a child of one of Swift's threads inherits their blocked signals, TERM among them.
    private static let script = """
        set -e
        umask 077; folder=$(mktemp -d /var/tmp/commune-test-pgbouncer-XXXXXX)
        trap 'kill -KILL $child 2>/dev/null; rm -rf "$folder"' EXIT
        printf '%s' "$1" >"$folder/pgbouncer.ini"; printf '"%s" "%s"\\n' "$2" "$3" >"$folder/users"
        cd "$folder"; /usr/sbin/pgbouncer -q pgbouncer.ini & child=$!
        read -r _ || true
        """

    init(serverConnections: Int) throws {
        let server = try #require(URLComponents(string: try PostgresServer.url()))
        port = try ServerProcess.freePort()
        let settings = """
            [databases]
            * = host=\(server.host ?? "127.0.0.1") port=\(server.port ?? 5432)
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            auth_type = trust
            auth_file = users
            pool_mode = transaction
            default_pool_size = \(serverConnections)

            """
        process = Process()
        // The server may ask for a password; PgBouncer itself asks for none.
        let (user, password) = (server.user ?? "postgres", server.password ?? "")
        let command = ["/bin/sh", "-c", Self.script, "pgbouncer", settings, user, password]
        let arguments = getuid() == 0 ? ["/usr/sbin/runuser", "-u", "postgres", "--"] + command : command
        process.executableURL = URL(fileURLWithPath: arguments[0])
        process.arguments = Array(arguments.dropFirst())
        process.standardInput = lifeline
        process.standardError = FileHandle.nullDevice
        process.currentDirectoryURL = URL(fileURLWithPath: "/var/tmp")
        try process.run()
        try waitUntilListening()
    }

    func url(database: String) -> String { "postgres://postgres@127.0.0.1:\(port)/\(database)" }

    func stop() {
        // The script reads it and cleans up.
        try? lifeline.fileHandleForWriting.write(contentsOf: Data("end\n".utf8))
    }

    private func waitUntilListening() throws {
        for _ in 0..<1500 {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = in_port_t(port).bigEndian
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            let answered = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                }
            }
            if answered { return }
            usleep(20_000)
        }
        throw PostgresServer.Fault(description: "PgBouncer did not start")
    }
}
