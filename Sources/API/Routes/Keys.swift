// API keys and the organization they belong to.

import Foundation
import Hummingbird
import Platform
import Store

enum KeyRoutes {
    /// A key as callers see it; `key` is there once, at its making.
    struct View: Encodable, Sendable {
        let record: KeyRecord
        var secret: String?

        enum CodingKeys: String, CodingKey {
            case id, name, key, keyPrefix, scopes, status, createdAt, expiresAt, revokedAt, lastUsedAt
            case inboxes = "inbox_ids"
            case domains = "domain_ids"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(record.id, forKey: .id)
            try container.encode(record.name, forKey: .name)
            try container.encodeIfPresent(secret, forKey: .key)
            try container.encode(record.hint, forKey: .keyPrefix)
            try container.encode(record.scopes, forKey: .scopes)
            try container.encode(record.inboxes, forKey: .inboxes)
            try container.encode(record.domains, forKey: .domains)
            try container.encode(record.status, forKey: .status)
            try container.encode(record.createdAt.iso8601, forKey: .createdAt)
            try container.encode(record.expiresAt?.iso8601, forKey: .expiresAt)
            try container.encode(record.revokedAt?.iso8601, forKey: .revokedAt)
            try container.encode(record.lastUsedAt?.iso8601, forKey: .lastUsedAt)
        }
    }

    private struct CreateRequest: Decodable {
        static let nameMax = 200

        let name: String
        let scopes: [String]
        let inboxes: [String]?
        let domains: [String]?
        let expiresAt: String?

        enum CodingKeys: String, CodingKey {
            case name, scopes, permissions
            case inboxes = "inbox_ids"
            case domains = "domain_ids"
            case expiresAt = "expires_at"
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            name = try container.decode(String.self, forKey: .name)
            scopes =
                try container.decodeIfPresent([String].self, forKey: .permissions)
                ?? container.decode([String].self, forKey: .scopes)
            inboxes = try container.decodeIfPresent([String].self, forKey: .inboxes)
            domains = try container.decodeIfPresent([String].self, forKey: .domains)
            expiresAt = try container.decodeIfPresent(String.self, forKey: .expiresAt)
        }

        /// The key it asks for.
        func newKey() throws -> NewKey {
            guard !name.isEmpty, name.unicodeScalars.count <= Self.nameMax,
                !name.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) })
            else {
                throw fault("name", "must be 1 to \(Self.nameMax) characters without control characters.")
            }
            guard Set(scopes).count == scopes.count else {
                throw fault("scopes", "must name each scope once.")
            }
            var key = NewKey(name: name, scopes: scopes)
            key.inboxes = try ids(inboxes, "inbox_ids")
            key.domains = try ids(domains, "domain_ids")
            if let expiresAt {
                guard let time = Timestamp(iso8601: expiresAt) else {
                    throw fault("expires_at", "must be an ISO 8601 date.")
                }
                guard time > .now else { throw fault("expires_at", "must be in the future.") }
                key.expiresAt = time
            }
            return key
        }

        private func ids<Noun>(_ texts: [String]?, _ path: String) throws -> [ID<Noun>] {
            guard let texts else { return [] }
            // An empty list could be taken for “none” as well as for “all”.
            guard (1...NewKey.limitsMax).contains(texts.count) else {
                throw fault(path, "must hold 1 to \(NewKey.limitsMax) ids; leave it out for no limit.")
            }
            return try texts.enumerated().map { index, text in
                guard let id = ID<Noun>(text) else { throw fault("\(path)[\(index)]", "is not an id.") }
                return id
            }
        }

        private func fault(_ path: String, _ message: String) -> APIError {
            .invalid([.init(path: path, message: message)])
        }
    }

    static func list(_ call: Call) async throws -> Answer {
        let page = try await call.store.keys(
            org: call.caller.org,
            after: call.cursor(of: "keys"),
            limit: call.query("limit", in: 1...100, default: 100)
        )
        return try call.answer(page, of: "keys") { View(record: $0) }
    }

    static func create(_ call: Call) async throws -> Answer {
        let wanted = try call.decode(CreateRequest.self).newKey()
        let caller = try call.caller
        let made = try await call.store.createKey(org: caller.org, wanted, by: caller)
        return try Answer(.created, Envelope(data: View(record: made.record, secret: made.key.secret)))
    }

    static func revoke(_ call: Call) async throws -> Answer {
        let id: KeyID = try call.id("key_id", of: "API key")
        guard let record = try await call.store.revokeKey(id, org: call.caller.org) else {
            throw APIError.notFound("API key")
        }
        await call.backend.forget(id)
        return try Answer(.ok, Envelope(data: View(record: record)))
    }

    /// An organization; the published command line reads these members beside `data`.
    private struct OrganizationView: Encodable, Sendable {
        let data: Content
        let id: OrgID
        let name: String
        let tier: String
        let status: String

        struct Content: Encodable, Sendable {
            let id: OrgID
            let name: String
            let tier = "self-hosted"
            let status = "active"
            let createdAt: String
        }

        init(_ organization: Organization) {
            data = Content(
                id: organization.id,
                name: organization.name,
                createdAt: organization.createdAt.iso8601
            )
            (id, name, tier, status) = (data.id, data.name, data.tier, data.status)
        }
    }

    static func organization(_ call: Call) async throws -> Answer {
        guard let organization = try await call.store.organization(call.caller.org) else {
            throw APIError.notFound("Organization")
        }
        return try Answer(.ok, OrganizationView(organization))
    }
}
