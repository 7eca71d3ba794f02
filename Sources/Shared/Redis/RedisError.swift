// Why a command has no answer.

/// Why a command has no answer, told apart by what a caller can do about it.
package enum RedisError: Error, Sendable, Equatable {
    /// Redis is out of reach. A command that was already on its way may have run.
    case away(String)
    /// Redis kept silent for longer than `commandTimeout`; the command may have run.
    case timedOut
    /// Redis answered with an error: its code and sentence.
    case server(String)
    /// More commands or bytes are waiting than the limits allow; this one was not sent.
    case overloaded

    /// Whether Redis itself is in trouble, so that a caller goes on without it; false for a refused command.
    package var meansAway: Bool {
        if case .server = self { false } else { true }
    }
}

extension RedisError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .away(let reason): "Redis is out of reach: \(reason)"
        case .timedOut: "Redis did not answer in time"
        case .server(let message): "Redis refused: \(message)"
        case .overloaded: "too many commands are waiting for Redis"
        }
    }
}
