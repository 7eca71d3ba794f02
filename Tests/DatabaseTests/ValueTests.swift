import Database
import Foundation
import Platform
import Testing

private enum Colour: String { case red, green }
private enum Level: Int { case low = 1, high = 2 }

private struct Document: Codable, Equatable {
    var name: String
    var parts: [Int]
}

@Suite("Values go in and come out as they were")
struct ValueTests {
    @Test("every scalar type comes back as it was sent")
    func scalars() async throws {
        try await withDatabase { database in
            func same<Value: Parameter & Column & Equatable>(_ value: Value, as type: String) async throws {
                let rows = try await database.query(.owner, "SELECT \(value)::\(raw: type) AS v")
                let read: Value = try only(rows)("v")
                #expect(read == value)
            }
            for text in [
                "", "a", "Grüße 🧵\u{1F3F4}", "'; DROP TABLE notes; --", "\\x00 $1 \"", "\u{1}\n\r\t",
            ] {
                try await same(text, as: "text")
            }
            for flag in [true, false] { try await same(flag, as: "boolean") }
            for number in [Int.min, -1, 0, 1, .max] { try await same(number, as: "bigint") }
            for number in [Int64.min, 0, .max] { try await same(number, as: "bigint") }
            for number in [Int32.min, 0, .max] { try await same(number, as: "integer") }
            for number in [Int16.min, 0, .max] { try await same(number, as: "smallint") }
            for number in [0, -1.5, .pi, .infinity, Double.leastNonzeroMagnitude] {
                try await same(number, as: "double precision")
            }
            try await same(UUID(), as: "uuid")
            try await same(MessageID(), as: "uuid")
            for time in [Timestamp.now, Timestamp(microseconds: 0), Timestamp(microseconds: -1)] {
                try await same(time, as: "timestamptz")
            }
            for bytes in [[], [0], [UInt8](0...255)] as [[UInt8]] { try await same(bytes, as: "bytea") }
            try await same(Data([0, 1, 255]), as: "bytea")
        }
    }

    @Test("arrays keep quotes, NULL, backslashes, commas, braces and every script")
    func arrays() async throws {
        try await withDatabase { database in
            let texts = ["", "a\"b", "\\", "\\\"", "{x,y}", "NULL", "null", " ", "ü🧵", "'", "\n"]
            let withNull: [String?] = ["a", nil, "NULL"]
            let ids = [MessageID(), MessageID()]
            let rows = try await database.query(
                .owner,
                """
                SELECT \(texts) AS texts, \(withNull) AS with_null, \([] as [String]) AS empty, \(ids) AS ids,
                       \([1, -2, 3]) AS numbers, \([true, false]) AS flags, \([1.5, -2]) AS doubles,
                       \([[1, 2], [], [255]] as [[UInt8]]) AS blobs,
                       \([Timestamp(microseconds: 5)]) AS times, ARRAY[7, 8]::integer[] AS small
                """
            )
            let row = try #require(rows.first)
            #expect(try row("texts") == texts)
            #expect(try row("with_null") == withNull)
            #expect(try row("empty") == [String]())
            #expect(try row("ids") == ids)
            #expect(try row("numbers") == [1, -2, 3])
            #expect(try row("flags") == [true, false])
            #expect(try row("doubles") == [1.5, -2])
            #expect(try row("blobs") == [[1, 2], [], [255]] as [[UInt8]])
            #expect(try row("times") == [Timestamp(microseconds: 5)])
            #expect(try row("small") == [7, 8])
            let found = try await database.query(
                .owner,
                "SELECT t FROM unnest(\(texts)) AS t WHERE t = ANY(\(["\\", "NULL"]))"
            )
            #expect(try found.map { try $0("t") as String } == ["\\", "NULL"])
        }
    }

    @Test("an optional is NULL or its value, and NULL is no value of another type")
    func optionals() async throws {
        try await withDatabase { database in
            let nothing: Int? = nil
            let something: Int? = 3
            let rows = try await database.query(
                .owner,
                "SELECT \(nothing) AS a, \(something) AS b, \(nil as String?)::text AS c, \(nil as UUID?) AS d"
            )
            let row = try #require(rows.first)
            #expect(try row("a") as Int? == nil)
            #expect(try row("b") as Int? == 3)
            #expect(try row("c") as String? == nil)
            #expect(try row("d") as UUID? == nil)
            #expect(
                throws: DatabaseError.decoding(
                    "The column a is NULL, expected a whole number (cast numeric to bigint)."
                )
            ) {
                let _: Int = try row("a")
            }
        }
    }

    @Test("enumerations go by their raw value, also into PostgreSQL's own enumerations")
    func enumerations() async throws {
        try await withDatabase { database in
            try await database.script("CREATE TYPE colour AS ENUM ('red', 'green', 'blue')")
            let none: Colour? = nil
            let rows = try await database.query(
                .owner,
                "SELECT \(Colour.green)::colour AS c, \(Level.high) AS l, \(none)::text AS n, 'blue'::colour AS b"
            )
            let row = try #require(rows.first)
            #expect(try row("c") == Colour.green)
            #expect(try row("l") == Level.high)
            #expect(try row("n") as Colour? == nil)
            #expect(throws: DatabaseError.self) { let _: Colour = try row("b") }
        }
    }

    @Test("JSON is bound as jsonb and read as a type")
    func json() async throws {
        try await withDatabase { database in
            let document = Document(name: "O'Hara \"\\ 🧵", parts: [1, 2])
            let rows = try await database.query(
                .owner,
                "SELECT \(json: document) AS a, \(json: document)->>'name' AS name, '[1]'::json AS b, NULL::jsonb AS n"
            )
            let row = try #require(rows.first)
            #expect(try row.json("a", as: Document.self) == document)
            #expect(try row("name") == document.name)
            #expect(try row.json("b", as: [Int].self) == [1])
            #expect(try row.json("n", as: Document?.self) == nil)
            #expect(throws: DatabaseError.self) { try row.json("b", as: Document.self) }
            #expect(throws: DatabaseError.self) { try row.json("name", as: Document.self) }
            let refused = await failure { try await database.query(.owner, "SELECT \(json: Double.nan)") }
            #expect(refused == .failed(sqlstate: "22000", message: "a value could not be written as JSON"))
        }
    }

    @Test("a column of another type or name, or a number too large, is an error and no guess")
    func mismatches() async throws {
        try await withDatabase { database in
            let rows = try await database.query(
                .owner,
                "SELECT 'x'::text AS t, 70000 AS n, 1.5::numeric AS d, 'infinity'::timestamptz AS i"
            )
            let row = try #require(rows.first)
            #expect(throws: DatabaseError.self) { let _: Int = try row("t") }
            #expect(throws: DatabaseError.self) { let _: Int16 = try row("n") }
            #expect(throws: DatabaseError.self) { let _: Int = try row("d") }
            #expect(throws: DatabaseError.self) { let _: String = try row("n") }
            #expect(throws: DatabaseError.self) { let _: Timestamp = try row("i") }
            #expect(throws: DatabaseError.self) { let _: [Int] = try row("t") }
            #expect(throws: DatabaseError.decoding("The result has no column absent.")) {
                let _: Int = try row("absent")
            }
        }
    }

    @Test("hostile text is a value and never SQL")
    func hostileText() async throws {
        try await withDatabase { database in
            let hostile = "x'); DELETE FROM notes; --"
            try await database.query(
                .owner,
                "INSERT INTO notes (id, org_id, text) VALUES (1, \(UUID()), \(hostile))"
            )
            let rows = try await database.query(.owner, "SELECT text FROM notes WHERE text = \(hostile)")
            #expect(try rows.first?("text") == hostile)
            let none = try await database.query(
                .owner,
                "SELECT text FROM notes WHERE text = \("' OR true --")"
            )
            #expect(none.isEmpty)
        }
    }

    @Test("text with NUL is refused and not cut short")
    func nul() async throws {
        try await withDatabase { database in
            for act in [
                { try await database.query(.owner, "SELECT \("a\0b") AS t") },
                { try await database.query(.owner, "SELECT \(["a\0b"]) AS t") },
            ] as [() async throws -> Rows] {
                guard case .failed(sqlstate: "22021", message: _) = await failure({ _ = try await act() })
                else {
                    Issue.record("NUL was not refused")
                    continue
                }
            }
            #expect(await failure { try await database.query(.owner, "SELECT 1\0 AS t") } != nil)
        }
    }

    @Test("65,535 parameters pass and one more is refused with advice")
    func parameterLimit() async throws {
        try await withDatabase { database in
            let most = manyParameters(65_535)
            let left = try await database.query(.owner, most)
            #expect(left.count == 1)
            let refused = await failure { try await database.query(.owner, manyParameters(65_536)) }
            guard case .failed(sqlstate: "54000", let message) = refused else {
                Issue.record("not refused: \(String(describing: refused))")
                return
            }
            #expect(message.contains("65536: pass arrays"))
        }
    }

    @Test("rows know how many were affected, and a large result arrives whole")
    func counts() async throws {
        try await withDatabase { database in
            let inserted = try await database.query(
                .owner,
                "INSERT INTO counts SELECT n, n FROM generate_series(1, 5000) AS n"
            )
            #expect(inserted.affected == 5000)
            #expect(inserted.isEmpty)
            let text = String(repeating: "ü", count: 500_000)
            let rows = try await database.query(
                .owner,
                "SELECT id, \(text)::text AS t FROM counts WHERE id <= 20"
            )
            #expect(rows.count == 20)
            #expect(try rows.allSatisfy { try $0("t") == text })
            #expect(try await database.query(.owner, "DELETE FROM counts WHERE id > 10").affected == 4990)
        }
    }
}

private func manyParameters(_ count: Int) -> Statement {
    var text = Statement.StringInterpolation(literalCapacity: count * 8, interpolationCount: count)
    text.appendLiteral("SELECT 1 WHERE 1 IN (")
    for number in 0..<count {
        if number > 0 { text.appendLiteral(",") }
        text.appendInterpolation(number)
    }
    text.appendLiteral(")")
    return Statement(stringInterpolation: text)
}
