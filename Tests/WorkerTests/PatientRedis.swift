// Redis for tests that measure no time of it.

import Redis

extension Redis.Configuration {
    /// Waits half a minute where a program waits two seconds: other tests keep the machine and the event loops busy.
    static func patient(_ url: String) throws -> Self {
        var configuration = try Self(url: url)
        configuration.connectTimeout = .seconds(30)
        configuration.commandTimeout = .seconds(30)
        return configuration
    }
}
