// commune keys: API keys of an organization.

import ArgumentParser
import Platform
import Store

struct Keys: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "API keys.",
        discussion: "Example: commune keys create --org acme --scope read --scope write",
        subcommands: [Create.self]
    )

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes an API key and prints it, once.",
            discussion: """
                Example: commune keys create --org acme --scope messages:write --name mailer
                Example: KEY=$(commune keys create --org acme --scope admin --quiet)
                """
        )

        @Option(help: "The organization's name.")
        var org: String

        @Option(
            help:
                "What the key may do: admin, read, write, data:delete, or one like messages:write. Repeatable."
        )
        var scope: [String]

        @Option(help: "A name to tell keys apart.")
        var name = "key"

        @Flag(help: "Print the key alone.")
        var quiet = false

        func run() async throws {
            try await Installation.open(checking: { _ = SecretBox(reading: &$0) }) { installation in
                let store = installation.store()
                guard let id = try await store.organization(named: org) else {
                    throw Failure(
                        "There is no organization named “\(org)”. Make it with: commune orgs create \(org)"
                    )
                }
                let key = try await store.createKey(org: id, name: name, scopes: scope)
                if quiet {
                    print(key.secret)
                } else {
                    print(
                        "\(key.secret)\nThis key is shown only now. Scopes: \(scope.joined(separator: ", "))."
                    )
                }
            }
        }
    }
}
