// The envelope sender of outgoing mail: `bounce+<token>@send.<domain>` (variable envelope return path).
//
// What a bounce comes back to names the message it is about, so that no bounce has to be understood to be placed. The
// token is opaque here; whoever makes it signs it.

/// A return path of ours, as a value.
package struct ReturnPath: Sendable, Hashable {
    /// The local part in front of the token.
    package static let localPart = "bounce"
    /// The host below a sending domain that takes bounces: its MX and SPF are published for it.
    package static let host = "send"
    /// Letters and digits that fit behind `bounce+` (RFC 5321 §4.5.3.1.1).
    package static let tokenOctetsMax = EmailAddress.localOctetsMax - localPart.utf8.count - 1

    /// Letters and digits, in lower case.
    package let token: String
    /// The sending domain, A-labels, without `send.` in front.
    package let domain: String

    /// The return path of mail from a domain.
    package init(token: String, domain: String) {
        self.token = token
        self.domain = domain
    }

    /// Reads one from a recipient's address, whatever case a server gave it; nil when it has another form.
    package init?(_ address: EmailAddress) {
        let prefix = "\(Self.localPart)+"
        let local = address.local.lowercased()
        guard local.hasPrefix(prefix), let domain = Self.sendingDomain(of: address.domain) else { return nil }
        self.init(token: String(local.dropFirst(prefix.count)), domain: domain)
    }

    /// The domain whose bounces a host takes; nil when the host's name does not begin with `send.`.
    package static func sendingDomain(of host: String) -> String? {
        let prefix = "\(Self.host)."
        guard host.hasPrefix(prefix), host.utf8.count > prefix.utf8.count else { return nil }
        return String(host.dropFirst(prefix.count))
    }

    /// As it stands in MAIL FROM.
    package var address: String { "\(Self.localPart)+\(token)@\(Self.host).\(domain)" }
}
