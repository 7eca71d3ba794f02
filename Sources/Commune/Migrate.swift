// commune migrate: brings the schema up to date.

import ArgumentParser
import Platform
import Store

struct Migrate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Brings the database's schema up to date, and makes the platform domain.",
        discussion: """
            Connects by DATABASE_DIRECT_URL, or by DATABASE_URL when that is not set: migrations want a session of their \
            own, which PgBouncer in transaction mode does not give. Running it again changes nothing.

            Example: DATABASE_URL=postgres://commune@localhost/commune commune migrate
            """
    )

    func run() async throws {
        let variable = Settings().text("DATABASE_DIRECT_URL") == nil ? "DATABASE_URL" : "DATABASE_DIRECT_URL"
        let needed = { (settings: inout Settings) in
            _ = SecretBox(reading: &settings)
            _ = Store.defaultDomain(reading: &settings)
        }
        try await Installation.open(url: variable, checking: needed) { installation in
            let store = installation.store()
            let domain = installation.defaultDomain()
            let applied = try await Migrator(installation.database, logger: installation.logger).run()
            _ = try await store.platformDomain(named: domain)
            print(
                applied.isEmpty ? "The schema is up to date." : "Applied: \(applied.joined(separator: ", "))"
            )
        }
    }
}
