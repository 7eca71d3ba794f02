// The body that makes or changes an inbox, and everything that can be said about it without looking anything up.

import DNS
import Foundation
import Mail
import Platform
import Store

/// `POST …/inboxes`, `PUT` and `PATCH` of an inbox; what is not given is kept.
struct InboxRequest: Decodable {
    static let nameMax = 200

    let localPart: Change<String?>
    let name: Change<String?>
    let status: Change<String?>
    let webhook: Change<WebhookRequest?>
    let listUnsubscribe: Bool?
    let domain: String?

    enum CodingKeys: String, CodingKey {
        case localPart = "local_part"
        case domain = "domain_id"
        case listUnsubscribe = "list_unsubscribe"
        case name, status, webhook
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        func change<Value: Decodable & Sendable>(_ key: CodingKeys) throws -> Change<Value?> {
            guard container.contains(key) else { return .keep }
            return .set(try container.decodeIfPresent(Value.self, forKey: key))
        }
        localPart = try change(.localPart)
        name = try change(.name)
        status = try change(.status)
        webhook = try change(.webhook)
        listUnsubscribe = try container.decodeIfPresent(Bool.self, forKey: .listUnsubscribe)
        domain = try container.decodeIfPresent(String.self, forKey: .domain)
    }

    /// Throws what is wrong with a new inbox, but for its local part, whose domain must be known.
    func validate(_ filter: AddressFilter) throws {
        var faults: [APIError.Detail] = []
        check(filter, &faults)
        guard faults.isEmpty else { throw APIError.invalid(faults) }
    }

    /// The local part as it is kept; nil when none is asked for.
    func newLocalPart(on domain: String) throws -> String? {
        guard case .set(let text?) = localPart else { return nil }
        return try Self.checked(text, on: domain)
    }

    /// nil when none is given.
    func webhookChange(_ filter: AddressFilter) -> WebhookChange? {
        var faults: [APIError.Detail] = []
        guard case .set(let request?) = webhook else { return nil }
        return request.change(filter, path: "webhook.", &faults)
    }

    /// What is to be changed of an inbox on this domain; every field at fault is named.
    func changes(on domain: String, _ filter: AddressFilter) throws -> InboxChanges {
        var faults: [APIError.Detail] = []
        check(filter, &faults)
        var changes = InboxChanges()
        changes.displayName = name
        changes.status = status
        if let listUnsubscribe { changes.listUnsubscribe = .set(listUnsubscribe) }
        // null removes it, as `{}` does.
        if case .set = webhook { changes.webhook = .set(webhookChange(filter) ?? WebhookChange()) }
        if case .set(let text) = localPart {
            do {
                guard let text else { throw Self.localPartFault }
                changes.localPart = .set(try Self.checked(text, on: domain))
            } catch let error as APIError {
                faults += error.details
            }
        }
        guard faults.isEmpty else { throw APIError.invalid(faults) }
        return changes
    }

    private func check(_ filter: AddressFilter, _ faults: inout [APIError.Detail]) {
        // The rules of a mailbox: a name that no header can show would fail every send of the inbox.
        if case .set(let name?) = name,
            name.unicodeScalars.count > Self.nameMax || name.utf8.count > Mailbox.displayNameOctetsMax
                || name.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) }
                )
        {
            let limits = "at most \(Self.nameMax) characters and \(Mailbox.displayNameOctetsMax) bytes"
            faults.append(.init(path: "name", message: "must be \(limits), without control characters."))
        }
        if case .set(let status?) = status, status != "active", status != "inactive" {
            faults.append(.init(path: "status", message: "must be active, inactive or null."))
        }
        if case .set(let request?) = webhook { _ = request.change(filter, path: "webhook.", &faults) }
    }

    private static let localPartFault = APIError.invalid([
        .init(
            path: "local_part",
            message: "must be 1 to 64 letters, digits or . _ - characters, as before the @ of an address."
        )
    ])

    /// Lower case, dot-atom, without a plus-tag.
    private static func checked(_ localPart: String, on domain: String) throws -> String {
        let lowered = localPart.lowercased()
        guard
            let address = try? EmailAddress("\(lowered)@\(domain)"),
            address.local == lowered, address.tag == nil, lowered.utf8.allSatisfy(isLocalPartByte)
        else { throw localPartFault }
        return lowered
    }

    private static func isLocalPartByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
        default: false
        }
    }
}
