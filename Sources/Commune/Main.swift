// commune: the operator's command.

import ArgumentParser
import Database
import Foundation
import Logging
import Platform
import Store

@main
struct Commune: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "commune",
        abstract: "Operates a Commune installation.",
        discussion: """
            Settings come from the environment (docs/OPERATIONS.md lists them).

            Example: commune orgs create acme && commune keys create --org acme --scope read --scope write
            """,
        subcommands: [Migrate.self, Orgs.self, Keys.self, Domains.self, Queues.self]
    )
}

/// The installation that a subcommand works on.
struct Installation {
    let database: Database
    let logger: Logger
    private let settings: Settings

    /// Opens the database, closes it after `body`, and turns faults into one clear line.
    ///
    /// `check` reads what `body` will need besides, so that all faults are told at once.
    static func open<Value>(
        url variable: String = "DATABASE_URL",
        checking check: (inout Settings) -> Void = { _ in },
        _ body: (Installation) async throws -> Value
    ) async throws -> Value {
        var settings = Settings()
        bootstrapLogging(reading: &settings)
        let configuration = Database.Configuration(reading: &settings, url: variable)
        var checked = settings
        check(&checked)
        checked.exitOnFaults()
        let logger = Logger(label: "commune")
        let installation = Installation(
            database: Database(configuration, logger: logger),
            logger: logger,
            settings: settings
        )
        do {
            let value = try await body(installation)
            await installation.database.close()
            return value
        } catch {
            await installation.database.close()
            throw error
        }
    }

    /// The store, with the secrets that seal its keys.
    func store() -> Store {
        var settings = settings
        let secrets = SecretBox(reading: &settings)
        settings.exitOnFaults()
        guard let secrets else { preconditionFailure("a missing key is a fault") }
        return Store(database, secrets: secrets)
    }

    /// The organization of that name; nil where none is given, and a failure where there is none.
    func organization(named name: String?) async throws -> OrgID? {
        guard let name else { return nil }
        guard let id = try await store().organization(named: name) else {
            throw Failure("There is no organization named “\(name)”.")
        }
        return id
    }

    /// The platform domain's name.
    func defaultDomain() -> String {
        var settings = settings
        let domain = Store.defaultDomain(reading: &settings)
        settings.exitOnFaults()
        return domain ?? ""
    }
}

/// Lets what was printed be seen now, also by who reads a pipe.
func flush() { fflush(nil) }

/// A failure that the operator can act on, as one sentence.
struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

extension StoreFault: CustomStringConvertible {
    package var description: String {
        switch self {
        case .unknown(let message), .taken(let message), .refused(let message), .forbidden(let message),
            .tooLarge(let message):
            message
        case .suppressed: "Every recipient is suppressed."
        }
    }
}
