// The fate of one recipient in one try.

/// What a try came to for a recipient; one `switch` over it decides retry, report and suppression.
package enum Attempt: Sendable, Hashable {
    case delivered(Reply)
    case deferred(Reply)
    case bounced(Reply)

    /// Fate by enhanced status first, then by code.
    ///
    /// A 2xx is the server's word that it has the message,
    /// and a 421 is about the connection, whatever status stands behind them.
    package init(_ reply: Reply) {
        if reply.isPositive {
            self = .delivered(reply)
        } else if reply.code == 421 {
            self = .deferred(reply)
        } else {
            switch reply.status?.class {
            case 4: self = .deferred(reply)
            case 5: self = .bounced(reply)
            default: self = reply.isPermanent ? .bounced(reply) : .deferred(reply)
            }
        }
    }

    /// The reply that decided.
    package var reply: Reply {
        switch self {
        case .delivered(let reply), .deferred(let reply), .bounced(let reply): reply
        }
    }

    /// The message was sent and no answer came: it may have been delivered, a retry may make a duplicate.
    package var isOutcomeUnknown: Bool { self == .deferred(.outcomeUnknown) }
}
