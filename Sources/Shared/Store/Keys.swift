// API keys: `comm_` and 64 hexadecimal digits, of which only the SHA-256 is kept.

import Crypto
package import Database
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
    /// nil: never.
    package let expiresAt: Timestamp?

    /// What the database may show this caller of its organization; nil when that is all.
    package var limits: KeyLimits? { KeyLimits(key: key, inboxes: inboxes, domains: domains) }

    /// Whether the key grants a scope: by name, by `read` or `write`, or as `admin`.
    ///
    /// `data:delete` is not a write: only its name and `admin` grant it.
    package func mayUse(_ scope: String) -> Bool {
        if scopes.contains("admin") || scopes.contains(scope) { return true }
        if scope.hasSuffix(":read") { return scopes.contains("read") }
        if scope.hasSuffix(":write") { return scopes.contains("write") }
        return false
    }
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

    /// What a key is known by: SHA-256 of its text.
    package static func hash(_ secret: some StringProtocol) -> [UInt8] {
        [UInt8](SHA256.hash(data: Data(secret.utf8)))
    }
}

/// Where the ids of keys that have changed are published, for processes that remember keys.
package enum KeyChannel {
    package static let name = "commune:keys"
}

/// A key as its maker wants it.
package struct NewKey: Sendable {
    /// Inboxes or domains that one key can be limited to.
    package static let limitsMax = 100

    package var name: String
    package var scopes: [String]
    /// Empty: as many as the maker has.
    package var inboxes: [InboxID] = []
    package var domains: [DomainID] = []
    /// nil: as long as the maker.
    package var expiresAt: Timestamp?

    /// A key of these scopes without limits.
    package init(name: String, scopes: [String]) {
        self.name = name
        self.scopes = scopes
    }
}

/// A key as it is listed.
package struct KeyRecord: Sendable {
    package let id: KeyID
    package let name: String
    /// Its first twelve characters.
    package let hint: String
    package let scopes: [String]
    package let inboxes: [InboxID]
    package let domains: [DomainID]
    package let createdAt: Timestamp
    package let expiresAt: Timestamp?
    package let revokedAt: Timestamp?
    /// Exact to a minute.
    package let lastUsedAt: Timestamp?
    /// By the database's clock.
    package let isExpired: Bool

    /// `active`, `revoked` or `expired`.
    package var status: String { revokedAt != nil ? "revoked" : isExpired ? "expired" : "active" }

    var cursor: Cursor { Cursor(time: createdAt, id: id.uuid) }

    init(_ row: Row) throws {
        id = try row("id")
        name = try row("name")
        hint = try row("hint")
        scopes = try row("scopes")
        inboxes = (try row("inbox_ids") as [UUID]).map(InboxID.init)
        domains = (try row("domain_ids") as [UUID]).map(DomainID.init)
        createdAt = try row("created_at")
        expiresAt = try row("expires_at")
        revokedAt = try row("revoked_at")
        lastUsedAt = try row("last_used_at")
        isExpired = try row("is_expired")
    }

    static let columns: Statement = """
        id, name, hint, scopes, inbox_ids, domain_ids, created_at, expires_at, revoked_at, last_used_at,
        coalesce(expires_at <= now(), false) AS is_expired
        """
}

extension Store {
    /// Makes a key; the answer is the only place where its secret ever is.
    package func createKey(
        org: OrgID,
        name: String,
        scopes: [String],
        expiresAt: Timestamp? = nil
    ) async throws -> APIKey {
        var key = NewKey(name: name, scopes: scopes)
        key.expiresAt = expiresAt
        return try await createKey(org: org, key).key
    }

    /// Makes a key, which grants no more than its maker has; nil is the operator.
    package func createKey(
        org: OrgID,
        _ wanted: NewKey,
        by maker: Caller? = nil
    ) async throws -> (key: APIKey, record: KeyRecord) {
        let wanted = try wanted.granted(by: maker)
        let key = APIKey(id: KeyID(), secret: APIKey.prefix + [UInt8].random(count: 32).hexadecimal)
        let hash = APIKey.hash(key.secret)
        let (inboxes, domains) = (Set(wanted.inboxes), Set(wanted.domains))
        let record = try await database.transaction(.tenant(org)) { transaction in
            let results = try await transaction.batch([
                """
                SELECT id FROM inboxes WHERE org_id = \(org) AND id = ANY (\(Array(inboxes))::uuid[])
                    AND deleted_at IS NULL
                """,
                """
                SELECT id FROM domains WHERE org_id = \(org) AND id = ANY (\(Array(domains))::uuid[])
                UNION SELECT id FROM platform_domains WHERE id = ANY (\(Array(domains))::uuid[])
                """,
                """
                INSERT INTO api_keys (org_id, id, name, hash, hint, scopes, inbox_ids, domain_ids, expires_at)
                VALUES (\(org), \(key.id), \(wanted.name), \(hash), \(String(key.secret.prefix(12))),
                    \(wanted.scopes), \(Array(inboxes)), \(Array(domains)), \(wanted.expiresAt))
                RETURNING \(fragment: KeyRecord.columns)
                """,
                "INSERT INTO api_key_directory (hash, org_id, key_id) VALUES (\(hash), \(org), \(key.id))",
            ])
            guard results[0].count == inboxes.count else { throw StoreFault.unknown("Inbox not found") }
            guard results[1].count == domains.count else { throw StoreFault.unknown("Domain not found") }
            guard let row = results[2].first else { throw DatabaseError.decoding("INSERT returned no key") }
            return try KeyRecord(row)
        }
        return (key, record)
    }

    /// A page of the organization's keys, newest first, those that ended included.
    package func keys(org: OrgID, after cursor: Cursor? = nil, limit: Int) async throws -> Page<KeyRecord> {
        var query: Statement = "SELECT \(fragment: KeyRecord.columns) FROM api_keys WHERE org_id = \(org)"
        query += Self.keyset("created_at", .descending, cursor, limit: limit)
        let rows = try await database.query(.tenant(org), query)
        return Page(try rows.map(KeyRecord.init), limit: limit, cursor: \.cursor)
    }

    /// Ends a key for ever; nil when the organization has none of this id.
    ///
    /// Once more changes nothing.
    package func revokeKey(_ id: KeyID, org: OrgID) async throws -> KeyRecord? {
        try await database.query(
            .tenant(org),
            """
            UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE org_id = \(org) AND id = \(id)
            RETURNING \(fragment: KeyRecord.columns)
            """
        ).first.map(KeyRecord.init)
    }

    /// Whose key this is; nil when there is none, or it was revoked or has expired.
    package func caller(secret: String) async throws -> Caller? {
        try await caller(hash: APIKey.hash(secret))
    }

    /// Whose key this is, by its hash; notes its use, at most once a minute.
    package func caller(hash: [UInt8]) async throws -> Caller? {
        let rows = try await database.query(
            .lookup,
            """
            SELECT org_id, id, name, scopes, inbox_ids, domain_ids, expires_at, use_is_old FROM find_caller(\(hash))
            """
        )
        guard let row = rows.first else { return nil }
        let caller = Caller(
            org: try row("org_id"),
            key: try row("id"),
            keyName: try row("name"),
            scopes: Set(try row("scopes") as [String]),
            inboxes: Set((try row("inbox_ids") as [UUID]).map(InboxID.init)),
            domains: Set((try row("domain_ids") as [UUID]).map(DomainID.init)),
            expiresAt: try row("expires_at")
        )
        if try row("use_is_old") { await noteUse(of: caller) }
        return caller
    }

    private func noteUse(of caller: Caller) async {
        // Of many requests at once one writes and nobody waits. A request does not fail because this cannot be
        // written; the next one tries again.
        _ = try? await database.query(
            .tenant(caller.org),
            """
            UPDATE api_keys SET last_used_at = now() WHERE (org_id, id) IN (
                SELECT org_id, id FROM api_keys WHERE org_id = \(caller.org) AND id = \(caller.key)
                    AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
                FOR UPDATE SKIP LOCKED)
            """
        )
    }
}

extension NewKey {
    /// The key as its maker can grant it: limits and end that are left out are the maker's own.
    fileprivate func granted(by maker: Caller?) throws -> NewKey {
        let unknown = scopes.filter { !APIKey.scopes.contains($0) }
        guard unknown.isEmpty, !scopes.isEmpty else {
            let fault =
                scopes.isEmpty ? "A key needs a scope." : "Unknown scope \(unknown.joined(separator: ", "))."
            throw StoreFault.refused(
                "\(fault) Scopes are: \(APIKey.scopes.sorted().joined(separator: ", "))."
            )
        }
        guard inboxes.count <= Self.limitsMax, domains.count <= Self.limitsMax else {
            throw StoreFault.refused("A key is limited to at most \(Self.limitsMax) inboxes or domains.")
        }
        guard let maker else { return self }
        if let scope = scopes.first(where: { !maker.mayUse($0) }) {
            throw StoreFault.forbidden("A key cannot grant more than its maker has: \(scope).")
        }
        var granted = self
        if inboxes.isEmpty { granted.inboxes = Array(maker.inboxes) }
        if domains.isEmpty { granted.domains = Array(maker.domains) }
        guard maker.inboxes.isEmpty || maker.inboxes.isSuperset(of: granted.inboxes),
            maker.domains.isEmpty || maker.domains.isSuperset(of: granted.domains)
        else {
            throw StoreFault.forbidden("A key cannot reach inboxes or domains that its maker does not reach.")
        }
        if let end = maker.expiresAt {
            guard expiresAt ?? end <= end else {
                throw StoreFault.forbidden("A key cannot outlive its maker, which ends \(end.iso8601).")
            }
            granted.expiresAt = expiresAt ?? end
        }
        return granted
    }
}
