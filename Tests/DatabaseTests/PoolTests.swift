import Foundation
import Platform
import Testing

@testable import Database

@Suite("A few connections serve many tasks")
struct PoolTests {
    @Test("200 tasks at once share four connections, each with its own answer", arguments: [false, true])
    func manyTasks(prepared: Bool) async throws {
        try await withDatabase({ $0.prepared = prepared }) { database in
            let backends = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        var pid = 0
                        for round in 0..<5 {
                            let rows = try await database.batch(
                                .owner,
                                [
                                    "INSERT INTO counts VALUES (\(Int32(number * 5 + round)), \(number))",
                                    "SELECT \(number) AS n, pg_backend_pid() AS pid",
                                ]
                            )
                            #expect(try rows[1].first?("n") == number)
                            pid = try rows[1].first?("pid") ?? 0
                        }
                        return pid
                    }
                }
                var pids: Set<Int> = []
                for try await pid in group { pids.insert(pid) }
                return pids
            }
            #expect((1...4).contains(backends.count))
            let rows = try await database.query(.owner, "SELECT count(*) AS n FROM counts")
            #expect(try rows.first?("n") == 1000)
        }
    }

    @Test("calls are served in the order in which they came")
    func firstComeFirstServed() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            let tasks = try await database.transaction(.owner) { transaction in
                try await transaction.query("SELECT 1")
                var tasks: [Task<Rows, any Error>] = []
                for number in 0..<20 {
                    tasks.append(
                        Task {
                            try await database.query(
                                .owner,
                                "INSERT INTO counts VALUES (\(Int32(number)), 0)"
                            )
                        }
                    )
                    try await eventually("it stands in line before the next comes") {
                        database.pool.waitingCount == number + 1
                    }
                }
                return tasks
            }
            for task in tasks { _ = try await task.value }
            // Read from the table's physical order, as the tasks' own resuming may be reordered.
            let ids = try await database.query(.owner, "SELECT id FROM counts ORDER BY ctid").map {
                try $0("id") as Int
            }
            #expect(ids == Array(0..<20))
        }
    }

    @Test("who waits too long for a connection is told why")
    func exhausted() async throws {
        try await withDatabase({
            $0.connectionsMax = 2
            $0.acquireTimeout = .seconds(1)
        }) { database in
            try await database.transaction(.owner) { one in
                try await one.query("SELECT 1")
                try await database.transaction(.owner) { two in
                    try await two.query("SELECT 1")
                    let clock = ContinuousClock()
                    var error: DatabaseError?
                    let took = await clock.measure { error = await failure { try await database.ping() } }
                    #expect(
                        error
                            == .unavailable(
                                "No database connection became free within 1.0 s: 2 of 2 are in use and 1 calls wait."
                            )
                    )
                    #expect(took >= .seconds(1) && took < .seconds(20))
                }
            }
            try await database.ping()
        }
    }

    @Test("the line is bounded, and who comes too late is refused at once")
    func bounded() async throws {
        try await withDatabase({
            $0.connectionsMax = 1
            $0.waitersMax = 3
        }) { database in
            let errors = try await database.transaction(.owner) { transaction in
                try await transaction.query("SELECT 1")
                let waiting = (0..<3).map { _ in Task { await failure { try await database.ping() } } }
                try await eventually("the three stand in line") { database.pool.waitingCount == 3 }
                #expect(
                    await failure { try await database.ping() }
                        == .unavailable("3 calls wait for the database already.")
                )
                return waiting
            }
            for task in errors { #expect(await task.value == nil) }
        }
    }

    @Test("a cancelled task leaves the line at once, and a running statement is not disturbed")
    func cancelledWaiting() async throws {
        try await withDatabase({
            $0.connectionsMax = 1
            $0.acquireTimeout = .seconds(60)
        }) { database in
            try await database.transaction(.owner) { transaction in
                try await transaction.query("INSERT INTO counts VALUES (1, 1)")
                let task = Task { await failure { try await database.ping() } }
                try await eventually("it stands in line") { database.pool.waitingCount == 1 }
                let clock = ContinuousClock()
                let took = await clock.measure {
                    task.cancel()
                    #expect(await task.value == .cancelled)
                }
                #expect(took < .seconds(20))
            }
            let running = Task {
                try await database.batch(
                    .owner,
                    ["SELECT pg_sleep(1), 'not disturbed'", "INSERT INTO counts VALUES (2, 2)"]
                )
            }
            try await untilRunning("not disturbed")
            running.cancel()
            #expect(try await running.value.count == 2)
            #expect(try await database.query(.owner, "SELECT * FROM counts").count == 2)
        }
    }

    @Test("an idle connection is closed after its time and opened again when needed")
    func idleTimeout() async throws {
        try await withDatabase({
            $0.connectionsMax = 1
            $0.idleTimeout = .milliseconds(100)
        }) { database in
            let before = try await backend(database)
            try await untilGone(before)
            #expect(try await backend(database) != before)
        }
    }

    @Test("a connection is replaced at the end of its life")
    func lifetime() async throws {
        try await withDatabase({
            $0.connectionsMax = 1
            $0.connectionLifetime = .milliseconds(100)
        }) { database in
            let before = try await backend(database)
            try await Task.sleep(for: .milliseconds(150))  // past its life
            _ = try await backend(database)
            #expect(try await backend(database) != before)
        }
    }

    @Test("prepared statements are found again, and a changed table does not break them")
    func preparedStatements() async throws {
        try await withDatabase({
            $0.connectionsMax = 1
            $0.prepared = true
        }) { database in
            for number in 0..<5 {
                try await database.query(.owner, "INSERT INTO counts VALUES (\(Int32(number)), 0)")
                #expect(try await database.query(.owner, "SELECT * FROM counts").count == number + 1)
            }
            let known = try await database.query(
                .owner,
                "SELECT count(*) AS n FROM pg_prepared_statements WHERE statement LIKE 'INSERT INTO counts%'"
            )
            #expect(try known.first?("n") == 1)
            // A failing batch must not make us believe in statements that PostgreSQL never saw.
            _ = try? await database.batch(.owner, ["SELECT 1/0", "SELECT 'skipped'"])
            try await database.query(.owner, "SELECT 'skipped'")
            try await database.script("ALTER TABLE counts ADD COLUMN more text DEFAULT 'm'")
            let rows = try await database.query(.owner, "SELECT * FROM counts")
            #expect(try rows.first?("more") == "m")
            for number in 0..<400 { try await database.query(.owner, "SELECT \(raw: "\(number)") AS n") }
            let count = try await database.query(.owner, "SELECT count(*) AS n FROM pg_prepared_statements")
            let names: Int = try only(count)("n")
            #expect(names <= 256)
        }
    }

    @Test("closing lets running calls finish, refuses new ones and leaves no connection")
    func closing() async throws {
        try await withDatabase { database in
            let running = Task { try await database.query(.owner, "SELECT pg_sleep(1), 'may finish'") }
            try await untilRunning("may finish")
            await database.close()
            #expect(try await running.value.count == 1)
            #expect(
                await failure { try await database.ping() } == .unavailable("The database pool is closed.")
            )
            await database.close()
        }
    }
}
