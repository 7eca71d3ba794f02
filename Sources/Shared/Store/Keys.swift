// API keys: `comm_` and 64 hexadecimal digits, of which only the SHA-256 is kept.

import Crypto
import Database
import Foundation
package import Platform

/// Who calls, as the key says.
package struct Caller: Sendable {
    package let org: OrgID
    package let key: KeyID
    package let keyName: String
    package let scopes: Set<String>
    /// Empty: every inbox.
    package let inboxes: Set<InboxID>
    /// Empty: every domain.
    package let domains: Set<DomainID>
}

/// A key as it is shown: once with its secret, at its making.
package struct APIKey: Sendable {
    package static let prefix = "comm_"

    package let id: KeyID
    package let secret: String

    /// Every scope there is, and the wide ones that grant many.
    package static let scopes: Set<String> = [
        "admin", "read", "write", "data:delete",
        "domains:read", "domains:write", "inboxes:read", "inboxes:write", "threads:read", "threads:write",
        "messages:read", "messages:write", "attachments:read", "attachments:write",
    ]

    /// Whether a text has the form of a key; others are not looked up.
    package static func isWellFormed(_ text: some StringProtocol) -> Bool {
        text.utf8.count == prefix.utf8.count + 64 && text.hasPrefix(prefix)
            && text.utf8.dropFirst(prefix.utf8.count).allSatisfy { byte in
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
            }
    }

    static func hash(_ secret: String) -> [UInt8] { [UInt8](SHA256.hash(data: Data(secret.utf8))) }
}

extension Store {
    /// Makes a key; the answer is the only place where its secret ever is.
    package func createKey(
        org: OrgID,
        name: String,
        scopes: [String],
        expiresAt: Timestamp? = nil
    ) async throws -> APIKey {
        let unknown = scopes.filter { !APIKey.scopes.contains($0) }
        guard unknown.isEmpty, !scopes.isEmpty else {
            throw StoreFault.refused(
                "Unknown scope \(unknown.joined(separator: ", ")). Scopes are: \(APIKey.scopes.sorted().joined(separator: ", "))."
            )
        }
        let key = APIKey(id: KeyID(), secret: APIKey.prefix + [UInt8].random(count: 32).hexadecimal)
        let hash = APIKey.hash(key.secret)
        try await database.batch(
            .tenant(org),
            [
                """
                INSERT INTO api_keys (org_id, id, name, hash, hint, scopes, expires_at)
                VALUES (\(org), \(key.id), \(name), \(hash), \(String(key.secret.prefix(12))), \(scopes), \(expiresAt))
                """,
                "INSERT INTO api_key_directory (hash, org_id, key_id) VALUES (\(hash), \(org), \(key.id))",
            ]
        )
        return key
    }

    /// Whose key this is; nil when there is none, or it was revoked or has expired.
    package func caller(secret: String) async throws -> Caller? {
        let rows = try await database.query(
            .lookup,
            """
            SELECT org_id, id, name, scopes, inbox_ids, domain_ids FROM find_api_key(\(APIKey.hash(secret)))
            """
        )
        guard let row = rows.first else { return nil }
        return Caller(
            org: try row("org_id"),
            key: try row("id"),
            keyName: try row("name"),
            scopes: Set(try row("scopes") as [String]),
            inboxes: Set((try row("inbox_ids") as [UUID]).map(InboxID.init)),
            domains: Set((try row("domain_ids") as [UUID]).map(DomainID.init))
        )
    }
}
