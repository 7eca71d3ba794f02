// Inboxes: made, listed, shown, changed and deleted; by themselves and under their domain.

import Foundation
import HTTPTypes
import Hummingbird
import Mail
import Platform
import Store

enum InboxRoutes {
    /// An inbox as callers see it.
    struct View: Encodable, Sendable {
        let inbox: Inbox
        /// Of its webhook.
        let secret: String?

        enum CodingKeys: String, CodingKey {
            case id, localPart, address, displayName, webhook, status, listUnsubscribe, createdAt
            case domain = "domain_id"
            case domainName = "domain_name"
        }

        private struct WebhookView: Encodable {
            let endpoint: String
            let events: [String]
            let secret: String?
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(inbox.id, forKey: .id)
            try container.encode(inbox.localPart, forKey: .localPart)
            try container.encode(inbox.address, forKey: .address)
            try container.encode(inbox.displayName, forKey: .displayName)
            try container.encode(inbox.domain, forKey: .domain)
            try container.encode(inbox.domainName, forKey: .domainName)
            let webhook = inbox.webhook.map {
                WebhookView(endpoint: $0.endpoint, events: $0.events, secret: secret)
            }
            try container.encode(webhook, forKey: .webhook)
            try container.encode(inbox.status, forKey: .status)
            try container.encode(inbox.listUnsubscribe, forKey: .listUnsubscribe)
            try container.encode(inbox.createdAt.iso8601, forKey: .createdAt)
        }
    }

    private struct Deleted: Encodable {
        let ok = true
    }

    static func list(_ call: Call) async throws -> Answer {
        try await page(call, of: try call.query(id: "domain_id"))
    }

    static func listOfDomain(_ call: Call) async throws -> Answer {
        try await page(call, of: try await domain(of: call).id)
    }

    static func show(_ call: Call) async throws -> Answer {
        let id: InboxID = try call.id("inbox_id", of: "Inbox")
        return try answer(call, try await inbox(id, of: nil, call))
    }

    static func showOfDomain(_ call: Call) async throws -> Answer {
        let domain: DomainID = try call.id("domain_id", of: "Domain")
        let id: InboxID = try call.id("inbox_id", of: "Inbox")
        return try answer(call, try await inbox(id, of: domain, call))
    }

    static func create(_ call: Call) async throws -> Answer {
        let request = try call.decode(InboxRequest.self)
        try request.validate(call.backend.webhookFilter)
        let org = try call.caller.org
        guard let text = request.domain else {
            let shared = try await call.store.platformDomain(named: call.backend.defaultDomain)
            return try await create(
                call,
                request,
                on: call.store.defaultInboxDomain(org: org, shared: shared)
            )
        }
        guard let id = DomainID(text), let domain = try await call.store.inboxDomain(id, org: org) else {
            throw APIError.notFound("Domain")
        }
        return try await create(call, request, on: domain)
    }

    static func createInDomain(_ call: Call) async throws -> Answer {
        let domain = try await domain(of: call)
        let request = try call.decode(InboxRequest.self)
        try request.validate(call.backend.webhookFilter)
        return try await create(call, request, on: domain)
    }

    static func update(_ call: Call) async throws -> Answer {
        let id: InboxID = try call.id("inbox_id", of: "Inbox")
        return try await update(call, id, of: nil)
    }

    static func updateInDomain(_ call: Call) async throws -> Answer {
        let domain: DomainID = try call.id("domain_id", of: "Domain")
        let id: InboxID = try call.id("inbox_id", of: "Inbox")
        return try await update(call, id, of: domain)
    }

    static func setWebhook(_ call: Call) async throws -> Answer {
        let domain: DomainID = try call.id("domain_id", of: "Domain")
        let id: InboxID = try call.id("inbox_id", of: "Inbox")
        _ = try await inbox(id, of: domain, call)
        let request = try call.decode(WebhookRequest.self)
        var faults: [APIError.Detail] = []
        var changes = InboxChanges()
        changes.webhook = .set(request.change(call.backend.webhookFilter, path: "", &faults))
        guard faults.isEmpty else { throw APIError.invalid(faults) }
        let inbox = try await call.store.updateInbox(id, of: domain, org: call.caller.org, changes)
        return try answer(call, inbox)
    }

    static func delete(_ call: Call) async throws -> Answer {
        let domain: DomainID = try call.id("domain_id", of: "Domain")
        let id: InboxID = try call.id("inbox_id", of: "Inbox")
        try await call.store.deleteInbox(id, of: domain, org: call.caller.org)
        return try Answer(.ok, Envelope(data: Deleted()))
    }

    // MARK: Shared by the routes above

    private static func page(_ call: Call, of domain: DomainID?) async throws -> Answer {
        let org = try call.caller.org
        let page = try await call.store.inboxes(
            org: org,
            domain: domain,
            after: try call.cursor(of: "inboxes"),
            limit: try call.query("limit", in: 1...1000, default: 1000)
        )
        let secrets = try page.elements.map { try call.store.webhookSecret(of: $0, org: org) }
        let views = zip(page.elements, secrets).map(View.init)
        return try Answer(
            .ok,
            PageEnvelope(
                data: views,
                nextCursor: page.next?.text(list: "inboxes", secrets: call.store.secrets),
                hasMore: page.next != nil
            )
        )
    }

    private static func create(
        _ call: Call,
        _ request: InboxRequest,
        on domain: InboxDomain
    ) async throws -> Answer {
        let inbox = try await call.store.createInbox(
            org: call.caller.org,
            localPart: request.newLocalPart(on: domain.name) ?? ReadableName.random(),
            displayName: request.name.applied(to: nil),
            listUnsubscribe: request.listUnsubscribe ?? false,
            webhook: request.webhookChange(call.backend.webhookFilter) ?? WebhookChange(),
            on: domain
        )
        return try answer(call, inbox, .created)
    }

    private static func update(_ call: Call, _ id: InboxID, of domain: DomainID?) async throws -> Answer {
        let current = try await inbox(id, of: domain, call)
        let request = try call.decode(InboxRequest.self)
        let changes = try request.changes(on: current.domainName, call.backend.webhookFilter)
        let inbox = try await call.store.updateInbox(id, of: domain, org: call.caller.org, changes)
        return try answer(call, inbox)
    }

    /// Looked for before anything is said of a body: somebody else's inbox does not exist.
    private static func inbox(_ id: InboxID, of domain: DomainID?, _ call: Call) async throws -> Inbox {
        guard let inbox = try await call.store.inbox(id, org: call.caller.org),
            domain == nil || inbox.domain == domain
        else { throw APIError.notFound("Inbox") }
        return inbox
    }

    private static func domain(of call: Call) async throws -> InboxDomain {
        let id: DomainID = try call.id("domain_id", of: "Domain")
        guard let domain = try await call.store.inboxDomain(id, org: call.caller.org) else {
            throw APIError.notFound("Domain")
        }
        return domain
    }

    private static func answer(
        _ call: Call,
        _ inbox: Inbox,
        _ status: HTTPResponse.Status = .ok
    ) throws -> Answer {
        let secret = try call.store.webhookSecret(of: inbox, org: call.caller.org)
        return try Answer(status, Envelope(data: View(inbox: inbox, secret: secret)))
    }
}

/// Local parts for inboxes that ask for none.
enum ReadableName {
    private static let adjectives = [
        "amber", "brisk", "calm", "clear", "bright", "eager", "gentle", "golden", "keen", "lively", "mellow",
        "quick", "quiet", "silver", "steady", "sunny", "swift", "vivid", "warm", "wise",
    ]
    private static let nouns = [
        "badger", "beacon", "brook", "cedar", "comet", "falcon", "fern", "harbor", "heron", "lantern",
        "maple", "meadow", "otter", "pine", "raven", "river", "robin", "sparrow", "willow", "wren",
    ]

    /// A name that people can say, with enough digits that it is hardly ever taken.
    static func random() -> String {
        "\(adjectives.randomElement() ?? "calm")-\(nouns.randomElement() ?? "river")-\(Int.random(in: 1000...999_999))"
    }
}
