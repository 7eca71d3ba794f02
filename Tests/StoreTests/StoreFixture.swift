// A migrated database with a store on it.

import Database
import Foundation
import Logging
import Platform
import Store
import TestSupport
import Testing

let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

/// Runs `body` with a pool on an empty database of its own.
func withEmptyDatabase(_ body: (Database, TestDatabase) async throws -> Void) async throws {
    try await TestDatabase.with { made in
        let database = makePool(made)
        try await body(database, made)
        await database.close()
    }
}

/// Runs `body` with a store on a migrated database of its own.
func withStore(_ body: (Store) async throws -> Void) async throws {
    try await TestDatabase.with(template: Migrator.fingerprint, migrating: migrate) { made in
        let database = makePool(made)
        try await body(Store(database, secrets: SecretBox(masterKey: [UInt8](repeating: 5, count: 32))))
        await database.close()
    }
}

/// A small pool on a test's database.
func makePool(_ made: TestDatabase) -> Database {
    var configuration = Database.Configuration(url: made.url)
    configuration.connectionsMax = 4
    return Database(configuration, logger: quiet)
}

private func migrate(_ url: String) async throws {
    let database = Database(Database.Configuration(url: url), logger: quiet)
    try await Migrator(database, logger: quiet).run()
    await database.close()
}

/// The only row.
func only(_ rows: Rows) throws -> Row {
    #expect(rows.count == 1)
    return try #require(rows.first)
}

/// The error that `act` throws, nil if it throws none.
func failure(_ act: () async throws -> Void) async -> (any Error)? {
    do {
        try await act()
        return nil
    } catch {
        return error
    }
}
