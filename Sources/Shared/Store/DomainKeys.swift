// The signing keys of domains: an organization's own, made with the domain and sealed for its row, and the platform's.

import Database
import Foundation
package import Mail
package import Platform

/// Where our public keys stand: `commune._domainkey.<domain>`.
package enum DKIMSelector {
    package static let rsa = "commune"
    package static let ed25519 = "commune-ed"
}

/// A new pair of keys for one domain.
struct DomainKeys: Sendable {
    let rsa: DKIMKey
    let ed25519: DKIMKey

    /// Makes them on a thread of its own: looking for primes takes up to a second, too long for the few that serve all.
    static func generate() async throws -> DomainKeys {
        try await withCheckedThrowingContinuation { continuation in
            let thread = Thread {
                continuation.resume(
                    with: Result {
                        DomainKeys(rsa: try DKIMKey.generate(.rsa), ed25519: try DKIMKey.generate(.ed25519))
                    }
                )
            }
            thread.name = "domain keys"
            thread.start()
        }
    }

    /// Their rows.
    func statements(of domain: DomainID, org: OrgID, _ secrets: SecretBox) throws -> [Statement] {
        try [("rsa", DKIMSelector.rsa, rsa), ("ed25519", DKIMSelector.ed25519, ed25519)].map {
            algorithm,
            selector,
            key in
            let sealed = try secrets.seal(key.privateBytes, place: Self.place(algorithm, domain, org))
            return """
                INSERT INTO domain_keys (org_id, domain_id, algorithm, selector, private_key, public_record)
                VALUES (\(org), \(domain), \(algorithm), \(selector), \(sealed), \(try key.publicRecord))
                """
        }
    }

    static func place(_ algorithm: String, _ domain: DomainID, _ org: OrgID) -> String {
        "domain_keys/\(org)/\(domain)/\(algorithm)"
    }
}

extension Store {
    /// The signers of a sending domain, RSA first; nil when the domain has no keys here.
    package func signers(domain name: String, org: OrgID) async throws -> [DKIM.Signer]? {
        if let own = try await ownSigners(domain: name, org: org) { return own }
        return try await platformSigners(domain: name)
    }

    private func ownSigners(domain name: String, org: OrgID) async throws -> [DKIM.Signer]? {
        let rows = try await database.query(
            .worker,
            """
            SELECT k.domain_id, k.algorithm, k.selector, k.private_key
            FROM domains d JOIN domain_keys k ON k.org_id = d.org_id AND k.domain_id = d.id
            WHERE d.org_id = \(org) AND d.name = \(name) AND d.status = 'verified' ORDER BY k.algorithm DESC
            """
        )
        guard !rows.isEmpty else { return nil }
        return try rows.map { row in
            let algorithm: String = try row("algorithm")
            let place = DomainKeys.place(algorithm, try row("domain_id"), org)
            return DKIM.Signer(
                domain: name,
                selector: try row("selector"),
                key: try DKIMKey(
                    algorithm == "rsa" ? .rsa : .ed25519,
                    privateBytes: secrets.open(try row("private_key"), place: place)
                )
            )
        }
    }

    /// The public DKIM record of one of our own domains, so that mail between them needs no DNS to be verified.
    package func ownDKIMRecord(domain name: String, selector: String) async throws -> String? {
        let found = try await database.batch(
            .worker,
            [
                "SELECT dkim_rsa_record, dkim_ed25519_record FROM platform_domains WHERE name = \(name)",
                """
                SELECT k.public_record FROM verified_domains v
                JOIN domain_keys k ON k.org_id = v.org_id AND k.domain_id = v.domain_id
                WHERE v.name = \(name) AND k.selector = \(selector)
                """,
            ]
        )
        if let row = found[1].first { return try row("public_record") }
        guard let row = found[0].first else { return nil }
        switch selector {
        case DKIMSelector.rsa: return try row("dkim_rsa_record")
        case DKIMSelector.ed25519: return try row("dkim_ed25519_record")
        default: return nil
        }
    }
}
