// How many connections one client may have and open: one host must not take all places.

import DNS
import Platform
import Redis
import Synchronization

/// Counts connections by client address; IPv6 clients by their /64, which is what one of them owns.
final class ClientLimits: Sendable {
    struct Configuration: Sendable {
        /// Connections of one client at a time; 0 is no limit.
        var connectionsMax = 100
        /// New connections of one client a minute; 0 is no limit.
        var connectionsPerMinute = 1_200

        init() {}

        /// Reads `COMMUNE_SMTP_CLIENT_CONNECTIONS` and `COMMUNE_SMTP_CLIENT_RATE`.
        init(reading settings: inout Settings) {
            connectionsMax = settings.integer(
                "COMMUNE_SMTP_CLIENT_CONNECTIONS",
                in: 0...100_000,
                default: connectionsMax
            )
            connectionsPerMinute = settings.integer(
                "COMMUNE_SMTP_CLIENT_RATE",
                in: 0...1_000_000,
                default: connectionsPerMinute
            )
        }
    }

    private let configuration: Configuration
    private let rate = LocalTokenBucket()
    private let connections = Mutex<[String: Int]>([:])

    init(_ configuration: Configuration) { self.configuration = configuration }

    /// Counts a connection; false when it is one too many, and then it must not be released.
    func admit(_ address: IPAddress?) -> Bool {
        guard let key = Self.key(address) else { return true }
        if configuration.connectionsPerMinute > 0 {
            let perMinute = configuration.connectionsPerMinute
            let answer = rate.take(key: key, ratePerSecond: Double(perMinute) / 60, burst: perMinute)
            guard answer.allowed else { return false }
        }
        return connections.withLock { connections in
            let count = connections[key, default: 0]
            if configuration.connectionsMax > 0, count >= configuration.connectionsMax { return false }
            connections[key] = count + 1
            return true
        }
    }

    /// The admitted connection is over.
    func release(_ address: IPAddress?) {
        guard let key = Self.key(address) else { return }
        connections.withLock { connections in
            let left = connections[key, default: 1] - 1
            connections[key] = left > 0 ? left : nil
        }
    }

    private static func key(_ address: IPAddress?) -> String? {
        switch address?.unmapped {
        case .v4?: address?.unmapped.description
        case .v6(let number)?: "\(number >> 64)/64"
        case nil: nil
        }
    }
}
