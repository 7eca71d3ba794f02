// Several calls that know nothing of each other, in one transaction.

import Database
import Platform
import Testing

@Suite("A joint transaction")
struct JointTransactionTests {
    private struct Refusal: Error, Equatable {}

    private func texts(_ database: Database) async throws -> [String] {
        try await database.query(.worker, "SELECT text FROM notes ORDER BY id").map { try $0("text") }
    }

    private func note(_ id: Int, _ text: String) -> Statement {
        "INSERT INTO notes (id, text) VALUES (\(id), \(text))"
    }

    private func ignore(_ transaction: Transaction) async throws {}

    @Test("has every call in it, and what closes it; nothing is seen before its end")
    func whole() async throws {
        let org = OrgID()
        try await withDatabase { database in
            let seen = try await database.joined(
                .tenant(org),
                opening: { try await $0.query(note(1, "opening")) },
                closing: { _ in [note(9, "closing")] },
                { joint in
                    try await joint.query(.tenant(org), note(2, "query"))
                    try await joint.batch(.tenant(org), [note(3, "batch"), note(4, "second")])
                    try await joint.transaction(.tenant(org)) { transaction in
                        _ = try await transaction.query(note(5, "interactive"))
                    }
                    #expect(try await texts(joint).count == 5)
                    return try await texts(database)
                }
            )
            #expect(seen.isEmpty)
            #expect(
                try await texts(database) == [
                    "opening", "query", "batch", "second", "interactive", "closing",
                ]
            )
        }
    }

    @Test("leaves nothing when the work throws, or the end does")
    func nothing() async throws {
        let org = OrgID()
        try await withDatabase { database in
            await #expect(throws: Refusal.self) {
                try await database.joined(.tenant(org), opening: ignore, closing: { (_: Int) in [] }) {
                    joint in
                    try await joint.query(.tenant(org), note(1, "work"))
                    throw Refusal()
                }
            }
            await #expect(throws: DatabaseError.self) {
                try await database.joined(
                    .tenant(org),
                    opening: ignore,
                    closing: { _ in [note(2, "forbidden")] },
                    { joint in _ = try await joint.query(.tenant(org), note(1, "work")) }
                )
            }
            let left = try await texts(database)
            #expect(left.isEmpty)
        }
    }

    @Test("a call that fails is undone by itself, and the work may go on")
    func failedCall() async throws {
        let org = OrgID()
        try await withDatabase { database in
            try await database.joined(.tenant(org), opening: ignore, closing: { _ in [] }) { joint in
                try await joint.query(.tenant(org), note(1, "first"))
                let batch = await failure {
                    try await joint.batch(.tenant(org), [note(2, "second"), note(3, "first")])
                }
                #expect(batch == .unique(constraint: "notes_text_once"))
                let interactive = await failure {
                    try await joint.transaction(.tenant(org)) { transaction in
                        try await transaction.query(note(4, "third"))
                        _ = try await transaction.query(note(5, "forbidden"))
                    }
                }
                #expect(interactive == .constraint(name: "notes_text_check", sqlstate: "23514"))
                try await joint.query(.tenant(org), note(6, "last"))
            }
            #expect(try await texts(database) == ["first", "last"])
        }
    }

    @Test("what opens it may refuse: then the work's calls do nothing, whatever it makes of their error")
    func refused() async throws {
        let org = OrgID()
        try await withDatabase { database in
            await #expect(throws: Refusal.self) {
                try await database.joined(
                    .tenant(org),
                    opening: { transaction in
                        try await transaction.query(note(1, "opening"))
                        throw Refusal()
                    },
                    closing: { _ in [note(3, "closing")] },
                    { joint in
                        let error = await failure { try await joint.query(.tenant(org), note(2, "work")) }
                        #expect(error == .cancelled)
                    }
                )
            }
            let left = try await texts(database)
            #expect(left.isEmpty)
        }
    }

    @Test("is closed also when the work never called")
    func noCall() async throws {
        let org = OrgID()
        try await withDatabase { database in
            try await database.joined(
                .tenant(org),
                opening: ignore,
                closing: { _ in [note(1, "closing")] },
                { _ in }
            )
            #expect(try await texts(database) == ["closing"])
        }
    }

    @Test("a call as somebody else is part of it, on its one connection, and the next speaks as before")
    func otherAccess() async throws {
        let org = OrgID()
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            try await database.query(.tenant(OrgID()), note(1, "of another organization"))
            let counts = try await database.joined(.tenant(org), opening: ignore, closing: { _ in [] }) {
                joint in
                var counts: [Int] = []
                for access in [Access.tenant(org), .worker, .tenant(org), .lookup, .tenant(org)] {
                    let rows = try await joint.query(access, "SELECT count(*) AS n FROM notes")
                    counts.append(try only(rows)("n"))
                }
                return counts
            }
            #expect(counts == [0, 1, 0, 0, 0])
        }
    }

    @Test("what is read beforehand does not begin it, and is part of it once it has begun")
    func beforehand() async throws {
        let org = OrgID()
        try await withDatabase({ $0.connectionsMax = 1 }) { database in
            try await database.joined(.tenant(org), opening: ignore, closing: { _ in [] }) { joint in
                // With one connection only: held open, the second call would wait for ever.
                try await joint.beforehand.query(.tenant(org), "SELECT 1")
                try await database.query(.tenant(org), "SELECT 1")
                try await joint.query(.tenant(org), note(1, "work"))
                let seen = try await joint.beforehand.query(.tenant(org), "SELECT FROM notes")
                #expect(seen.count == 1)
            }
        }
    }

    @Test("calls at the same time share one beginning")
    func together() async throws {
        let org = OrgID()
        try await withDatabase { database in
            try await database.joined(
                .tenant(org),
                opening: { try await $0.query(note(100, "opening")) },
                closing: { _ in [] },
                { joint in
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for id in 1...10 {
                            group.addTask { try await joint.query(.tenant(org), note(id, "\(id)")) }
                        }
                        try await group.waitForAll()
                    }
                }
            )
            #expect(try await texts(database).count == 11)
        }
    }
}
