// What the rest of the house asks of the DNS, and what it hears.

/// Types of records that we ask for, by their numbers (RFC 1035 §3.2.2 and the IANA registry).
package enum RecordType: UInt16, Sendable, CaseIterable {
    case a = 1
    case ns = 2
    case cname = 5
    case ptr = 12
    case mx = 15
    case txt = 16
    case aaaa = 28
    case tlsa = 52
}

/// The data of one record.
package enum DNSRecord: Sendable, Hashable {
    /// A or AAAA.
    case address(IPAddress)
    /// MX; the exchange is `.` for a null MX (RFC 7505).
    case mx(preference: UInt16, exchange: String)
    /// TXT: its strings joined without a space, as SPF, DKIM and DMARC read them.
    case txt(String)
    /// The target of CNAME, NS or PTR.
    case name(String)
    /// TLSA (RFC 6698 §2.1).
    case tlsa(usage: UInt8, selector: UInt8, matching: UInt8, data: [UInt8])
}

/// An answer that is final for now.
///
/// Empty records mean that the name exists without this type.
package struct DNSAnswer: Sendable, Hashable {
    /// Records of the type that was asked for, at the end of any CNAMEs.
    package let records: [DNSRecord]
    /// Whether DNSSEC proved the answer.
    package let secure: Bool
    /// The name at the end of any CNAMEs; lower case, no trailing dot.
    package let canonicalName: String
    /// How long the answer may be kept.
    package let ttlSeconds: Int

    /// Takes an answer's parts.
    package init(records: [DNSRecord], secure: Bool = false, canonicalName: String, ttlSeconds: Int = 0) {
        self.records = records
        self.secure = secure
        self.canonicalName = canonicalName
        self.ttlSeconds = ttlSeconds
    }

    /// Addresses among the records.
    package var addresses: [IPAddress] {
        records.compactMap { if case .address(let address) = $0 { address } else { nil } }
    }

    /// Texts among the records.
    package var texts: [String] {
        records.compactMap { if case .txt(let text) = $0 { text } else { nil } }
    }

    /// Names among the records.
    package var names: [String] {
        records.compactMap { if case .name(let name) = $0 { name } else { nil } }
    }
}

/// Why there is no answer.
package enum DNSFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// NXDOMAIN, the one permanent fault.
    case noSuchName
    /// SERVFAIL, REFUSED, a failed DNSSEC proof, or no server to ask.
    case serverFailure(String)
    /// No answer within the time limit.
    case timedOut
    /// The question was no domain name, or the answer no valid record.
    case malformed(String)
    /// The task that asked was cancelled.
    case cancelled

    /// Whether asking again later may help.
    package var isTransient: Bool { self != .noSuchName }

    package var description: String {
        switch self {
        case .noSuchName: "no such domain name"
        case .serverFailure(let reason): "DNS failure: \(reason)"
        case .timedOut: "the DNS did not answer in time"
        case .malformed(let reason): "malformed: \(reason)"
        case .cancelled: "cancelled"
        }
    }
}

/// How a look-up is made.
package struct LookupOptions: Sendable {
    /// Past our own cache.
    package var fresh: Bool
    /// Time limit; nil is the resolver's own.
    package var timeout: Duration?

    /// Through the cache, within the resolver's own time limit, unless said otherwise.
    package init(fresh: Bool = false, timeout: Duration? = nil) {
        self.fresh = fresh
        self.timeout = timeout
    }
}

/// Something that answers questions to the DNS.
package protocol Resolver: Sendable {
    /// Looks up one type of one name, given as A-labels with or without the trailing dot. Follows CNAMEs.
    func lookup(
        _ name: String,
        _ type: RecordType,
        options: LookupOptions
    ) async throws(DNSFault) -> DNSAnswer
}

extension Resolver {
    /// Looks up one type of one name in the usual way.
    package func lookup(_ name: String, _ type: RecordType) async throws(DNSFault) -> DNSAnswer {
        try await lookup(name, type, options: LookupOptions())
    }

    /// Looks up one type of one name, past our cache or within another time limit.
    package func lookup(
        _ name: String,
        _ type: RecordType,
        fresh: Bool,
        timeout: Duration? = nil
    ) async throws(DNSFault) -> DNSAnswer {
        try await lookup(name, type, options: LookupOptions(fresh: fresh, timeout: timeout))
    }

    /// All addresses of a host, A before AAAA; empty when the name exists without any.
    ///
    /// A fault of one family counts only when the other has nothing either.
    package func addresses(
        of host: String,
        options: LookupOptions = LookupOptions()
    ) async throws(DNSFault) -> [IPAddress] {
        async let four = result(host, .a, options)
        async let six = result(host, .aaaa, options)
        let results = await [four, six]
        let found = results.flatMap { (try? $0.get().addresses) ?? [] }
        guard found.isEmpty else { return found }
        let faults = results.compactMap { if case .failure(let fault) = $0 { fault } else { nil } }
        if let fault = faults.first(where: \.isTransient) ?? faults.first { throw fault }
        return []
    }

    private func result(
        _ name: String,
        _ type: RecordType,
        _ options: LookupOptions
    ) async -> Result<DNSAnswer, DNSFault> {
        do throws(DNSFault) {
            return .success(try await lookup(name, type, options: options))
        } catch {
            return .failure(error)
        }
    }
}
