// Organizations: the tenants.

import Database
package import Platform

/// A tenant.
package struct Organization: Sendable {
    package let id: OrgID
    package let name: String
    package let createdAt: Timestamp
}

extension Store {
    /// The caller's own organization; nil when it was deleted meanwhile.
    package func organization(_ id: OrgID) async throws -> Organization? {
        try await database.query(
            .tenant(id),
            "SELECT name, created_at FROM organizations WHERE id = \(id)"
        ).first.map { Organization(id: id, name: try $0("name"), createdAt: try $0("created_at")) }
    }

    /// Makes an organization and returns its id; a name is taken once.
    package func createOrganization(named name: String) async throws -> OrgID {
        let id = OrgID()
        do {
            try await database.query(
                .tenant(id),
                "INSERT INTO organizations (id, name) VALUES (\(id), \(name))"
            )
        } catch DatabaseError.unique {
            throw StoreFault.taken("An organization named “\(name)” exists already.")
        }
        return id
    }

    /// The organization of that name; for operators, who see all.
    package func organization(named name: String) async throws -> OrgID? {
        try await database.query(.worker, "SELECT id FROM organizations WHERE name = \(name)").first.map {
            try $0("id")
        }
    }
}
