// Phrases of real servers' refusals. They are compared in lower case, with runs of blanks as one.

/// A refusal's text, searched for what its author meant.
struct BounceText {
    private static let octetsMax = 2_048

    private let text: [UInt8]

    init(_ text: String) {
        var bytes: [UInt8] = []
        for word in text.utf8.prefix(Self.octetsMax).split(whereSeparator: { $0 <= 0x20 }) {
            // The address itself may read like a reason: <spam-reports@example.com>.
            if word.contains(UInt8(ascii: "@")) { continue }
            bytes.append(contentsOf: word.map(HeaderCanonicalization.lowercased))
            bytes.append(0x20)
        }
        self.text = bytes
    }

    /// A reason in our reputation, authentication or rate.
    var aboutUs: Bounce.Reason? { first(Self.aboutUsPhrases) }

    /// A reason in the mailbox, the message or the network.
    var reason: Bounce.Reason? { first(Self.phrases) }

    private func first(_ table: [(reason: Bounce.Reason, phrases: [[UInt8]])]) -> Bounce.Reason? {
        table.first { $0.phrases.contains(where: contains) }?.reason
    }

    private func contains(_ phrase: [UInt8]) -> Bool {
        guard let head = phrase.first, phrase.count <= text.count else { return false }
        for start in 0...(text.count - phrase.count) where text[start] == head {
            if text[start..<(start + phrase.count)].elementsEqual(phrase) { return true }
        }
        return false
    }

    private static func table(
        _ rows: [(Bounce.Reason, [String])]
    ) -> [(reason: Bounce.Reason, phrases: [[UInt8]])] {
        rows.map { ($0.0, $0.1.map { Array($0.utf8) }) }
    }

    private static let aboutUsPhrases = table([
        (
            .blocklisted,
            [
                "blacklist", "black list", "blocklist", "block list", "blocked using", "dnsbl", " rbl",
                "rbl.", "spamhaus",
                "spamcop", "barracudacentral", "sorbs.net", "uribl", "surbl", "senderbase", "senderscore",
                "listed at", "listed by", "is listed in", "is listed on", "ip address is blocked",
                "ip is blocked",
                "has been blocked", "is blocked by", "banned sending ip", "ip banned", "client host blocked",
                "poor reputation", "low reputation", "bad reputation", "reputation of", "sender reputation",
                "spammer list", "proofpoint.com/ipcheck", "cloudmark.com", "mimecast.com/s/article",
                "ipcheck",
                "blocked by", "(s3140)", "(s3150)", "access denied, banned",
            ]
        ),
        (
            .authentication,
            [
                "dmarc", "spf check", "spf fail", "spf record", "spf validation", "dkim",
                "unauthenticated email",
                "sender id", "not authenticated", "reverse dns", "no ptr", "ptr record", "rdns",
                "does not resolve to", "helo command rejected", "unauthenticated sender",
            ]
        ),
        (
            .spam,
            [
                "spam", "junk mail", "junkmail", "unsolicited", "bulk mail", "phish", "virus", "malware",
                "considered uce", "content rejected", "message content rejected", "suspicious",
                "5.7.1 [ph01]",
                "[ph01]", "high on spam scale", "rejected due to content", "likely unwanted",
            ]
        ),
        (
            .rateLimited,
            [
                "rate limit", "ratelimit", "too many messages", "too many connections", "too many emails",
                "too much mail", "throttl", "unusual rate", "sending limit", "exceeded the maximum number of",
                "at a rate that", "too fast", "try again later [ts",
                "temporarily deferred due to user complaints",
            ]
        ),
        (
            .policy,
            [
                "policy reasons", "policy violation", "violates", "local policy", "message refused by policy",
                "rejected by policy", "policy rejection", "relay access denied", "relaying denied",
                "unable to relay", "not permitted to relay", "relay not permitted", "not allowed to send",
                "sender rejected", "sender address rejected", "sender denied", "not authorized to send",
                "restricted group", "administrative prohibition", "user complaints",
            ]
        ),
    ])

    private static let phrases = table([
        (
            .mailboxFull,
            [
                "mailbox full", "mailbox is full", "mailbox for user is full", "inbox is full",
                "quota exceeded",
                "over quota", "overquota", "exceeded storage", "storage allocation", "exceeded its quota",
                "exceeds quota", "quota violation", "out of storage space", "mailbox size limit",
                "exceeds allowed size", "mailbox quota", "account is full", "over the quota", "quotaexceeded",
                "insufficient quota", "disk quota",
            ]
        ),
        (
            .mailboxDisabled,
            [
                "mailbox disabled", "account disabled", "is disabled", "has been disabled",
                "account inactive",
                "account is inactive", "inactive user", "mailbox is inactive", "mailbox inactive",
                "account suspended", "account has been suspended", "user suspended", "account locked",
                "account expired", "account has expired", "no longer active", "not active", "deactivated",
                "account closed", "account terminated", "mailbox is frozen", "has been discontinued",
                "no longer in use", "abandoned",
            ]
        ),
        (
            .userUnknown,
            [
                "user unknown", "unknown user", "no such user", "no such mailbox", "no such recipient",
                "no such address", "no such person", "user not found", "recipient not found",
                "unknown recipient",
                "recipient unknown", "mailbox not found", "mailbox unavailable", "mailbox does not exist",
                "mailbox doesn't exist", "unknown mailbox", "mailbox unknown", "does not exist",
                "doesn't exist",
                "doesn't have a", "does not have a", "invalid recipient", "invalid mailbox", "invalid user",
                "invalid address", "unknown address", "address unknown", "unknown local part",
                "unrouteable address",
                "unroutable address", "no mailbox here", "no mailbox by that name", "not a valid mailbox",
                "not a known user", "not a valid user", "no account", "user doesn't", "recipientnotfound",
                "recipient rejected", "recipient address rejected: access denied", "address not found",
                "not our customer", "user is unknown", "unknown or illegal alias", "undeliverable address",
                "no longer available", "isn't a valid", "is not a valid",
                "email account that you tried to reach",
                "unknown account", "no valid recipient", "bad destination mailbox", "verification failed for",
                "resolver.adr", "not listed in", "adresse inconnue", "unbekannt",
            ]
        ),
        (
            .hostUnknown,
            [
                "host unknown", "unknown host", "domain not found", "host not found", "no such domain",
                "unknown domain", "domain does not exist", "name or service not known", "no mx record",
                "nullmx", "null mx", "domain not known", "bad destination host", "unable to lookup dns",
            ]
        ),
        (
            .messageTooLarge,
            [
                "message too large", "message too big", "message size exceeds",
                "exceeds maximum message size",
                "exceeds the maximum", "size limit exceeded", "message is too large", "exceeds size limit",
                "max message size", "maximum message size", "message exceeds",
            ]
        ),
        (
            .greylisted,
            [
                "greylist", "graylist", "grey-list", "gray-list", "grey list", "please try again in",
                "come back in",
            ]
        ),
        (.loop, ["too many hops", "mail loop", "routing loop", "loops back to", "hop count"]),
        (
            .expired,
            ["delivery time expired", "retry timeout exceeded", "message expired", "too long in the queue"]
        ),
        (
            .network,
            [
                "connection timed out", "connection refused", "connection lost", "network unreachable",
                "no route to host", "connection reset", "timed out", "could not connect",
                "connection dropped",
            ]
        ),
        (.tls, ["must issue a starttls", "tls is required", "tls required", "encryption required"]),
        (.systemFull, ["insufficient system storage", "insufficient disk", "no space left", "out of disk"]),
    ])
}
