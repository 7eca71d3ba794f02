import Database
import Foundation
import Platform
import Synchronization
import TestSupport
import Testing

@Suite("PostgreSQL goes away and comes back", .serialized)
struct OutageTests {
    @Test("with backends terminated steadily, batches and transactions go on and nothing is done twice")
    func terminatedBackends() async throws {
        try await withDatabase { database in
            let killing = Task {
                var admin = Database.Configuration(url: try PostgresServer.url())
                admin.connectionsMax = 1
                let killer = Database(admin, logger: quiet)
                let name: String = try only(
                    await database.query(.owner, "SELECT current_database()::text AS d")
                )("d")
                var killed = 0
                while !Task.isCancelled {
                    killed +=
                        (try? await killer.query(
                            .owner,
                            """
                            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                            WHERE datname = \(name) ORDER BY random() LIMIT 1
                            """
                        ))?.count ?? 0
                    try? await Task.sleep(for: .milliseconds(20))  // the rhythm of the disturbance
                }
                await killer.close()
                return killed
            }
            let tally = Tally()
            await withTaskGroup { group in
                for worker in 0..<16 {
                    group.addTask {
                        for round in 0..<100 {
                            await write(Int32(worker * 1000 + round), database, tally)
                        }
                    }
                }
            }
            killing.cancel()
            let killed = try await killing.value
            #expect(killed > 10)
            let rows = try await database.query(.owner, "SELECT id FROM counts")
            let present = Set(try rows.map { try $0("id") as Int })
            let (done, doubtful, failed) = tally.counts
            // What was reported done is there; what was reported undone is not; in doubt there is little.
            #expect(done.isSubset(of: present))
            #expect(present.subtracting(done).isSubset(of: doubtful))
            #expect(done.count + doubtful.count + failed.count == 1600)
            // The longer a slow machine takes, the more often it is hit.
            #expect(doubtful.count < max(20, killed))
            #expect(failed.count < max(100, 2 * killed))
        }
    }

    private func write(_ id: Int32, _ database: Database, _ tally: Tally) async {
        let error = await failure {
            if id.isMultiple(of: 4) {
                try await database.transaction(.owner) { transaction in
                    try await transaction.query("INSERT INTO counts VALUES (\(id), 0)")
                    try await transaction.query("UPDATE counts SET n = 1 WHERE id = \(id)")
                }
            } else {
                try await database.batch(
                    .owner,
                    ["INSERT INTO counts VALUES (\(id), 0)", "UPDATE counts SET n = 1 WHERE id = \(id)"]
                )
            }
        }
        switch error {
        case nil: tally.note(Int(id), \.done)
        case .unknownOutcome: tally.note(Int(id), \.doubtful)
        case .unavailable: tally.note(Int(id), \.failed)
        default: Issue.record("unexpected: \(String(describing: error))")
        }
    }

    @Test("a terminated idle connection is noticed before it is used")
    func terminatedIdle() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            for _ in 0..<20 {
                let pid = try await backend(database)
                var admin = Database.Configuration(url: try PostgresServer.url())
                admin.connectionsMax = 1
                let killer = Database(admin, logger: quiet)
                try await killer.query(.owner, "SELECT pg_terminate_backend(\(Int32(pid)), 5000)")
                await killer.close()
                #expect(try await backend(database) != pid)
            }
        }
    }

    @Test("stopped it answers unavailable at once, started it works again by itself")
    func restart() async throws {
        try await withServer { database, server in
            try await database.query(.owner, "INSERT INTO counts VALUES (1, 1)")
            try await server.stop()
            let clock = ContinuousClock()
            let took = await clock.measure {
                for _ in 0..<50 {
                    guard case .unavailable = await failure({ try await database.ping() }) else {
                        Issue.record("it answered")
                        return
                    }
                }
            }
            // 50 times at once, not 50 times a timeout.
            #expect(took < .seconds(10))
            try await server.start()
            let back = await clock.measure {
                // Until the pause between attempts is over.
                while await failure({ try await database.ping() }) != nil {
                    try? await Task.sleep(for: .milliseconds(20))
                }
            }
            #expect(back < .seconds(30))
            #expect(try await database.query(.owner, "SELECT * FROM counts").count == 1)
        }
    }

    @Test("many tasks survive a restart under load, and what was confirmed is kept")
    func restartUnderLoad() async throws {
        try await withServer(settings: ["fsync = on"]) { database, server in
            let tally = Tally()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in 0..<16 {
                    group.addTask {
                        var round = 0
                        while !tally.isOver {
                            await write(Int32(worker * 100_000 + round), database, tally)
                            round += 1
                            // So that the tasks do not spin through the outage.
                            try await Task.sleep(for: .milliseconds(1))
                        }
                    }
                }
                group.addTask {
                    for _ in 0..<2 {
                        let (done, _, failed) = tally.counts
                        try await eventually("some load") { tally.counts.done.count > done.count + 50 }
                        try await server.stop()
                        try await eventually("some outage") { tally.counts.failed.count > failed.count + 50 }
                        try await server.start()
                        let before = tally.counts.done.count
                        try await eventually("somebody got through") { tally.counts.done.count > before + 50 }
                    }
                    tally.end()
                }
                try await group.waitForAll()
            }
            let rows = try await database.query(.owner, "SELECT id FROM counts")
            let present = Set(try rows.map { try $0("id") as Int })
            let (done, doubtful, failed) = tally.counts
            #expect(done.isSubset(of: present))
            #expect(present.subtracting(done).isSubset(of: doubtful))
            #expect(!failed.isEmpty)
        }
    }

    @Test("an address where nobody answers fails within the connect timeout, for all who wait")
    func silentServer() async throws {
        let listener = try SilentListener()
        var configuration = Database.Configuration(url: "postgres://x@127.0.0.1:\(listener.port)/x")
        configuration.connectTimeout = .milliseconds(300)
        configuration.acquireTimeout = .seconds(60)
        configuration.connectionsMax = 2
        let database = Database(configuration, logger: quiet)
        let clock = ContinuousClock()
        let took = await clock.measure {
            await withTaskGroup { group in
                for _ in 0..<20 { group.addTask { await failure { try await database.ping() } } }
                for await error in group {
                    guard case .unavailable = error else {
                        Issue.record("expected unavailable, got \(String(describing: error))")
                        continue
                    }
                }
            }
        }
        #expect(took < .seconds(20))
        await database.close()
    }

    @Test("a wrong database name is told without the password")
    func wrongName() async throws {
        let url = try PostgresServer.url().replacing("postgres@", with: "postgres:hush@")
        var components = try #require(URLComponents(string: url))
        components.path = "/no_such_database"
        let database = Database(Database.Configuration(url: try #require(components.string)), logger: quiet)
        let error = await failure { try await database.ping() }
        guard case .unavailable(let reason) = error else {
            Issue.record("expected unavailable, got \(String(describing: error))")
            return
        }
        #expect(reason.contains("no_such_database"))
        #expect(!reason.contains("hush"))
        await database.close()
    }

    @Test("large results and parameters pass through TLS")
    func tls() async throws {
        try await withServer(settings: ["ssl = on"], { $0.url += "?sslmode=require" }) { database, _ in
            for size in [1, 8_000, 16_384, 100_000, 3_000_000] {
                let text = String(repeating: "x", count: size)
                let rows = try await database.batch(
                    .owner,
                    ["SELECT \(text)::text AS t FROM generate_series(1, 3)", "SELECT \(size) AS n"]
                )
                #expect(try rows[0].map { try $0("t") as String } == [text, text, text])
                #expect(try only(rows[1])("n") == size)
            }
            let rows = try await database.query(
                .owner,
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
            #expect(try only(rows)("ssl") == true)
        }
    }

    @Test("when PostgreSQL has no room for one more connection, those we have go on")
    func noRoom() async throws {
        try await withServer(
            settings: ["max_connections = 6", "superuser_reserved_connections = 2"],
            {
                $0.url = $0.url.replacing("postgres@", with: "plain@")
                $0.connectionsMax = 10
            }
        ) { database, server in
            let admin = Database(Database.Configuration(url: server.url()), logger: quiet)
            try await admin.script("CREATE ROLE plain LOGIN SUPERUSER; ALTER ROLE plain NOSUPERUSER")
            await admin.close()
            let answered = try await withThrowingTaskGroup(of: Bool.self) { group in
                for _ in 0..<100 {
                    group.addTask {
                        try await database.query(.owner, "SELECT pg_sleep(0.02)")
                        return true
                    }
                }
                var count = 0
                for try await _ in group { count += 1 }
                return count
            }
            #expect(answered == 100)
        }
    }
}

/// What became of each write.
private final class Tally: Sendable {
    struct Sets {
        var done: Set<Int> = []
        var doubtful: Set<Int> = []
        var failed: Set<Int> = []
    }

    private let sets = Mutex(Sets())
    private let over = Atomic(false)

    var isOver: Bool { over.load(ordering: .relaxed) }
    func end() { over.store(true, ordering: .relaxed) }

    func note(_ id: Int, _ fate: sending WritableKeyPath<Sets, Set<Int>>) {
        sets.withLock { sets in _ = sets[keyPath: fate].insert(id) }
    }

    var counts: (done: Set<Int>, doubtful: Set<Int>, failed: Set<Int>) {
        sets.withLock { ($0.done, $0.doubtful, $0.failed) }
    }
}

/// Accepts connections and never says a word.
private final class SilentListener: Sendable {
    let port: Int
    private let socket: FileHandle

    init() throws {
        port = try ServerProcess.freePort()
        let descriptor = Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        socket = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let isListening = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                    && listen(descriptor, 64) == 0
            }
        }
        try #require(isListening)
    }
}
