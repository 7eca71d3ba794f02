// What a look at the DNS makes of a domain: a pure rule, told here and nowhere else.
//
// A verification has 72 hours. Within them the records are looked at after a minute first, then ever more rarely, at the
// latest every hour. Verified is a domain whose needed records were all seen in one look. After 72 hours without
// that it is failed, and nobody looks again until somebody asks.
//
// A verified domain is looked at daily and stays verified whatever is seen: a slip in the DNS must not stop a customer's
// mail. A record that is gone says `failed`, and the domain keeps since when it lacks one that it needs.
//
// A DNS that does not answer proves nothing: no record changes its status by that.

package import Mail
package import Platform

/// The result of one look.
package struct DomainVerification: Sendable, Equatable {
    /// How long a verification is tried.
    package static let lifetime = Duration.seconds(72 * 3600)
    static let daily = Duration.seconds(86_400)

    package let status: Domain.Status
    package let failure: String?
    package let records: [DomainRecord]
    /// When to look next; nil for never.
    package let nextCheck: Duration?
    /// Whether a verified domain lacks a record that it needs.
    package let isLacking: Bool

    /// Judges the answers to a domain's records, given in their order.
    package init(
        of domain: Domain,
        answers: [RecordAnswer],
        now: Timestamp
    ) {
        let judged = zip(domain.records, answers).map { ($0, $0.judge($1)) }
        let elapsed = now - (domain.verifyFrom ?? now)
        let isOver = elapsed >= Self.lifetime
        records = judged.map { record, judgement in
            var record = record
            record.found = judgement.found
            record.detail = judgement.detail
            switch judgement.verdict {
            case .matches: record.status = .verified
            case .differs: record.status = isOver || record.status == .verified ? .failed : .pending
            case .unknown where isOver && record.status == .pending: record.status = .failed
            case .unknown: break
            }
            return record
        }
        let needed = judged.filter { $0.0.kind.isNeeded }.map(\.1.verdict)
        isLacking =
            domain.status == .verified
            && records.contains { $0.kind.isNeeded && $0.status != .verified }
        if domain.status == .verified || needed.allSatisfy({ $0 == .matches }) {
            (status, failure, nextCheck) = (.verified, nil, Self.daily)
        } else if isOver {
            let missing = records.filter { $0.kind.isNeeded && $0.status != .verified }.map(\.fqdn)
            status = .failed
            failure =
                "After 72 hours these records were not as expected: \(missing.joined(separator: ", "))."
            nextCheck = nil
        } else {
            (status, failure) = (.pending, nil)
            nextCheck = min(max(elapsed / 4, .seconds(60)), .seconds(3600))
        }
    }
}
