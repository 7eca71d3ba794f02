// A connection is a file descriptor, and shells hand on a limit of 1,024.

import Glibc
import Logging

enum Descriptors {
    /// What the process needs besides: listeners, database, Redis, spooled messages.
    private static let others = 256

    /// Raises this process' limit as far as it may, and says so when that is too little.
    static func raise(for connections: Int, logger: Logger) {
        let needed = rlim_t(2 * connections + others)
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) != 0 || limit.rlim_cur < needed
        else { return }
        logger.warning(
            "The limit of open files is too low for COMMUNE_SMTP_CONNECTIONS: clients beyond it wait to be accepted.",
            metadata: ["limit": "\(limit.rlim_cur)", "needed": "\(needed)"]
        )
    }
}
