// commune orgs: organizations, the tenants.

import ArgumentParser
import Platform
import Store

struct Orgs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Organizations.",
        discussion: "Example: commune orgs create acme",
        subcommands: [Create.self]
    )

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes an organization.",
            discussion: "Example: commune orgs create acme"
        )

        @Argument(help: "Its name; one of a kind.")
        var name: String

        @Flag(help: "Print the id alone.")
        var quiet = false

        func validate() throws {
            guard (1...200).contains(name.utf8.count) else {
                throw ValidationError("The name must be 1 to 200 bytes.")
            }
        }

        func run() async throws {
            try await Installation.open(checking: { _ = SecretBox(reading: &$0) }) { installation in
                let id = try await installation.store().createOrganization(named: name)
                print(quiet ? id.description : "Made organization \(name) (\(id)).")
            }
        }
    }
}
