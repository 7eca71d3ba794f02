import Database
import Platform
import Testing

private struct Deliberate: Error {}

@Suite("All of it or nothing")
struct TransactionTests {
    @Test("a batch returns the rows of each statement in order")
    func batch() async throws {
        try await withDatabase { database in
            let results = try await database.batch(
                .owner,
                [
                    "INSERT INTO counts VALUES (1, 10)", "SELECT n FROM counts", "UPDATE counts SET n = 11",
                    "SELECT n FROM counts",
                ]
            )
            #expect(results.count == 4)
            #expect(results.map(\.affected) == [1, 1, 1, 1])
            #expect(try results[1].first?("n") == 10)
            #expect(try results[3].first?("n") == 11)
            #expect(try await database.batch(.owner, []).count == 0)
        }
    }

    @Test("one failing statement undoes the whole batch, and its error is the one reported")
    func batchFails() async throws {
        try await withDatabase { database in
            let error = await failure {
                try await database.batch(
                    .owner,
                    [
                        "INSERT INTO counts VALUES (1, 1)",
                        "INSERT INTO counts VALUES (1, 2)",
                        "SELECT * FROM nowhere",
                    ]
                )
            }
            #expect(error == .unique(constraint: "counts_pkey"))
            let left = try await database.query(.owner, "SELECT * FROM counts")
            #expect(left.count == 0)
        }
    }

    @Test("a batch of a thousand statements with large parameters does not stall")
    func largeBatch() async throws {
        try await withDatabase { database in
            let text = String(repeating: "x", count: 20_000)
            let statements = (1...1000).map { number -> Statement in
                "SELECT \(number) AS n, \(text)::text AS t"
            }
            let results = try await database.batch(.owner, statements)
            #expect(try results.enumerated().allSatisfy { try $1.first?("n") == $0 + 1 })
            #expect(try results.last?.first?("t") == text)
        }
    }

    @Test("a batch that begins a transaction of its own is refused and undone")
    func strayBegin() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            let error = await failure {
                try await database.batch(.owner, ["BEGIN", "INSERT INTO counts VALUES (1, 1)"])
            }
            guard case .failed(sqlstate: "25001", _) = error else {
                Issue.record("expected 25001, got \(String(describing: error))")
                return
            }
            // Waits for the lock that the old backend may still hold for a moment.
            try await database.query(.owner, "INSERT INTO counts VALUES (1, 2)")
            let rows = try await database.query(.owner, "SELECT n FROM counts")
            #expect(try only(rows)("n") == 2)
        }
    }

    @Test("a transaction commits what its body did")
    func commits() async throws {
        try await withDatabase { database in
            let sum = try await database.transaction(.owner) { transaction in
                try await transaction.query("INSERT INTO counts VALUES (1, 1)")
                let rows = try await transaction.batch([
                    "INSERT INTO counts VALUES (2, 2)", "SELECT sum(n)::bigint AS s FROM counts",
                ])
                return try rows[1].first?("s") ?? 0 as Int
            }
            #expect(sum == 3)
            let left = try await database.query(.owner, "SELECT * FROM counts")
            #expect(left.count == 2)
        }
    }

    @Test("a throwing body leaves nothing behind and the connection is free again")
    func rollsBack() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            await #expect(throws: Deliberate.self) {
                try await database.transaction(.owner) { transaction in
                    try await transaction.query("INSERT INTO counts VALUES (1, 1)")
                    throw Deliberate()
                }
            }
            let left = try await database.query(.owner, "SELECT * FROM counts")
            #expect(left.count == 0)
        }
    }

    @Test("a swallowed error does not look like a commit")
    func swallowed() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            let error = await failure {
                try await database.transaction(.owner) { transaction in
                    try await transaction.query("INSERT INTO counts VALUES (1, 1)")
                    _ = try? await transaction.query("SELECT 1/0")
                }
            }
            guard case .failed(sqlstate: "25P02", _) = error else {
                Issue.record("expected 25P02, got \(String(describing: error))")
                return
            }
            let left = try await database.query(.owner, "SELECT * FROM counts")
            #expect(left.count == 0)
        }
    }

    @Test("a cancelled task's transaction is rolled back")
    func cancelled() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            let task = Task {
                try await database.transaction(.owner) { transaction in
                    try await transaction.query("INSERT INTO counts VALUES (1, 1)")
                    withUnsafeCurrentTask { $0?.cancel() }
                }
            }
            #expect(await failure { try await task.value } == .cancelled)
            let left = try await database.query(.owner, "SELECT * FROM counts")
            #expect(left.count == 0)
        }
    }

    @Test("a transaction that outlived its body refuses to work")
    func outlived() async throws {
        try await withDatabase { database in
            let escaped = try await database.transaction(.owner) { $0 }
            guard case .failed(sqlstate: "25P01", _) = await failure({ try await escaped.query("SELECT 1") })
            else {
                Issue.record("it worked")
                return
            }
        }
    }

    @Test("a script runs many statements, inside a transaction or without one")
    func scripts() async throws {
        try await withDatabase { database in
            await #expect(throws: Deliberate.self) {
                try await database.transaction(.owner) { transaction in
                    try await transaction.script(
                        "CREATE TABLE a (x int); INSERT INTO a VALUES (1); SELECT * FROM a;"
                    )
                    #expect(try await transaction.query("SELECT * FROM a").count == 1)
                    throw Deliberate()
                }
            }
            #expect(await failure { try await database.query(.owner, "SELECT * FROM a") } != nil)
            let error = await failure { try await database.script("CREATE TABLE b (x int); SELEC; ") }
            guard case .failed(sqlstate: "42601", _) = error else {
                Issue.record("no syntax error")
                return
            }
            try await database.script("CREATE INDEX CONCURRENTLY counts_n ON counts (n)")
            try await database.ping()
        }
    }

    @Test("role and organization last as long as their transaction, on one connection used in turn")
    func access() async throws {
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            let (one, other) = (OrgID(), OrgID())
            try await database.query(.tenant(one), "INSERT INTO notes (id, text) VALUES (1, 'one')")
            try await database.query(.tenant(other), "INSERT INTO notes (id, text) VALUES (2, 'other')")
            func seen(_ access: Access) async throws -> [Int] {
                try await database.query(access, "SELECT id FROM notes ORDER BY id").map { try $0("id") }
            }
            #expect(try await seen(.tenant(one)) == [1])
            #expect(try await seen(.tenant(other)) == [2])
            #expect(try await seen(.lookup) == [])
            #expect(try await seen(.worker) == [1, 2])
            try await database.transaction(.tenant(other)) { transaction in
                let left = try await transaction.query("SELECT id FROM notes")
                #expect(left.count == 1)
                let error = await failure {
                    try await transaction.query(
                        "INSERT INTO notes (id, org_id, text) VALUES (3, \(one), 'stolen')"
                    )
                }
                #expect(
                    error
                        == .failed(
                            sqlstate: "42501",
                            message: "new row violates row-level security policy for table \"notes\""
                        )
                )
            } catching: { error in
                // COMMIT after the refusal.
                #expect(
                    error
                        == .failed(
                            sqlstate: "25P02",
                            message: "a statement had failed, so all was rolled back"
                        )
                )
            }
            let rows = try await database.query(
                .owner,
                "SELECT current_user::text AS u, coalesce(current_setting('commune.org', true), '') AS o"
            )
            #expect(try rows.first?("u") == "postgres")
            #expect(try rows.first?("o") == "")
        }
    }
}

extension Database {
    fileprivate func transaction(
        _ access: Access,
        _ body: (Transaction) async throws -> Void,
        catching: (DatabaseError) -> Void
    ) async throws {
        do {
            try await transaction(access, body)
            Issue.record("the transaction was committed")
        } catch let error as DatabaseError {
            catching(error)
        }
    }
}
