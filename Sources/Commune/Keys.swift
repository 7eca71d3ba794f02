// commune keys: API keys of an organization.

import ArgumentParser
import Foundation
import Platform
import Redis
import Store

struct Keys: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "API keys.",
        discussion: "Example: commune keys create --org acme --scopes read,write",
        subcommands: [KeyCreate.self, KeyList.self, KeyRevoke.self]
    )
}

/// The organization whose keys are meant.
struct KeyOwner: ParsableArguments {
    @Option(help: "The organization's name.")
    var org: String

    func id(_ store: Store) async throws -> OrgID {
        guard let id = try await store.organization(named: org) else {
            throw Failure("There is no organization named “\(org)”. Make it with: commune orgs create \(org)")
        }
        return id
    }
}

struct KeyCreate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Makes an API key and prints it, once.",
        discussion: """
            Example: commune keys create --org acme --scope messages:write --name mailer
            Example: commune keys create --org acme --scopes read,write --expires 90d --inboxes support@agents.example.com
            Example: KEY=$(commune keys create --org acme --scope admin --quiet)
            """
    )

    @OptionGroup var owner: KeyOwner

    @Option(
        help: "What the key may do: admin, read, write, data:delete, or one like messages:write. Repeatable."
    )
    var scope: [String] = []

    @Option(help: "The same as a list with commas.")
    var scopes: String?

    @Option(help: "A name to tell keys apart.")
    var name = "key"

    @Option(
        help:
            "When it ends: an ISO 8601 date, or from now in days or hours, as in 90d or 12h. Never when left out."
    )
    var expires: String?

    @Option(help: "The only inboxes it sees, by address or id, with commas. Every one when left out.")
    var inboxes: String?

    @Option(help: "The only domains it sees, by id, with commas. Every one when left out.")
    var domains: String?

    @Flag(help: "Print the key alone.")
    var quiet = false

    private var wanted: [String] { scope + elements(scopes) }

    func validate() throws {
        guard !wanted.isEmpty else { throw ValidationError("Give --scope or --scopes.") }
        guard (1...200).contains(name.unicodeScalars.count) else {
            throw ValidationError("The name must be 1 to 200 characters.")
        }
        if let expires, Self.end(expires) == nil {
            throw ValidationError(
                "--expires must be a date that is to come, or a time from now as in 90d or 12h."
            )
        }
        for id in elements(domains) where DomainID(id) == nil {
            throw ValidationError("“\(id)” is not the id of a domain.")
        }
        // An option that was given and names nothing must not make a key without limits.
        for (option, value) in [("--inboxes", inboxes), ("--domains", domains)] {
            if value != nil, elements(value).isEmpty { throw ValidationError("\(option) names none.") }
        }
    }

    func run() async throws {
        try await Installation.open(checking: { _ = SecretBox(reading: &$0) }) { installation in
            let store = installation.store()
            let org = try await owner.id(store)
            var key = NewKey(name: name, scopes: wanted)
            key.expiresAt = expires.flatMap { Self.end($0) }
            key.domains = elements(domains).compactMap { DomainID($0) }
            for text in elements(inboxes) { key.inboxes.append(try await Self.inbox(text, store, org)) }
            let made = try await store.createKey(org: org, key)
            print(
                quiet
                    ? made.key.secret : "\(made.key.secret)\nThis key is shown only now. \(made.record.line)"
            )
        }
    }

    private static func inbox(_ text: String, _ store: Store, _ org: OrgID) async throws -> InboxID {
        if let id = InboxID(text) { return id }
        guard let inbox = try await store.inbox(address: text, org: org)
        else {
            throw Failure("The organization has no inbox “\(text)”.")
        }
        return inbox.id
    }

    /// `90d`, `12h`, or an ISO 8601 date; nil for anything else and for what is past.
    static func end(_ text: String, from now: Timestamp = .now) -> Timestamp? {
        if let unit = text.last, let count = Int(text.dropLast()), (1...36_500).contains(count) {
            switch unit {
            case "d": return now + .seconds(count * 86_400)
            case "h": return now + .seconds(count * 3_600)
            default: break
            }
        }
        return Timestamp(iso8601: text).flatMap { $0 > now ? $0 : nil }
    }
}

struct KeyList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "Lists an organization's keys, newest first, those that ended included.",
        discussion: "Example: commune keys list --org acme"
    )

    private static let pageMax = 500

    @OptionGroup var owner: KeyOwner

    func run() async throws {
        try await Installation.open(checking: { _ = SecretBox(reading: &$0) }) { installation in
            let store = installation.store()
            let org = try await owner.id(store)
            var cursor: Cursor?
            repeat {
                let page = try await store.keys(org: org, after: cursor, limit: Self.pageMax)
                for key in page.elements { print("\(key.id) \(key.hint)… \(key.line)") }
                cursor = page.next
            } while cursor != nil
        }
    }
}

struct KeyRevoke: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke",
        abstract: "Ends a key for ever.",
        discussion: """
            With REDIS_URL set every API process hears of it at once; without, a process may take the key for up to 5
            seconds more.

            Example: commune keys revoke --org acme 01980a6e-0000-7000-8000-000000000000
            """
    )

    @OptionGroup var owner: KeyOwner

    @Argument(help: "The key's id, or its first twelve characters, as commune keys list shows them.")
    var key: String

    func run() async throws {
        try await Installation.open(checking: { _ = SecretBox(reading: &$0) }) { installation in
            let store = installation.store()
            let org = try await owner.id(store)
            let id = try await find(store, org)
            guard let ended = try await store.revokeKey(id, org: org) else {
                throw Failure("The organization has no key “\(key)”.")
            }
            await installation.tell(of: id)
            print("Revoked \(ended.id) \(ended.hint)… \(ended.name).")
        }
    }

    private func find(_ store: Store, _ org: OrgID) async throws -> KeyID {
        if let id = KeyID(key) { return id }
        var cursor: Cursor?
        var found: [KeyRecord] = []
        repeat {
            let page = try await store.keys(org: org, after: cursor, limit: 500)
            found += page.elements.filter { $0.hint == key }
            cursor = page.next
        } while cursor != nil
        guard let only = found.first, found.count == 1 else {
            throw Failure(
                found.isEmpty
                    ? "The organization has no key “\(key)”."
                    : "Several keys begin with “\(key)”: give the id."
            )
        }
        return only.id
    }
}

extension Installation {
    /// Has the API's processes forget a key at once, as far as they can be reached.
    fileprivate func tell(of key: KeyID) async {
        var settings = Settings()
        guard settings.text("REDIS_URL") != nil, let configuration = Redis.Configuration(reading: &settings)
        else {
            return
        }
        let redis = Redis(configuration, logger: logger)
        // It is revoked already, and no process believes what it remembers for longer than 5 seconds.
        _ = try? await redis.command("PUBLISH", RedisArgument(KeyChannel.name), RedisArgument("\(key)"))
        await redis.close()
    }
}

extension KeyRecord {
    /// What there is to know of it, in one line.
    fileprivate var line: String {
        var parts = ["“\(name)”", status, "scopes: \(scopes.joined(separator: ","))"]
        if !inboxes.isEmpty { parts.append("inboxes: \(inboxes.map(\.description).joined(separator: ","))") }
        if !domains.isEmpty { parts.append("domains: \(domains.map(\.description).joined(separator: ","))") }
        parts.append("made: \(createdAt.iso8601)")
        if let expiresAt { parts.append("expires: \(expiresAt.iso8601)") }
        parts.append("last used: \(lastUsedAt?.iso8601 ?? "never")")
        return parts.joined(separator: "  ")
    }
}

private func elements(_ list: String?) -> [String] {
    (list ?? "").split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
}
