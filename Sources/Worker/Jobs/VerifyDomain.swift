// The work of `verify-domain`: one look at the records of a domain, past every cache that can be passed.
//
// A look that finds nothing is done as well as one that finds all: what follows from it, and when to look again, is
// told in Store/DomainVerification.swift. Only what cannot be written down is a failed try.

import DNS
import Database
import Logging
import Platform
import Queue
import Store

struct VerifyDomain: Work {
    let queue = QueueName.verifyDomain
    let deadline = Duration.seconds(60)
    let backoff = Backoff.exponential(base: .seconds(5), max: .seconds(300))

    let store: Store
    let resolver: UnboundResolver
    let logger: Logger

    func attempt(_ job: ClaimedJob, _ progress: Progress) async throws -> Completion {
        let payload: VerifyDomainPayload
        do {
            payload = try job.decode(VerifyDomainPayload.self)
        } catch {
            throw WorkFault.undecodable("\(error)")
        }
        guard let domain = try await store.domainToVerify(payload.domain, org: job.org) else {
            return Completion(outcome: .succeeded)
        }
        let fresh: FreshResolver
        do throws(DNSFault) {
            fresh = try await resolver.fresh(for: domain.name)
        } catch {
            // Too many looks at once; nothing was asked.
            return Completion(outcome: .snooze(after: .seconds(5), reason: error.description))
        }
        let answers = await fresh.answers(to: domain.records)
        if Task.isCancelled { return Completion(outcome: .released) }
        let org = job.org
        return Completion(
            outcome: .succeeded,
            effects: .transaction { [store, logger] transaction in
                let result = try await store.record(answers, of: domain, org: org, in: transaction)
                guard let result, result.isLacking, domain.recordsLostAt == nil else { return }
                logger.warning(
                    "A verified domain lacks records that it needs; it stays verified.",
                    metadata: ["domain.id": "\(domain.id)", "org.id": "\(org)"]
                )
            }
        )
    }
}
