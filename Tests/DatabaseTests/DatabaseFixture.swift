// A database with the roles that `Access` speaks as, and one table that knows organizations.

import Database
import Logging
import TestSupport
import Testing

let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

private let schema = """
    DO $roles$
    DECLARE wanted text;
    BEGIN
        FOREACH wanted IN ARRAY ARRAY['commune_app', 'commune_worker'] LOOP
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END LOOP;
    END
    $roles$;
    CREATE TABLE notes (
        id bigint PRIMARY KEY,
        org_id uuid NOT NULL DEFAULT nullif(current_setting('commune.org', true), '')::uuid,
        text text CHECK (text <> 'forbidden'),
        CONSTRAINT notes_text_once UNIQUE (text)
    );
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE notes FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON notes TO commune_app
        USING (org_id = nullif(current_setting('commune.org', true), '')::uuid);
    CREATE POLICY worker ON notes TO commune_worker USING (true);
    CREATE TABLE counts (id int PRIMARY KEY, n bigint NOT NULL);
    GRANT ALL ON notes, counts TO commune_app, commune_worker;
    """

private func migrate(_ url: String) async throws {
    let database = Database(Database.Configuration(url: url), logger: quiet)
    try await database.script(schema)
    await database.close()
}

/// Runs `body` with a pool on a database of its own.
func withDatabase(
    _ change: (inout Database.Configuration) -> Void = { _ in },
    _ body: (Database) async throws -> Void
) async throws {
    try await TestDatabase.with(template: "database_tests_1", migrating: migrate) { made in
        var configuration = Database.Configuration(url: made.url)
        configuration.connectionsMax = 4
        change(&configuration)
        let database = Database(configuration, logger: quiet)
        try await body(database)
        await database.close()
    }
}

/// Runs `body` with a pool on a server of its own, which the test may stop.
func withServer(
    settings: [String] = [],
    _ change: (inout Database.Configuration) -> Void = { _ in },
    _ body: (Database, PostgresServer) async throws -> Void
) async throws {
    let server = try PostgresServer(settings: settings)
    try await migrate(server.url())
    var configuration = Database.Configuration(url: server.url())
    configuration.connectionsMax = 4
    change(&configuration)
    let database = Database(configuration, logger: quiet)
    try await body(database, server)
    await database.close()
}

/// Asks every few milliseconds until it is so, for at most half a minute.
func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while ContinuousClock.now < deadline {
        if try await condition() { return }
        // Nothing announces it; asking is the only way.
        try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record("it never came true: \(what)")
}

/// Returns when a statement that holds `text` runs on the tests' server.
func untilRunning(_ text: String) async throws {
    try await asking { observer in
        try await eventually("\(text) runs") {
            try await observer.query(
                .owner,
                """
                SELECT pid FROM pg_stat_activity
                WHERE state = 'active' AND position(\(text) IN query) > 0 AND pid <> pg_backend_pid()
                """
            ).count > 0
        }
    }
}

/// Returns when the tests' server has lost the backend.
func untilGone(_ pid: Int) async throws {
    try await asking { observer in
        try await eventually("backend \(pid) is gone") {
            try await observer.query(.owner, "SELECT pid FROM pg_stat_activity WHERE pid = \(Int32(pid))")
                .count
                == 0
        }
    }
}

private func asking(_ body: (Database) async throws -> Void) async throws {
    var configuration = Database.Configuration(url: try PostgresServer.url())
    configuration.connectionsMax = 1
    let observer = Database(configuration, logger: quiet)
    try await body(observer)
    await observer.close()
}

/// The error that `act` throws, nil if it throws none.
func failure(_ act: () async throws -> Void) async -> DatabaseError? {
    do {
        try await act()
        return nil
    } catch {
        return error as? DatabaseError
    }
}

/// The only row.
func only(_ rows: Rows) throws -> Row {
    #expect(rows.count == 1)
    return try #require(rows.first)
}
