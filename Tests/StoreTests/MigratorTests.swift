// Migrations: complete, applied once, and never over a schema that they do not know.

import Database
import Foundation
import Platform
import Store
import TestSupport
import Testing

@Suite("Migrator")
struct MigratorTests {
    private var folder: URL {
        URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Sources/Shared/Store/Migrations").standardizedFileURL
    }

    @Test("the list of migrations is the folder's, in order and word for word")
    func list() throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        #expect(Migrator.all.map { "\($0.name).sql" } == files)
        let versions = Migrator.all.map(\.version)
        #expect(versions == Array(Set(versions)).sorted())
        for (migration, file) in zip(Migrator.all, files) {
            let text = try String(contentsOf: folder.appending(path: file), encoding: .utf8)
            #expect(migration.sql == text, "\(file): build again, the embedded copy is old")
        }
    }

    @Test("a second run changes nothing")
    func twice() async throws {
        try await withEmptyDatabase { database, _ in
            let migrator = Migrator(database, logger: quiet)
            #expect(try await migrator.version() == 0)
            #expect(try await migrator.run() == Migrator.all.map(\.name))
            let before = try await schema(database)
            #expect(try await migrator.run().isEmpty)
            #expect(try await schema(database) == before)
            #expect(try await migrator.version() == Migrator.all.last?.version)
        }
    }

    @Test("of several migrators at once one does the work and the others find it done", arguments: 0..<5)
    func together(_ round: Int) async throws {
        try await withEmptyDatabase { _, made in
            let applied = try await withThrowingTaskGroup(of: [String].self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        let database = makePool(made)
                        let result: Result<[String], any Error>
                        do {
                            result = .success(try await Migrator(database, logger: quiet).run())
                        } catch {
                            result = .failure(error)
                        }
                        await database.close()
                        return try result.get()
                    }
                }
                return try await group.reduce(into: [String]()) { $0 += $1 }
            }
            #expect(applied.sorted() == Migrator.all.map(\.name))
        }
    }

    @Test("a migration that was altered after it ran is refused")
    func altered() async throws {
        try await withEmptyDatabase { database, _ in
            let migrator = Migrator(database, logger: quiet)
            try await migrator.run()
            try await database.query(
                .owner,
                "UPDATE schema_migrations SET digest = 'other' WHERE version = 1"
            )
            let error = await failure { try await migrator.run() }
            guard case .altered(let name)? = error as? Migrator.Fault else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(name == Migrator.all[0].name)
        }
    }

    @Test("a schema newer than the program is refused, and left alone")
    func newer() async throws {
        try await withEmptyDatabase { database, _ in
            let migrator = Migrator(database, logger: quiet)
            try await migrator.run()
            try await database.query(
                .owner,
                "INSERT INTO schema_migrations (version, name, digest) VALUES (9999, 'V9999_later', 'x')"
            )
            let before = try await schema(database)
            let error = await failure { try await migrator.run() }
            guard case .newerSchema(let version)? = error as? Migrator.Fault else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(version == 9999)
            #expect(try await schema(database) == before)
        }
    }

    @Test("the fingerprint names this set of migrations")
    func fingerprint() {
        #expect(Migrator.fingerprint.count == 16)
        #expect(Migrator.fingerprint == Migrator.fingerprint)
        #expect([UInt8](hexadecimal: Migrator.fingerprint) != nil)
    }

    /// Every relation with its columns, and every row of the list of migrations.
    private func schema(_ database: Database) async throws -> [String] {
        try await database.batch(
            .owner,
            [
                """
                SELECT c.relname || '.' || a.attname || ' ' || a.atttypid::regtype AS line
                FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1
                """,
                "SELECT m::text AS line FROM schema_migrations m ORDER BY 1",
            ]
        ).flatMap { try $0.map { try $0("line") as String } }
    }
}
