// The tenant tables as the catalogue knows them, and a row for each: a table of a later migration is covered the
// moment it is there.

import Database
import Foundation
import Platform
import Store
import Testing

/// A table that belongs to organizations.
struct TenantTable: Sendable {
    let name: String
    /// The column that says whose row it is.
    let owner: String
    /// Columns that a row must be given, with an expression that makes a fitting value.
    let columns: [(name: String, value: String)]

    /// Every table of the schema with an `org_id`, and `organizations`.
    static func all(_ database: Database) async throws -> [TenantTable] {
        let rows = try await database.query(
            .owner,
            """
            SELECT c.relname AS name, a.attname AS attribute, format_type(a.atttypid, NULL) AS type,
                a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS needed,
                (SELECT min(pg_get_constraintdef(k.oid)) FROM pg_constraint k
                    WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]) AS check
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
                AND (c.relname = 'organizations' OR EXISTS (SELECT FROM pg_attribute o
                    WHERE o.attrelid = c.oid AND o.attname = 'org_id' AND NOT o.attisdropped))
            ORDER BY c.relname, a.attnum
            """
        )
        return try Dictionary(grouping: rows) { try $0("name") as String }.sorted { $0.key < $1.key }.map {
            name,
            rows in
            let owner = name == "organizations" ? "id" : "org_id"
            let columns = try rows.filter { try $0("needed") && $0("attribute") != owner }.map { row in
                let column: String = try row("attribute")
                let value = try value(of: row("type"), check: row("check"))
                return (
                    column, try #require(value, "\(name).\(column) has a type that this test cannot make")
                )
            }
            return TenantTable(name: name, owner: owner, columns: columns)
        }
    }

    /// One row of the organization.
    func insert(for org: OrgID) -> Statement {
        let names = ([owner] + columns.map(\.name)).joined(separator: ", ")
        let values = columns.map { ", \($0.value)" }.joined()
        return "INSERT INTO \(raw: name) (\(raw: names)) VALUES (\(org)\(raw: values))"
    }

    private static func value(of type: String, check: String?) throws -> String? {
        if let allowed = check?.firstMatch(of: /'([^']*)'/)?.1 { return "'\(allowed)'" }
        return switch type {
        case "uuid": "gen_random_uuid()"
        case "text": "md5(random()::text)"
        case "bytea": "decode(md5(random()::text), 'hex')"
        case "smallint", "integer", "bigint", "double precision", "numeric": "1"
        case "jsonb", "json": "'[]'"
        case "timestamp with time zone": "now()"
        case "date": "current_date"
        case "boolean": "true"
        case "tsvector": "''"
        case let type where type.hasSuffix("[]"): "'{}'"
        default: nil
        }
    }
}

extension Store {
    /// Two organizations with one row each in every tenant table.
    func filled(_ tables: [TenantTable]) async throws -> (a: OrgID, b: OrgID) {
        let orgs = (a: try await createOrganization(named: "A"), b: try await createOrganization(named: "B"))
        let others = tables.filter { $0.name != "organizations" }
        try await database.batch(
            .worker,
            others.flatMap { [$0.insert(for: orgs.a), $0.insert(for: orgs.b)] }
        )
        return orgs
    }
}
