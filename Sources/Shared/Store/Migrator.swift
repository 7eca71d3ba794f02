// Brings the schema up to date: each file of Migrations/ once, in order, under an advisory lock.
//
// Files expand first and contract in a later release, so that old and new processes can run side by side during a
// deployment. Their names do not begin with a digit, which the embedding generator would replace.

import Crypto
package import Database
import Foundation
package import Logging
import Platform

/// Applies migrations.
package struct Migrator: Sendable {
    /// One migration: its version, and its SQL as it was embedded.
    package struct Migration: Sendable {
        package let version: Int
        package let name: String
        package let sql: String
    }

    /// Why the schema could not be brought up to date.
    package enum Fault: Error, Sendable, CustomStringConvertible {
        /// The database has a migration that this program does not know: it is older than the schema.
        case newerSchema(version: Int)
        /// A migration that was applied has been altered since.
        case altered(name: String)

        package var description: String {
            switch self {
            case .newerSchema(let version):
                "The database has migration \(version), which this program does not know: run a newer version of it."
            case .altered(let name):
                "Migration \(name) was applied with other content than this program has."
            }
        }
    }

    /// All migrations, oldest first; a test compares this list with the folder.
    package static let all: [Migration] = [
        Migration("V0001_initial", PackageResources.V0001_initial_sql),
        Migration("V0002_queue", PackageResources.V0002_queue_sql),
        Migration("V0003_delivery", PackageResources.V0003_delivery_sql),
        Migration("V0004_domains", PackageResources.V0004_domains_sql),
        Migration("V0005_attachments", PackageResources.V0005_attachments_sql),
        Migration("V0006_keys", PackageResources.V0006_keys_sql),
        Migration("V0007_reading", PackageResources.V0007_reading_sql),
        Migration("V0008_sending", PackageResources.V0008_sending_sql),
        Migration("V0009_inbound", PackageResources.V0009_inbound_sql),
        Migration("V0011_feedback", PackageResources.V0011_feedback_sql),
    ]

    private static var newestKnown: Int { all.last?.version ?? 0 }

    /// A name for this set of migrations, which changes when any of them does.
    package static var fingerprint: String {
        var hash = SHA256()
        for migration in all { hash.update(data: Data(migration.sql.utf8)) }
        return [UInt8](hash.finalize().prefix(8)).hexadecimal
    }

    // "commune" in ASCII: the key of the advisory lock.
    private static let lockKey = 0x63_6f_6d_6d_75_6e_65
    private static let lock: Statement = "SELECT pg_advisory_xact_lock(\(lockKey)) IS NULL AS locked"

    private let database: Database
    private let logger: Logger

    /// A migrator for one database, connected as the schema's owner.
    package init(_ database: Database, logger: Logger) {
        self.database = database
        self.logger = logger
    }

    /// Applies what is missing and returns the names; each migration is a transaction of its own.
    @discardableResult
    package func run() async throws -> [String] {
        // Under the lock like all else: of two at once, IF NOT EXISTS fails one.
        try await database.transaction(.owner, timeout: .seconds(3600)) { transaction in
            try await transaction.query(Self.lock)
            try await transaction.query(
                """
                CREATE TABLE IF NOT EXISTS schema_migrations (
                    version integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now())
                """
            )
        }
        var applied: [String] = []
        for migration in Self.all where try await apply(migration) { applied.append(migration.name) }
        return applied
    }

    /// The version of the schema, 0 when it was never migrated.
    package func version() async throws -> Int {
        let rows = try await database.query(
            .owner,
            "SELECT to_regclass('public.schema_migrations') IS NOT NULL AS present"
        )
        guard let row = rows.first, try row("present") else { return 0 }
        let newest = try await database.query(
            .owner,
            "SELECT coalesce(max(version), 0)::integer AS version FROM schema_migrations"
        )
        return try newest.first.map { try $0("version") } ?? 0
    }

    private func apply(_ migration: Migration) async throws -> Bool {
        try await database.transaction(.owner, timeout: .seconds(3600)) { transaction in
            // A second process waits here, and then finds the migration applied.
            try await transaction.query(Self.lock)
            let known = try await transaction.query(
                "SELECT version, name, digest FROM schema_migrations ORDER BY version"
            )
            if let newest = try known.last.map({ try $0("version") as Int }), newest > Self.newestKnown {
                throw Fault.newerSchema(version: newest)
            }
            if let row = try known.first(where: { try $0("version") == migration.version }) {
                guard try row("digest") == migration.digest else { throw Fault.altered(name: migration.name) }
                return false
            }
            logger.notice("Applying a migration.", metadata: ["migration": "\(migration.name)"])
            try await transaction.script(migration.sql)
            try await transaction.query(
                """
                INSERT INTO schema_migrations (version, name, digest)
                VALUES (\(migration.version), \(migration.name), \(migration.digest))
                """
            )
            return true
        }
    }
}

extension Migrator.Migration {
    /// Reads version and name from the file's name, `V0001_initial`.
    fileprivate init(_ name: String, _ bytes: [UInt8]) {
        self.init(
            version: Int(name.dropFirst().prefix(4)) ?? 0,
            name: name,
            sql: String(decoding: bytes, as: UTF8.self)
        )
    }

    fileprivate var digest: String { [UInt8](SHA256.hash(data: Data(sql.utf8))).hexadecimal }
}
