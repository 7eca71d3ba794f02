// Organizations: the tenants.

import Database
package import Platform

extension Store {
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
