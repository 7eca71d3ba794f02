// Inboxes: create, list, show.

import Foundation
import Hummingbird
import Mail
import Platform
import Store

enum InboxRoutes {
    /// An inbox as callers see it.
    struct View: Encodable, Sendable {
        let inbox: Inbox

        enum CodingKeys: String, CodingKey {
            case id, localPart, address, displayName, webhook, status, listUnsubscribe, createdAt
            case domain = "domain_id"
            case domainName = "domain_name"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(inbox.id, forKey: .id)
            try container.encode(inbox.localPart, forKey: .localPart)
            try container.encode(inbox.address, forKey: .address)
            try container.encode(inbox.displayName, forKey: .displayName)
            try container.encode(inbox.domain, forKey: .domain)
            try container.encode(inbox.domainName, forKey: .domainName)
            try container.encodeNil(forKey: .webhook)
            try container.encode(inbox.status, forKey: .status)
            try container.encode(inbox.listUnsubscribe, forKey: .listUnsubscribe)
            try container.encode(inbox.createdAt.iso8601, forKey: .createdAt)
        }
    }

    private struct CreateRequest: Decodable {
        static let nameMax = 200

        let localPart: String?
        let domain: String?
        let name: String?
        let listUnsubscribe: Bool?

        enum CodingKeys: String, CodingKey {
            case localPart = "local_part"
            case domain = "domain_id"
            case name
            case listUnsubscribe = "list_unsubscribe"
        }

        func validate() throws {
            // The rules of a mailbox: a name that no header can show would fail every send of the inbox.
            if let name,
                name.unicodeScalars.count > Self.nameMax || name.utf8.count > Mailbox.displayNameOctetsMax
                    || name.unicodeScalars.contains(where: {
                        $0.value < 0x20 || (0x7F...0x9F).contains($0.value)
                    })
            {
                throw APIError.invalid([
                    .init(
                        path: "name",
                        message:
                            "must be at most \(Self.nameMax) characters and \(Mailbox.displayNameOctetsMax) bytes, without control characters."
                    )
                ])
            }
        }

        /// The local part as it is kept: lower case, dot-atom, without a plus-tag.
        func checkedLocalPart(on domain: String) throws -> String {
            guard let localPart else { return InboxRoutes.readableLocalPart() }
            let lowered = localPart.lowercased()
            guard
                let address = try? EmailAddress("\(lowered)@\(domain)"),
                address.local == lowered, address.tag == nil, lowered.utf8.allSatisfy(isLocalPartByte)
            else {
                throw APIError.invalid([
                    .init(
                        path: "local_part",
                        message:
                            "must be 1 to 64 letters, digits or . _ - characters, as before the @ of an address."
                    )
                ])
            }
            return lowered
        }
    }

    private static func isLocalPartByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
        default: false
        }
    }

    static func list(_ call: Call) async throws -> Answer {
        let inboxes = try await call.store.inboxes(org: call.caller.org)
        return try Answer(.ok, Envelope(data: inboxes.map(View.init)))
    }

    static func show(_ call: Call) async throws -> Answer {
        let id: InboxID = try call.id("inbox_id", of: "Inbox")
        guard let inbox = try await call.store.inbox(id, org: call.caller.org) else {
            throw APIError.notFound("Inbox")
        }
        return try Answer(.ok, Envelope(data: View(inbox: inbox)))
    }

    static func create(_ call: Call) async throws -> Answer {
        let request = try call.decode(CreateRequest.self)
        try request.validate()
        let domain = try await call.store.platformDomain(named: call.backend.defaultDomain)
        guard request.domain == nil || request.domain == domain.id.description else {
            throw APIError.notFound("Domain")
        }
        let inbox = try await call.store.createInbox(
            org: call.caller.org,
            localPart: request.checkedLocalPart(on: domain.name),
            displayName: request.name,
            listUnsubscribe: request.listUnsubscribe ?? false,
            on: domain
        )
        return try Answer(.created, Envelope(data: View(inbox: inbox)))
    }

    private static let adjectives = [
        "amber", "brisk", "calm", "clear", "bright", "eager", "gentle", "golden", "keen", "lively", "mellow",
        "quick",
        "quiet", "silver", "steady", "sunny", "swift", "vivid", "warm", "wise",
    ]
    private static let nouns = [
        "badger", "beacon", "brook", "cedar", "comet", "falcon", "fern", "harbor", "heron", "lantern",
        "maple",
        "meadow", "otter", "pine", "raven", "river", "robin", "sparrow", "willow", "wren",
    ]

    /// A name that people can say, with enough digits that it is hardly ever taken.
    private static func readableLocalPart() -> String {
        "\(adjectives.randomElement() ?? "calm")-\(nouns.randomElement() ?? "river")-\(Int.random(in: 1000...999_999))"
    }
}
