// Domains: made, listed, shown, verified.

import Foundation
import Hummingbird
import Mail
import Platform
import Queue
import Store

enum DomainRoutes {
    /// A domain as callers see it.
    struct View: Encodable, Sendable {
        let id: DomainID
        let name: String
        let displayName: String
        let status: String
        let region: String
        let failure: String?
        let records: [RecordView]
        let inboxes: [InboxView]
        let createdAt: String?
        let checkedAt: String?
        let verifiedAt: String?

        init(_ domain: Domain, _ inboxes: [InboxSummary]) {
            id = domain.id
            name = domain.name
            displayName = domain.givenName
            status = domain.status.rawValue
            region = domain.region
            failure = domain.failure
            records = domain.records.map(RecordView.init)
            self.inboxes = inboxes.map(InboxView.init)
            createdAt = domain.createdAt.iso8601
            checkedAt = domain.checkedAt?.iso8601
            verifiedAt = domain.verifiedAt?.iso8601
        }

        /// The platform's domain, whose records are the operator's business.
        init(shared domain: InboxDomain, _ inboxes: [InboxSummary]) {
            id = domain.id
            (name, displayName) = (domain.name, domain.name)
            status = Domain.Status.verified.rawValue
            region = Region.usEast1.rawValue
            failure = nil
            records = []
            self.inboxes = inboxes.map(InboxView.init)
            (createdAt, checkedAt, verifiedAt) = (nil, nil, nil)
        }

        enum CodingKeys: String, CodingKey {
            case id, name, displayName, status, region, failure, records, inboxes, createdAt, checkedAt,
                verifiedAt
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(id, forKey: .id)
            try container.encode(name, forKey: .name)
            try container.encode(displayName, forKey: .displayName)
            try container.encode(status, forKey: .status)
            try container.encode(region, forKey: .region)
            try container.encode(failure, forKey: .failure)
            try container.encode(records, forKey: .records)
            try container.encode(inboxes, forKey: .inboxes)
            try container.encode(createdAt, forKey: .createdAt)
            try container.encode(checkedAt, forKey: .checkedAt)
            try container.encode(verifiedAt, forKey: .verifiedAt)
        }
    }

    /// A record as registrars want it, and what was found.
    struct RecordView: Encodable, Sendable {
        let record: DomainRecord

        private var label: String {
            switch record.kind {
            case .dkimRSA, .dkimEd25519: "DKIM"
            case .returnPathMX, .returnPathSPF: "SPF"
            case .receiving: "Receiving"
            case .dmarc: "DMARC"
            }
        }

        enum CodingKeys: String, CodingKey {
            case record, name, fqdn, type, value, priority, ttl, status, expected, found, detail
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(label, forKey: .record)
            try container.encode(record.name, forKey: .name)
            try container.encode(record.fqdn, forKey: .fqdn)
            try container.encode(record.type, forKey: .type)
            try container.encode(record.value, forKey: .value)
            try container.encodeIfPresent(record.priority, forKey: .priority)
            try container.encode("Auto", forKey: .ttl)
            try container.encode(record.status, forKey: .status)
            try container.encode(record.value, forKey: .expected)
            try container.encode(record.found, forKey: .found)
            try container.encode(record.detail, forKey: .detail)
        }
    }

    /// What a domain shows of its inboxes.
    struct InboxView: Encodable, Sendable {
        let id: InboxID
        let localPart: String
        let address: String

        init(_ inbox: InboxSummary) { (id, localPart, address) = (inbox.id, inbox.localPart, inbox.address) }
    }

    /// `verify` waits this long for the job.
    private static let verifyWait = Duration.seconds(3)

    static func list(_ call: Call) async throws -> Answer {
        let org = try call.caller.org
        let page = try await call.store.domains(
            org: org,
            after: try call.cursor(of: "domains"),
            limit: try call.query("limit", in: 1...100, default: 100)
        )
        let inboxes = try await call.store.inboxSummaries(of: page.elements.map(\.id), org: org)
        return try call.answer(page, of: "domains") { View($0, inboxes[$0.id] ?? []) }
    }

    static func show(_ call: Call) async throws -> Answer {
        let id: DomainID = try call.id("domain_id", of: "Domain")
        return try Answer(.ok, Envelope(data: try await view(of: id, call)))
    }

    static func records(_ call: Call) async throws -> Answer {
        let id: DomainID = try call.id("domain_id", of: "Domain")
        return try Answer(.ok, Envelope(data: try await view(of: id, call).records))
    }

    static func create(_ call: Call) async throws -> Answer {
        let request = try call.decode(DomainRequest.self)
        let (name, region) = try request.checked()
        // Every region has hosts; the configuration sees to it.
        guard let hosts = call.backend.mailHosts[region] else { throw APIError.notFound("Region") }
        let domain = try await call.store.createDomain(
            org: call.caller.org,
            name: name,
            givenName: request.name,
            region: region,
            hosts: hosts
        )
        return try Answer(.created, Envelope(data: View(domain, [])))
    }

    /// Starts the job and answers with what it has found within three seconds.
    static func verify(_ call: Call) async throws -> Answer {
        let id: DomainID = try call.id("domain_id", of: "Domain")
        let org = try call.caller.org
        let requested = try await call.store.requestVerification(
            of: id,
            org: org,
            hosts: call.backend.mailHosts
        )
        call.push(requested.tickets)
        let deadline = ContinuousClock.now + verifyWait
        while ContinuousClock.now < deadline {
            guard let domain = try await call.store.domain(id, org: org) else {
                throw APIError.notFound("Domain")
            }
            if let checkedAt = domain.checkedAt, checkedAt > requested.requestedAt { break }
            // No connection is held meanwhile.
            try await Task.sleep(for: .milliseconds(100))
        }
        return try Answer(.ok, Envelope(data: try await view(of: id, call)))
    }

    private static func view(of id: DomainID, _ call: Call) async throws -> View {
        let org = try call.caller.org
        if let domain = try await call.store.domain(id, org: org) {
            return View(domain, try await call.store.inboxSummaries(of: [id], org: org)[id] ?? [])
        }
        // Inboxes name the platform's domain, so it can be asked for; it is in no list.
        guard let shared = try await call.store.inboxDomain(id, org: org) else {
            throw APIError.notFound("Domain")
        }
        return View(shared: shared, try await call.store.inboxSummaries(of: [id], org: org)[id] ?? [])
    }
}

/// `POST /v1/domains`.
private struct DomainRequest: Decodable {
    /// `commune-ed._domainkey.` must fit before it.
    static let nameOctetsMax = DomainName.octetsMax - 22

    let name: String
    let region: String?

    enum CodingKeys: String, CodingKey {
        case name, domain, region
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        // The command line says `domain`.
        if let domain = try container.decodeIfPresent(String.self, forKey: .domain),
            try container.decodeIfPresent(String.self, forKey: .name) == nil
        {
            name = domain
        } else {
            name = try container.decode(String.self, forKey: .name)
        }
        region = try container.decodeIfPresent(String.self, forKey: .region)
    }

    func checked() throws -> (DomainName, Region) {
        var faults: [APIError.Detail] = []
        let name = checkedName(&faults)
        let region = Region(rawValue: region ?? Region.usEast1.rawValue)
        if region == nil {
            let known = Region.allCases.map(\.rawValue).joined(separator: " or ")
            faults.append(.init(path: "region", message: "must be \(known)."))
        }
        guard let name, let region, faults.isEmpty else { throw APIError.invalid(faults) }
        return (name, region)
    }

    private func checkedName(_ faults: inout [APIError.Detail]) -> DomainName? {
        func fault(_ message: String) -> DomainName? {
            faults.append(.init(path: "name", message: message))
            return nil
        }
        do throws(AddressFault) {
            let domain = try DomainName(name)
            guard domain.ascii.utf8.count <= Self.nameOctetsMax else {
                return fault("must be at most \(Self.nameOctetsMax) characters.")
            }
            guard !PublicSuffix.isPublicSuffix(domain.ascii) else {
                return fault("is a public suffix, under which others register their domains.")
            }
            return domain
        } catch .addressLiteral {
            return fault("must be a domain name, not an IP address.")
        } catch .empty {
            return fault("must not be empty.")
        } catch {
            return fault("is not a domain name such as example.com.")
        }
    }
}
