// The platform's own domain, on which every organization may have inboxes without any DNS of its own.

import Database
import Mail
package import Platform

/// A domain of the platform.
package struct PlatformDomain: Sendable {
    package let id: DomainID
    package let name: String
}

extension Store {
    /// The platform domain of that name, made with fresh DKIM keys when it is not there yet.
    package func platformDomain(named name: String) async throws -> PlatformDomain {
        if let found = try await findPlatformDomain(name) { return found }
        let id = DomainID()
        let rsa = try DKIMKey.generate(.rsa)
        let ed25519 = try DKIMKey.generate(.ed25519)
        try await database.query(
            .lookup,
            """
            INSERT INTO platform_domains (id, name, dkim_rsa_private, dkim_rsa_record, dkim_ed25519_private,
                dkim_ed25519_record)
            VALUES (\(id), \(name), \(secrets.seal(rsa.privateBytes, place: place(id, "rsa"))), \(rsa.publicRecord),
                \(secrets.seal(ed25519.privateBytes, place: place(id, "ed25519"))), \(ed25519.publicRecord))
            ON CONFLICT (name) DO NOTHING
            """
        )
        // Another process may have been first; its keys are the ones that count.
        guard let made = try await findPlatformDomain(name) else {
            throw StoreFault.unknown("The platform domain \(name) could not be made.")
        }
        return made
    }

    /// The signers of a domain of the platform, RSA first; nil when it is none.
    func platformSigners(domain name: String) async throws -> [DKIM.Signer]? {
        let rows = try await database.query(
            .worker,
            "SELECT id, dkim_rsa_private, dkim_ed25519_private FROM platform_domains WHERE name = \(name)"
        )
        guard let row = rows.first else { return nil }
        let id: DomainID = try row("id")
        return [
            DKIM.Signer(
                domain: name,
                selector: DKIMSelector.rsa,
                key: try DKIMKey(
                    .rsa,
                    privateBytes: secrets.open(try row("dkim_rsa_private"), place: place(id, "rsa"))
                )
            ),
            DKIM.Signer(
                domain: name,
                selector: DKIMSelector.ed25519,
                key: try DKIMKey(
                    .ed25519,
                    privateBytes: secrets.open(try row("dkim_ed25519_private"), place: place(id, "ed25519"))
                )
            ),
        ]
    }

    /// The names of all platform domains.
    package func platformDomainNames() async throws -> Set<String> {
        Set(try await database.query(.worker, "SELECT name FROM platform_domains").map { try $0("name") })
    }

    private func findPlatformDomain(_ name: String) async throws -> PlatformDomain? {
        try await database.query(.lookup, "SELECT id, name FROM platform_domains WHERE name = \(name)").first
            .map { PlatformDomain(id: try $0("id"), name: try $0("name")) }
    }

    private func place(_ id: DomainID, _ algorithm: String) -> String {
        "platform_domains/\(id)/\(algorithm)"
    }
}

extension Store {
    /// Reads `COMMUNE_DEFAULT_DOMAIN`, the platform domain on which inboxes are made that name none.
    package static func defaultDomain(reading settings: inout Settings) -> String? {
        let variable = "COMMUNE_DEFAULT_DOMAIN"
        guard let text = settings.required(variable, purpose: "is the domain of inboxes that name none")
        else { return nil }
        guard let name = try? DomainName(text) else {
            settings.fault(variable, "is not a domain name.")
            return nil
        }
        return name.ascii
    }
}
