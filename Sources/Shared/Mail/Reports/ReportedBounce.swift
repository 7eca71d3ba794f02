// What a reported failure means for the address, where the words of a letter say more than a reply would.

/// The rules of `Bounce`, with what only letters say.
enum ReportedBounce {
    /// The verdict; `isAfterData` where the refusal came after the recipient had been accepted.
    static func read(
        code: Int?,
        status: EnhancedStatus?,
        text: String,
        isPermanent: Bool,
        isAfterData: Bool
    ) -> Bounce {
        let plain = Bounce(code: code, status: status, text: text, isPermanent: isPermanent)
        let lower = String(text.prefix(1_000)).lowercased()
        if plain.reason == .expired { return Bounce(reason: .expired, isPermanent: false) }
        if let status, status.subject == 1, status.detail == 7 || status.detail == 8 {
            return Bounce(reason: .policy, isPermanent: isPermanent)
        }
        if let better = correction(of: plain, status: status, text: lower, isAfterData: isAfterData) {
            return Bounce(reason: better, isPermanent: isPermanent)
        }
        guard isVague(plain.reason, status: status) else { return plain }
        let reason = phrases.first { $0.texts.contains { lower.contains($0) } }?.reason
        if reason == .expired { return Bounce(reason: .expired, isPermanent: false) }
        return Bounce(reason: reason ?? plain.reason, isPermanent: isPermanent)
    }

    /// Where status and words contradict each other.
    private static func correction(
        of plain: Bounce,
        status: EnhancedStatus?,
        text: String,
        isAfterData: Bool
    ) -> Bounce.Reason? {
        let saysUnknown = text.contains("user unknown") || text.contains("unknown user")
        switch plain.reason {
        case .userUnknown where status?.subject == 7 && saysUnknown: return .policy
        // Accepted at RCPT, "unknown" after DATA: some hosts say so when the owner filters the sender.
        case .userUnknown where isAfterData && saysUnknown && status?.subject != 1: return .content
        // The mailbox is there, its owner's filter is broken.
        case .userUnknown where text.hasPrefix("procmail:"): return .other
        case .hostUnknown where text.contains("try again"): return .network
        // RFC 3463 §3.5: X.4.4, no route to the host that the address names.
        case .network where status == EnhancedStatus(5, 4, 4): return .hostUnknown
        default: return nil
        }
    }

    private static func isVague(_ reason: Bounce.Reason, status: EnhancedStatus?) -> Bool {
        switch reason {
        case .other, .protocolError, .network, .content: true
        // "The account may not exist, or may be blacklisted" knows nothing about a list.
        case .blocklisted: status == nil
        default: false
        }
    }

    /// In lower case; the first hit counts.
    private static let phrases: [(reason: Bounce.Reason, texts: [String])] = [
        (
            .network,
            [
                "host not found, try again", "host name lookup failure", "temporary failure in name",
                "connection timed out",
                "connection refused", "name server timeout", "lost connection",
            ]
        ),
        (
            .hostUnknown,
            [
                "dns lookup failure", "no mx found", "invalid domain", "host unknown", "unknown host",
                "domain not found",
                "domain does not exist", "domain is not reachable", "couldn't find any host",
                "no such domain",
                "account or domain may not exist", "non-existent hosts", "host or domain name not found",
                "domain name not found", "unknown domain", "couldn't find a mail exchanger",
                "an mx or srv record indicated",
                "illegal host/domain", "unrouteable mail domain", "dns-hard", "bad domain",
                "cannot find your domain", "delivery not possible to this domain", "not find any mx",
            ]
        ),
        (
            .userUnknown,
            [
                "recipient name is not recognized", "address rejected", "recipient address rejected.",
                "no such user",
                "invalid final delivery userid", "account that you tried to reach",
                "is not a known user", "unknown or illegal alias", "destination addresses were unknown",
                "email address was not found", "wasn't found at", "not listed in", "bad address",
                "address does not exist",
                "no longer at", "has left the company", "not known at",
                "mailbox unavailable or access denied",
                "addressee unknown", "user is unknown", "user not known", "no account by that name",
                "no valid recipients",
                "couldn't be found", "invalid or unknown", "recipnotfound", "has moved",
                "bad destination mailbox",
            ]
        ),
        (
            .expired,
            [
                "message expired", "delivery time expired", "retry timeout exceeded",
                "retry time not reached",
                "has been in the queue too long", "exceeded the maximum time", "not been collected",
                "unable to deliver this message within", "gave up trying", "in queue too long",
                "lifetime exceeded",
            ]
        ),
        (
            .mailboxFull,
            ["full", "quota", "storage", "too much data", "not enough space", "insufficient disk"]
        ),
    ]
}
