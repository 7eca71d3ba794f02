// The webhook of an inbox as callers give it: which endpoints may be called, which events exist.

import DNS
import Foundation
import Platform
import Store

/// `{"endpoint", "events", "secret"}`; `{}` removes the webhook.
struct WebhookRequest: Decodable, Sendable {
    static let endpointOctetsMax = 2_048
    static let eventsMax = 50

    let endpoint: String?
    let events: [String]?
    let secret: String?
    /// Whether it has no member at all.
    let isEmpty: Bool

    enum CodingKeys: String, CodingKey {
        case endpoint, events, secret
    }

    private struct AnyKey: CodingKey {
        let stringValue: String
        let intValue: Int? = nil
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        endpoint = try container.decodeIfPresent(String.self, forKey: .endpoint)
        events = try container.decodeIfPresent([String].self, forKey: .events)
        secret = try container.decodeIfPresent(String.self, forKey: .secret)
        isEmpty = try decoder.container(keyedBy: AnyKey.self).allKeys.isEmpty
    }

    /// What it asks for; faults are noted under `path`.
    func change(
        _ filter: AddressFilter,
        path: String,
        _ faults: inout [APIError.Detail]
    ) -> WebhookChange {
        if isEmpty { return WebhookChange() }
        var change = WebhookChange(endpoint: endpoint, secret: secret)
        if endpoint == nil, events == nil, secret == nil {
            faults.append(.init(path: path + "endpoint", message: "is required; {} removes the webhook."))
        }
        if let endpoint, let fault = Self.fault(ofEndpoint: endpoint, filter) {
            faults.append(.init(path: path + "endpoint", message: fault))
        }
        if let events {
            change.events = names(events, path, &faults)
        }
        if let secret, !WebhookSecret.isWellFormed(secret) {
            faults.append(
                .init(path: path + "secret", message: "must be whsec_ and the base64 of 24 to 64 bytes.")
            )
        }
        return change
    }

    private func names(_ given: [String], _ path: String, _ faults: inout [APIError.Detail]) -> [String] {
        guard given.count <= Self.eventsMax else {
            faults.append(.init(path: path + "events", message: "holds more than \(Self.eventsMax) names."))
            return []
        }
        var wanted: Set<String> = []
        for (index, event) in given.enumerated() {
            if let name = WebhookEvent.name(event) {
                wanted.insert(name)
            } else {
                let known = WebhookEvent.all.joined(separator: ", ")
                faults.append(
                    .init(path: path + "events[\(index)]", message: "is no event. Events are: \(known).")
                )
            }
        }
        return wanted.isEmpty ? [WebhookEvent.received] : WebhookEvent.all.filter(wanted.contains)
    }

    /// Why we would not call this URL; nil when we would.
    ///
    /// A name may still lead to a private address: that is decided again at every delivery, by each address it has then.
    static func fault(ofEndpoint text: String, _ filter: AddressFilter) -> String? {
        guard text.utf8.count <= endpointOctetsMax, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            let url = URLComponents(string: text), let host = url.host, !host.isEmpty,
            let scheme = url.scheme?.lowercased()
        else {
            return "must be an https URL of at most \(endpointOctetsMax) characters."
        }
        guard url.user == nil, url.password == nil, !(url.percentEncodedHost ?? "").contains("%") else {
            return "must not hold a user name, a password or an encoded host."
        }
        guard url.fragment == nil else { return "must not hold a fragment (#)." }
        guard (1...65_535).contains(url.port ?? 443) else { return "has a port that does not exist." }
        let isAllowedByOperator: Bool
        switch AddressFilter.host(host) {
        case .refused: return "has a host that is neither a name nor a plain address."
        case .address(let address):
            guard filter.allows(address) else { return "must not lead to a private or reserved address." }
            isAllowedByOperator = !address.isPublic
        case .name(let name):
            let isLocal = name == "localhost" || name.hasSuffix(".localhost")
            isAllowedByOperator = isLocal && (IPAddress("127.0.0.1").map(filter.allows) ?? false)
            if isLocal, !isAllowedByOperator { return "must not lead to a private or reserved address." }
        }
        // Clear text only within what the operator has allowed, which is meant for development.
        guard scheme == "https" || scheme == "http" && isAllowedByOperator else {
            return "must be an https URL."
        }
        return nil
    }
}
