// A database for each test, cloned from a template that is migrated once: tests run side by side and see nothing
// of each other.

import Database
import Foundation
import Logging

/// A database of one test.
package struct TestDatabase: Sendable {
    /// Its name.
    package let name: String
    /// The superuser's URL of it.
    package let url: String

    /// Makes a database from the template `template`, which stands for what `migrate` does: give a hash of
    /// the migrations, so that an old template is not taken for a new one.
    ///
    /// `migrate` gets the template's URL.
    package static func create(
        template: String = "empty",
        migrating migrate: @Sendable @escaping (_ url: String) async throws -> Void = { _ in }
    ) async throws -> TestDatabase {
        let server = try PostgresServer.url()
        let source = "commune_template_\(template)"
        try await Templates.shared.make(source, on: server, migrate)
        let name = "commune_test_\(UUID().uuidString.lowercased().replacing("-", with: "_"))"
        try await administer(server) { try await $0.script("CREATE DATABASE \(name) TEMPLATE \(source)") }
        return TestDatabase(name: name, url: replacingDatabase(in: server, with: name))
    }

    /// Removes it, with the connections that are still open.
    package func drop() async throws {
        try await administer(try PostgresServer.url()) { [name] in
            try await $0.script("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
        }
    }

    /// Runs `body` with a new database and removes it afterwards, whatever happened.
    package static func with<Value: Sendable>(
        template: String = "empty",
        migrating migrate: @Sendable @escaping (_ url: String) async throws -> Void = { _ in },
        _ body: (TestDatabase) async throws -> Value
    ) async throws -> Value {
        let database = try await create(template: template, migrating: migrate)
        let result: Result<Value, any Error>
        do {
            result = .success(try await body(database))
        } catch {
            result = .failure(error)
        }
        try await database.drop()
        return try result.get()
    }

    /// The same server and user, another database.
    static func replacingDatabase(in url: String, with name: String) -> String {
        guard var components = URLComponents(string: url) else { return url }
        components.path = "/\(name)"
        return components.string ?? url
    }
}

/// Templates of this process; another process may make the same one at the same time.
private actor Templates {
    static let shared = Templates()

    private var making: [String: Task<Void, any Error>] = [:]

    func make(
        _ name: String,
        on server: String,
        _ migrate: @Sendable @escaping (String) async throws -> Void
    ) async throws {
        if let task = making[name] { return try await task.value }
        let task = Task { try await Self.create(name, on: server, migrate) }
        making[name] = task
        try await task.value
    }

    private static func create(
        _ name: String,
        on server: String,
        _ migrate: @Sendable (String) async throws -> Void
    ) async throws {
        try await administer(server) { admin in
            try await admin.transaction(.owner, timeout: .seconds(60)) { lock in
                try await lock.query("SELECT pg_advisory_xact_lock(hashtext(\(name)))")
                let known = try await admin.query(
                    .owner,
                    "SELECT FROM pg_database WHERE datname = \(name)"
                )
                guard known.isEmpty else { return }
                // Under its own name only when it is whole: a process may die while it migrates.
                let draft = "\(name)_draft"
                try await admin.script("DROP DATABASE IF EXISTS \(draft) WITH (FORCE)")
                try await admin.script("CREATE DATABASE \(draft) TEMPLATE template0")
                try await migrate(TestDatabase.replacingDatabase(in: server, with: draft))
                try await disconnectAll(from: draft, admin)
                try await admin.script("ALTER DATABASE \(draft) RENAME TO \(name)")
            }
        }
    }

    /// A template can be neither renamed nor cloned while somebody is connected.
    private static func disconnectAll(from name: String, _ admin: Database) async throws {
        try await admin.query(
            .owner,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = \(name)"
        )
    }
}

/// Runs `body` with a small pool on the server's own database.
///
/// Cloning takes its turn there, so wait long.
private func administer<Value: Sendable>(
    _ server: String,
    _ body: @Sendable (Database) async throws -> Value
) async throws -> Value {
    var configuration = Database.Configuration(url: server)
    configuration.connectionsMax = 3
    configuration.statementTimeout = .seconds(60)
    let database = Database(configuration, logger: Logger(label: "tests"))
    let result: Result<Value, any Error>
    do {
        result = .success(try await body(database))
    } catch {
        result = .failure(error)
    }
    await database.close()
    return try result.get()
}
