// What the operator can set about the database.

import CPostgres
package import Platform

extension Database {
    /// Where the database is and what we may ask of it.
    package struct Configuration: Sendable {
        /// `postgres://user:password@host:port/name?sslmode=…`, or libpq's key-value form.
        package var url: String
        /// The most connections of this process.
        package var connectionsMax = 8
        /// How long a call waits for a connection.
        package var acquireTimeout: Duration = .seconds(5)
        /// How long a statement may run when its call says nothing else.
        package var statementTimeout: Duration = .seconds(10)
        /// How long opening a connection may take.
        package var connectTimeout: Duration = .seconds(5)
        /// Whether statements are prepared by name and reused; not behind PgBouncer before 1.21.
        package var prepared = false
        /// The most calls that wait for a connection; more are refused at once.
        package var waitersMax = 10_000
        /// An idle connection is closed after this time.
        package var idleTimeout: Duration = .seconds(300)
        /// A connection is replaced after this time, so that a moved server's old address is left.
        package var connectionLifetime: Duration = .seconds(3600)
        /// Shown in `pg_stat_activity`.
        package var applicationName = "commune"

        /// Takes the URL and the defaults.
        package init(url: String) {
            self.url = url
        }

        /// Reads `DATABASE_URL` (or `variable`) and `COMMUNE_DB_*`.
        package init(reading settings: inout Settings, url variable: String = "DATABASE_URL") {
            url = settings.required(variable, purpose: "names the PostgreSQL database") ?? ""
            if !url.isEmpty, !Self.isUnderstood(url) {
                settings.fault(variable, "is not a PostgreSQL URL (postgres://user:password@host:5432/name).")
            }
            connectionsMax = settings.integer("COMMUNE_DB_CONNECTIONS", in: 1...1000, default: connectionsMax)
            prepared = settings.flag("COMMUNE_DB_PREPARED", default: prepared)
            acquireTimeout = settings.seconds(
                "COMMUNE_DB_ACQUIRE_TIMEOUT",
                in: 0.1...300,
                default: acquireTimeout
            )
            statementTimeout = settings.seconds(
                "COMMUNE_DB_STATEMENT_TIMEOUT",
                in: 0.1...3600,
                default: statementTimeout
            )
            connectTimeout = settings.seconds(
                "COMMUNE_DB_CONNECT_TIMEOUT",
                in: 0.1...300,
                default: connectTimeout
            )
        }

        /// libpq's message is not passed on: it quotes the URL with its password.
        private static func isUnderstood(_ url: String) -> Bool {
            guard let options = PQconninfoParse(url, nil) else { return false }
            PQconninfoFree(options)
            return true
        }
    }
}
