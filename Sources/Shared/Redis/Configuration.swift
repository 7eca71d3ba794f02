// Where Redis is and how long we wait for it.

import Foundation
import NIOSSL
package import Platform

extension Redis {
    /// Where Redis is, who we are there, and the limits.
    package struct Configuration: Sendable {
        /// What is wrong with a URL, as a sentence without the URL, which may hold a password.
        package struct Fault: Error, Sendable, Equatable, CustomStringConvertible {
            package let description: String
        }

        /// Host name or address.
        package let host: String
        /// TCP port; 6379 when the URL has none.
        package let port: Int
        /// Number of the database, `SELECT`ed on each connection.
        package let database: Int
        /// How long connecting may take, TLS and AUTH included.
        package var connectTimeout: Duration = .seconds(2)
        /// How long a command may wait for its reply before the connection is given up.
        package var commandTimeout: Duration = .seconds(2)
        /// How often an idle connection is asked for a sign of life.
        package var keepaliveInterval: Duration = .seconds(5)
        /// Commands that may wait for their replies at once.
        package var pendingMax = 10_000
        /// Bytes of commands that may wait for their replies at once.
        package var pendingBytesMax = 64 * 1024 * 1024
        /// Largest reply that is read.
        package var replyBytesMax = 64 * 1024 * 1024

        let user: String?
        let password: String?
        /// Set for `rediss://`; made once, since reading the system's roots takes a while.
        let tls: NIOSSLContext?

        /// Reads `REDIS_URL`, `COMMUNE_REDIS_TIMEOUT_SECONDS` and `COMMUNE_REDIS_PENDING_MAX`.
        package init?(reading settings: inout Settings) {
            let variable = "REDIS_URL"
            let timeout = settings.seconds(
                "COMMUNE_REDIS_TIMEOUT_SECONDS",
                in: 0.05...60,
                default: .seconds(2)
            )
            let pendingMax = settings.integer(
                "COMMUNE_REDIS_PENDING_MAX",
                in: 16...1_000_000,
                default: 10_000
            )
            guard
                let url = settings.required(
                    variable,
                    purpose: "says where Redis is (redis://host:port/database)"
                )
            else { return nil }
            do throws(Fault) {
                try self.init(url: url)
            } catch {
                settings.fault(variable, error.description)
                return nil
            }
            connectTimeout = timeout
            commandTimeout = timeout
            self.pendingMax = pendingMax
        }

        /// Reads `redis[s]://[user[:password]@]host[:port][/database][?cafile=path]`.
        package init(url text: String) throws(Fault) {
            guard let url = URLComponents(string: text), let scheme = url.scheme?.lowercased(),
                ["redis", "rediss"].contains(scheme)
            else { throw Fault(description: "must be a redis:// or rediss:// URL.") }
            guard let host = url.host, !host.isEmpty else { throw Fault(description: "names no host.") }
            guard (1...65_535).contains(url.port ?? 6379) else {
                throw Fault(description: "has a port out of range.")
            }
            guard let database = Self.database(of: url.path) else {
                throw Fault(description: "must end in the number of a database, as in /0.")
            }
            self.host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
            self.port = url.port ?? 6379
            self.database = database
            // `redis://:password@host` and `redis://password@host` are both in use for the default user.
            let user = url.user.flatMap { $0.isEmpty ? nil : $0 }
            self.user = url.password == nil ? nil : user
            self.password = url.password ?? user
            tls = try Self.tlsContext(scheme: scheme, query: url.queryItems ?? [])
        }

        private static func database(of path: String) -> Int? {
            let text = path.drop { $0 == "/" }
            if text.isEmpty { return 0 }
            guard let number = Int(text), (0...65_535).contains(number) else { return nil }
            return number
        }

        private static func tlsContext(scheme: String, query: [URLQueryItem]) throws(Fault) -> NIOSSLContext?
        {
            guard query.allSatisfy({ $0.name == "cafile" }) else {
                throw Fault(description: "has a parameter that is not known; cafile is.")
            }
            let file = query.first?.value
            guard scheme == "rediss" else {
                if file != nil { throw Fault(description: "has a cafile, which needs rediss://.") }
                return nil
            }
            var configuration = TLSConfiguration.makeClientConfiguration()
            if let file { configuration.trustRoots = .file(file) }
            do {
                return try NIOSSLContext(configuration: configuration)
            } catch {
                throw Fault(
                    description: file.map { "has a cafile without certificates: \($0)." }
                        ?? "needs TLS, which could not be set up: \(error)."
                )
            }
        }
    }
}
