// The webhook of an inbox: where its events go, which of them, and the secret that signs them, sealed.

import Database
import Foundation
package import Platform

/// Where an inbox' events are sent.
package struct Webhook: Sendable {
    package let endpoint: String
    /// Names of events, in the order of `WebhookEvent.all`.
    package let events: [String]
    let sealedSecret: [UInt8]

    init?(_ row: Row) throws {
        guard let endpoint: String = try row("webhook_endpoint"),
            let sealed: [UInt8] = try row("webhook_secret")
        else { return nil }
        self.endpoint = endpoint
        events = try row("webhook_events") ?? []
        sealedSecret = sealed
    }
}

/// The events that a webhook can be told of.
package enum WebhookEvent {
    package static let received = "email.received"

    /// Every name, as they are kept.
    package static let all = [
        received, "email.sent", "email.delivered", "email.delivery_delayed", "email.bounced",
        "email.complained", "email.failed",
    ]

    /// The name that is kept for one that a caller gave; nil for an unknown one.
    package static func name(_ given: String) -> String? {
        let name = given == "inbound" ? received : given
        return all.contains(name) ? name : nil
    }
}

/// The secret of a webhook, in the form of Standard Webhooks: `whsec_` and base64.
package enum WebhookSecret {
    package static let prefix = "whsec_"
    /// Bytes behind the base64; what the specification allows.
    package static let lengths = 24...64

    /// A new one.
    static func generate() -> String {
        prefix + Data([UInt8].random(count: lengths.lowerBound)).base64EncodedString()
    }

    /// Whether a secret that a caller brings has the form.
    package static func isWellFormed(_ text: String) -> Bool {
        guard text.hasPrefix(prefix), text.utf8.count <= 100,
            let bytes = Data(base64Encoded: String(text.dropFirst(prefix.count)))
        else { return false }
        return lengths.contains(bytes.count)
    }

    static func place(_ inbox: InboxID, _ org: OrgID) -> String { "inboxes/\(org)/\(inbox)/webhook" }
}

/// What a caller wants of an inbox' webhook; each part is checked already.
package struct WebhookChange: Sendable, Equatable {
    /// nil keeps the one that there is.
    package var endpoint: String?
    /// nil keeps those that there are, or means `email.received`.
    package var events: [String]?
    /// nil keeps the one that there is, or makes one.
    package var secret: String?

    /// Whether nothing is given: the webhook is removed.
    package var isRemoval: Bool { endpoint == nil && events == nil && secret == nil }

    /// A change of these parts.
    package init(endpoint: String? = nil, events: [String]? = nil, secret: String? = nil) {
        (self.endpoint, self.events, self.secret) = (endpoint, events, secret)
    }
}

extension Store {
    /// The signing secret of an inbox' webhook; nil without a webhook.
    package func webhookSecret(of inbox: Inbox, org: OrgID) throws -> String? {
        guard let webhook = inbox.webhook else { return nil }
        let place = WebhookSecret.place(inbox.id, org)
        return String(decoding: try secrets.open(webhook.sealedSecret, place: place), as: UTF8.self)
    }

    /// The columns that a change leaves behind: endpoint, events, sealed secret; all nil without a webhook.
    func webhookColumns(
        _ change: WebhookChange,
        of inbox: InboxID,
        org: OrgID,
        having current: Webhook?
    ) throws -> (endpoint: String?, events: [String]?, secret: [UInt8]?) {
        if change.isRemoval { return (nil, nil, nil) }
        guard let endpoint = change.endpoint ?? current?.endpoint else {
            throw StoreFault.refused("webhook.endpoint is required: the inbox has no webhook yet.")
        }
        let place = WebhookSecret.place(inbox, org)
        let sealed: [UInt8]
        if change.secret == nil, let current {
            sealed = current.sealedSecret
        } else {
            sealed = secrets.seal(Array((change.secret ?? WebhookSecret.generate()).utf8), place: place)
        }
        return (endpoint, change.events ?? current?.events ?? [WebhookEvent.received], sealed)
    }
}
