// One organization sees and changes its own rows alone, whatever the application asks.

import Database
import Foundation
import Platform
import Store
import Testing

@Suite("Row-level security")
struct RowLevelSecurityTests {
    @Test("every tenant table has it enabled and forced, with policies for both roles")
    func policies() async throws {
        try await withStore { store in
            let tables = try await TenantTable.all(store.database)
            #expect(tables.count >= 15)
            for table in tables {
                let rows = try await store.database.query(
                    .owner,
                    """
                    SELECT c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
                        pg_has_role('commune_app', c.relowner, 'MEMBER') AS owned,
                        array(SELECT p.polname || ' ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '')
                            || ' / ' || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
                            FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive
                                AND p.polroles && ARRAY['commune_app'::regrole::oid, 0::oid]) AS app,
                        array(SELECT p.polname::text FROM pg_policy p WHERE p.polrelid = c.oid
                                AND p.polroles @> ARRAY['commune_worker'::regrole::oid]) AS worker
                    FROM pg_class c WHERE c.oid = \(table.name)::regclass
                    """
                )
                let row = try #require(rows.first)
                #expect(try row("enabled"), "\(table.name)")
                #expect(try row("forced"), "\(table.name)")
                #expect(
                    try !row("owned"),
                    "\(table.name) belongs to commune_app, which could lift its policies"
                )
                let own = "(\(table.owner) = current_org())"
                let app: [String] = try row("app")
                #expect(app == ["tenant \(own) / \(own)"], "\(table.name)")
                let worker: [String] = try row("worker")
                #expect(worker == ["worker"], "\(table.name)")
            }
        }
    }

    @Test("the application's roles cannot pass by the policies")
    func roles() async throws {
        try await withStore { store in
            let rows = try await store.database.query(
                .owner,
                """
                SELECT rolname::text AS name, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin
                    AS mighty,
                    has_schema_privilege(oid, 'public', 'CREATE') AS creates
                FROM pg_roles WHERE rolname LIKE 'commune_%' ORDER BY 1
                """
            )
            let names = try rows.map { try $0("name") as String }
            #expect(names == ["commune_app", "commune_limited", "commune_lookup", "commune_worker"])
            for row in rows {
                #expect(try !row("mighty"))
                #expect(try !row("creates"))
            }
        }
    }

    @Test("without an organization the application sees no row of any tenant table")
    func noOrganization() async throws {
        try await withStore { store in
            let tables = try await TenantTable.all(store.database)
            _ = try await store.filled(tables)
            for table in tables {
                let counted: Statement = "SELECT count(*) AS n FROM \(raw: table.name)"
                let seen = try await store.database.query(.lookup, counted)
                #expect(try only(seen)("n") == 0, "\(table.name)")
                // The rows are there, so that nothing seen means something.
                let there = try await store.database.query(.worker, counted)
                #expect(try only(there)("n") == 2, "\(table.name)")
            }
        }
    }

    @Test("with an organization it sees that one's rows and no others")
    func oneOrganization() async throws {
        try await withStore { store in
            let tables = try await TenantTable.all(store.database)
            let orgs = try await store.filled(tables)
            for table in tables {
                for org in [orgs.a, orgs.b] {
                    let owners = try await store.database.query(
                        .tenant(org),
                        "SELECT \(raw: table.owner) AS owner FROM \(raw: table.name)"
                    ).map { try $0("owner") as OrgID }
                    #expect(owners == [org], "\(table.name)")
                }
                let nobody = try await store.database.query(
                    .tenant(OrgID()),
                    "SELECT FROM \(raw: table.name)"
                )
                #expect(nobody.isEmpty, "\(table.name)")
            }
        }
    }

    @Test("it can neither write, change, delete nor give away a row for another organization")
    func writes() async throws {
        try await withStore { store in
            let tables = try await TenantTable.all(store.database)
            let orgs = try await store.filled(tables)
            let before = try await contents(store, tables)
            for table in tables {
                // The name of `organizations` is unique, so this one is a third.
                let target = table.name == "organizations" ? OrgID() : orgs.b
                let inserted = await failure {
                    try await store.database.query(.tenant(orgs.a), table.insert(for: target))
                }
                #expect(isRefusal(inserted), "\(table.name): \(String(describing: inserted))")
                let given = await failure {
                    try await store.database.query(
                        .tenant(orgs.a),
                        "UPDATE \(raw: table.name) SET \(raw: table.owner) = \(OrgID())"
                    )
                }
                #expect(isRefusal(given), "\(table.name): \(String(describing: given))")
                let foreign: [Statement] = [
                    "DELETE FROM \(raw: table.name) WHERE \(raw: table.owner) = \(orgs.b)",
                    "UPDATE \(raw: table.name) SET \(raw: table.owner) = \(orgs.a) WHERE \(raw: table.owner) = \(orgs.b)",
                ]
                for statement in foreign {
                    #expect(try await store.database.query(.tenant(orgs.a), statement).affected == 0)
                }
                let open = await failure {
                    try await store.database.query(.lookup, table.insert(for: orgs.a))
                }
                #expect(isRefusal(open), "\(table.name): \(String(describing: open))")
            }
            #expect(try await contents(store, tables) == before)
        }
    }

    @Test("the functions that run with their owner's rights are these, and each has a fixed search_path")
    func definers() async throws {
        try await withStore { store in
            let rows = try await store.database.query(
                .owner,
                """
                SELECT p.oid::regprocedure::text AS name, r.rolname::text AS owner, r.rolsuper AS super,
                    coalesce(array_to_string(p.proconfig, ' '), '') AS settings,
                    has_function_privilege('public', p.oid, 'EXECUTE') AS everybody
                FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
                WHERE p.prosecdef AND p.pronamespace NOT IN
                    (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema'))
                ORDER BY 1
                """
            )
            let names = try rows.map { try $0("name") as String }
            #expect(
                names == [
                    "find_api_key(bytea)", "find_caller(bytea)", "find_organizations(bytea)",
                    "find_recipient(text,text)", "is_domain_taken(text)",
                    "organizations_with_events(uuid[],text[])",
                    "search_messages(tsquery,uuid,uuid,uuid,integer)",
                ]
            )
            for row in rows {
                let settings: String = try row("settings")
                #expect(settings.hasPrefix("search_path=public, pg_temp"))
                #expect(try row("owner") == "commune_lookup")
                #expect(try !row("super"))
                #expect(try !row("everybody"))
            }
        }
    }

    @Test("a transaction's organization is gone with it: the next one on the connection has none")
    func noLeak() async throws {
        try await withStore { store in
            let tables = try await TenantTable.all(store.database)
            let orgs = try await store.filled(tables)
            for _ in 0..<8 {
                let seen = try await store.database.query(.tenant(orgs.a), "SELECT FROM inboxes")
                #expect(seen.count == 1)
                let without = try await store.database.query(.lookup, "SELECT FROM inboxes")
                #expect(without.isEmpty)
            }
        }
    }

    private func isRefusal(_ error: (any Error)?) -> Bool {
        guard case .failed(let sqlstate, _)? = error as? DatabaseError else { return false }
        // insufficient_privilege
        return sqlstate == "42501"
    }

    private func contents(_ store: Store, _ tables: [TenantTable]) async throws -> [String] {
        try await store.database.batch(
            .worker,
            tables.map { "SELECT string_agg(t::text, '|' ORDER BY t::text) AS rows FROM \(raw: $0.name) t" }
        ).map { try only($0)("rows") }
    }
}
