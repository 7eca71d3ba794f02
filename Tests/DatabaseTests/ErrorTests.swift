import Database
import Platform
import Testing

@Suite("Refusals say what a caller can act on")
struct ErrorTests {
    @Test("violated constraints carry their names")
    func constraints() async throws {
        try await withDatabase { database in
            func insert(_ id: Int?, _ text: String) async -> DatabaseError? {
                await failure {
                    try await database.query(
                        .owner,
                        "INSERT INTO notes (id, org_id, text) VALUES (\(id), \(OrgID()), \(text))"
                    )
                }
            }
            #expect(await insert(1, "a") == nil)
            #expect(await insert(1, "b") == .unique(constraint: "notes_pkey"))
            #expect(await insert(2, "a") == .unique(constraint: "notes_text_once"))
            #expect(await insert(2, "forbidden") == .constraint(name: "notes_text_check", sqlstate: "23514"))
            #expect(await insert(nil, "c") == .constraint(name: "", sqlstate: "23502"))
        }
    }

    @Test("a syntax error has its SQLSTATE and the connection stays usable")
    func syntax() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            let before = try await backend(database)
            guard
                case .failed(sqlstate: "42601", _) = await failure({
                    try await database.query(.owner, "SELEC 1")
                })
            else {
                Issue.record("no syntax error")
                return
            }
            #expect(try await backend(database) == before)
        }
    }

    @Test("the value that was wrong is not in the error")
    func noValues() async throws {
        try await withDatabase { database in
            let error = await failure {
                try await database.query(.owner, "SELECT \("secret@example.com")::uuid")
            }
            #expect(
                error == .failed(sqlstate: "22P02", message: "invalid input syntax for type uuid")
            )
        }
    }

    @Test("a statement over its time is undone and the connection stays usable")
    func statementTimeout() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            let before = try await backend(database)
            let error = await failure {
                try await database.batch(
                    .owner,
                    ["INSERT INTO counts VALUES (1, 1)", "SELECT pg_sleep(5)"],
                    timeout: .milliseconds(100)
                )
            }
            #expect(error == .timedOut)
            let left = try await database.query(.owner, "SELECT * FROM counts")
            #expect(left.count == 0)
            #expect(try await backend(database) == before)
        }
    }

    @Test("where PostgreSQL's own limit does not work, ours cancels the statement")
    func clientTimeout() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            let clock = ContinuousClock()
            var error: DatabaseError?
            let took = await clock.measure {
                error = await failure {
                    try await database.batch(
                        .owner,
                        ["SELECT set_config('statement_timeout', '0', true)", "SELECT pg_sleep(20)"],
                        timeout: .milliseconds(100)
                    )
                }
            }
            #expect(error == .timedOut)
            #expect(took < .seconds(15))
            try await database.ping()
        }
    }

    @Test("of two transactions in a deadlock one is told so")
    func deadlock() async throws {
        try await withDatabase { database in
            try await database.query(.owner, "INSERT INTO counts VALUES (1, 0), (2, 0)")
            let meeting = Meeting(of: 2)
            func lock(_ first: Int, _ second: Int) async -> DatabaseError? {
                await failure {
                    try await database.transaction(.owner) { transaction in
                        try await transaction.query("UPDATE counts SET n = n + 1 WHERE id = \(first)")
                        await meeting.arrive()
                        try await transaction.query("UPDATE counts SET n = n + 1 WHERE id = \(second)")
                    }
                }
            }
            async let one = lock(1, 2)
            async let other = lock(2, 1)
            let errors = await [one, other].compactMap { $0 }
            #expect(errors == [.serialization])
            #expect(DatabaseError.serialization.isTransient)
        }
    }

    @Test("NOWAIT on a locked row says that the lock is not available")
    func lockNotAvailable() async throws {
        try await withDatabase { database in
            try await database.query(.owner, "INSERT INTO counts VALUES (1, 0)")
            try await database.transaction(.owner) { transaction in
                try await transaction.query("SELECT * FROM counts FOR UPDATE")
                let error = await failure {
                    try await database.query(.owner, "SELECT * FROM counts FOR UPDATE NOWAIT")
                }
                #expect(error == .lockNotAvailable)
            }
        }
    }
}

/// The process id of the backend that answers.
func backend(_ database: Database) async throws -> Int {
    let rows = try await database.query(.owner, "SELECT pg_backend_pid() AS pid")
    return try only(rows)("pid")
}

/// Lets tasks wait for each other.
actor Meeting {
    private var missing: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(of count: Int) { missing = count }

    func arrive() async {
        missing -= 1
        if missing <= 0 {
            for continuation in waiting { continuation.resume() }
            waiting = []
        } else {
            await withCheckedContinuation { waiting.append($0) }
        }
    }
}
