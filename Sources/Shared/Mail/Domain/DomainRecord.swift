// What must stand in the DNS of a domain that sends and receives through us.

/// One record: what it must say, and what was found.
package struct DomainRecord: Sendable, Codable, Hashable {
    /// What the record is for.
    package enum Kind: String, Sendable, Codable, CaseIterable {
        /// Our RSA key; only who controls the domain can publish it, so it proves ownership.
        case dkimRSA = "dkim_rsa"
        case dkimEd25519 = "dkim_ed25519"
        /// Bounces come back to us.
        case returnPathMX = "return_path_mx"
        case returnPathSPF = "return_path_spf"
        /// Mail to the domain comes to us.
        case receiving
        case dmarc

        /// Whether a domain is not verified without it.
        package var isNeeded: Bool {
            switch self {
            case .dkimRSA, .returnPathMX, .returnPathSPF: true
            case .dkimEd25519, .receiving, .dmarc: false
            }
        }
    }

    /// TXT and MX are all that is asked for.
    package enum RecordType: String, Sendable, Codable {
        case txt = "TXT"
        case mx = "MX"
    }

    /// Where a record stands.
    package enum Status: String, Sendable, Codable {
        /// Not found yet.
        case pending
        case verified
        /// Gone again, or not found within the time that a verification has.
        case failed
    }

    package let kind: Kind
    /// The full name, lower-case A-labels without the dot at the end.
    package let fqdn: String
    package let type: RecordType
    /// What must be published; of an MX record the host alone.
    package let value: String
    /// Of an MX record; any other preference is as good.
    package let priority: Int?
    package var status = Status.pending
    /// What the DNS said at the last look: content, or in words why there is none; nil before the first look.
    package var found: String?
    /// Why what was found does not do, as a sentence.
    package var detail: String?

    /// The name as registrars want it: relative to the registrable domain, `@` for that one itself.
    package var name: String {
        guard let zone = PublicSuffix.registrableDomain(of: fqdn) else { return fqdn }
        return fqdn == zone ? "@" : String(fqdn.dropLast(zone.utf8.count + 1))
    }

    /// All records of a domain.
    ///
    /// `rsa` and `ed25519` are the public records of its keys, with their selectors.
    package static func expected(
        for domain: DomainName,
        rsa: (selector: String, record: String),
        ed25519: (selector: String, record: String),
        receivingHost: String,
        bounceHost: String,
        spfInclude: String
    ) -> [DomainRecord] {
        let domain = domain.ascii
        let send = returnPathDomain(of: domain)
        return [
            DomainRecord(.dkimRSA, "\(rsa.selector)._domainkey.\(domain)", .txt, rsa.record),
            DomainRecord(.dkimEd25519, "\(ed25519.selector)._domainkey.\(domain)", .txt, ed25519.record),
            DomainRecord(.returnPathMX, send, .mx, bounceHost, priority: 10),
            DomainRecord(.returnPathSPF, send, .txt, "v=spf1 include:\(spfInclude) ~all"),
            DomainRecord(.receiving, domain, .mx, receivingHost, priority: 10),
            DomainRecord(.dmarc, "_dmarc.\(domain)", .txt, "v=DMARC1; p=none; rua=mailto:dmarc@\(send)"),
        ]
    }

    /// Where the bounces and reports of a domain's mail go.
    package static func returnPathDomain(of domain: String) -> String { "send.\(domain)" }

    private init(_ kind: Kind, _ fqdn: String, _ type: RecordType, _ value: String, priority: Int? = nil) {
        (self.kind, self.fqdn, self.type, self.value, self.priority) = (kind, fqdn, type, value, priority)
    }

    /// The same record with what was found before, unless it has to say something else now.
    package func keeping(_ earlier: DomainRecord?) -> DomainRecord {
        guard let earlier, earlier.fqdn == fqdn, earlier.value == value else { return self }
        var record = self
        (record.status, record.found, record.detail) = (earlier.status, earlier.found, earlier.detail)
        return record
    }
}
