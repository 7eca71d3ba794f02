// A verification on its way: asked for, looked at by the job `verify-domain`, written down, and due again.

package import Database
package import Mail
package import Platform
package import Queue

/// A verification that was asked for.
package struct RequestedVerification: Sendable {
    /// A look that ended after this time saw the DNS as it is now.
    package let requestedAt: Timestamp
    /// To be pushed; empty when a job for this domain waits or runs already.
    package let tickets: [Ticket]
}

extension Store {
    /// Starts a domain's verification, or a look at a verified one; what its records must say follows the hosts of today.
    package func requestVerification(
        of id: DomainID,
        org: OrgID,
        hosts: [Region: MailHosts]
    ) async throws -> RequestedVerification {
        let job = try Self.verificationJob(id, org)
        return try await database.transaction(.tenant(org)) { transaction in
            let rows = try await transaction.query(
                """
                SELECT \(fragment: Domain.columns), clock_timestamp() AS requested_at FROM domains
                WHERE org_id = \(org) AND id = \(id) FOR UPDATE
                """
            )
            guard let row = rows.first else { throw StoreFault.unknown("Domain not found") }
            let requestedAt: Timestamp = try row("requested_at")
            let records = try Self.refreshed(try Domain(row), hosts)
            let written = try await transaction.batch([
                // Should the job be lost, the chore looks again.
                """
                UPDATE domains SET records = \(json: records), failure = NULL,
                    status = CASE WHEN status = 'verified' THEN status ELSE 'pending' END,
                    verify_from = CASE WHEN status = 'verified' THEN verify_from ELSE now() END,
                    next_check_at = least(next_check_at, now() + interval '5 minutes')
                WHERE org_id = \(org) AND id = \(id)
                """,
                Jobs.insert([job]),
            ])
            return RequestedVerification(
                requestedAt: requestedAt,
                tickets: written[1].affected == 1 ? [job.ticket] : []
            )
        }
    }

    /// The records as they must be by today's hosts; the keys stay.
    private static func refreshed(_ domain: Domain, _ hosts: [Region: MailHosts]) throws -> [DomainRecord] {
        let earlier = Dictionary(
            domain.records.map { ($0.kind, $0) },
            uniquingKeysWith: { first, _ in first }
        )
        guard let hosts = Region(rawValue: domain.region).flatMap({ hosts[$0] }),
            let rsa = earlier[.dkimRSA], let ed25519 = earlier[.dkimEd25519]
        else { return domain.records }
        return DomainRecord.expected(
            for: try DomainName(domain.name),
            rsa: (DKIMSelector.rsa, rsa.value),
            ed25519: (DKIMSelector.ed25519, ed25519.value),
            receivingHost: hosts.receiving,
            bounceHost: hosts.bounce,
            spfInclude: hosts.spfInclude
        ).map { $0.keeping(earlier[$0.kind]) }
    }

    private static func verificationJob(_ id: DomainID, _ org: OrgID) throws -> NewJob {
        try NewJob(
            org: org,
            queue: QueueName.verifyDomain,
            payload: VerifyDomainPayload(domain: id),
            attemptsMax: VerifyDomainPayload.attemptsMax,
            uniqueKey: id.description
        )
    }

    /// A domain whose records the job shall look at; nil when it is gone, or nobody wants it verified any more.
    package func domainToVerify(_ id: DomainID, org: OrgID) async throws -> Domain? {
        try await database.query(
            .worker,
            """
            SELECT \(fragment: Domain.columns) FROM domains
            WHERE org_id = \(org) AND id = \(id) AND status IN ('pending', 'verified')
            """
        ).first.map(Domain.init)
    }

    /// Writes down what a look found, inside the transaction that ends its job; the first to verify a name has it.
    ///
    /// `answers` are those to the records of `domain` as it was read before the look. Returns what came of it, nil when the
    /// domain changed meanwhile so that the look says nothing.
    @discardableResult
    package func record(
        _ answers: [RecordAnswer],
        of domain: Domain,
        org: OrgID,
        in transaction: Transaction
    ) async throws -> DomainVerification? {
        // Two organizations that verify one name change each other's rows: one after the other, or they could deadlock.
        try await transaction.query(
            "SELECT pg_advisory_xact_lock(hashtextextended(\("domain/\(domain.name)"), 0)) IS NULL AS locked"
        )
        let rows = try await transaction.query(
            """
            SELECT \(fragment: Domain.columns), clock_timestamp() AS at FROM domains
            WHERE org_id = \(org) AND id = \(domain.id) FOR UPDATE
            """
        )
        guard let row = rows.first else { return nil }
        let current = try Domain(row)
        let isAsked = current.status == .pending || current.status == .verified
        // Other hosts since: these answers are to other questions, and the next look asks the new ones.
        guard isAsked, current.records.map(\.value) == domain.records.map(\.value) else { return nil }
        let verification = DomainVerification(of: current, answers: answers, now: try row("at"))
        if verification.status == .verified, current.status != .verified,
            try await !take(current, org: org, transaction)
        {
            try await transaction.query(Self.fail(current.id, org, verification.records))
            return verification
        }
        try await transaction.query(Self.update(current, org, verification))
        return verification
    }

    /// Enters the name in the directory; false when somebody else has it.
    private func take(_ domain: Domain, org: OrgID, _ transaction: Transaction) async throws -> Bool {
        let entered = try await transaction.query(
            """
            INSERT INTO verified_domains (name, org_id, domain_id)
            SELECT \(domain.name), \(org), \(domain.id)
            WHERE NOT EXISTS (SELECT 1 FROM platform_domains p WHERE p.name = \(domain.name))
            ON CONFLICT (name) DO UPDATE SET domain_id = excluded.domain_id
                WHERE verified_domains.org_id = excluded.org_id
            """
        )
        guard entered.affected == 1 else { return false }
        try await transaction.query(
            """
            UPDATE domains SET status = 'failed', failure = \(Self.verifiedElsewhere), next_check_at = NULL
            WHERE name = \(domain.name) AND org_id <> \(org)
            """
        )
        return true
    }

    private static let verifiedElsewhere = "Another organization has verified this domain."

    private static func fail(_ id: DomainID, _ org: OrgID, _ records: [DomainRecord]) -> Statement {
        """
        UPDATE domains SET status = 'failed', failure = \(verifiedElsewhere), records = \(json: records),
            checked_at = clock_timestamp(), next_check_at = NULL
        WHERE org_id = \(org) AND id = \(id)
        """
    }

    private static func update(_ domain: Domain, _ org: OrgID, _ result: DomainVerification) -> Statement {
        // ± 10 %, so that domains that were made together are not looked at together for ever.
        let next = result.nextCheck.map { Double($0.microseconds) * Double.random(in: 0.9...1.1) }
        return """
            UPDATE domains SET status = \(result.status), failure = \(result.failure), records = \(json: result.records),
                checked_at = clock_timestamp(),
                verified_at = CASE WHEN \(result.status)::text = 'verified' THEN coalesce(verified_at, now()) END,
                records_lost_at = CASE WHEN \(result.isLacking) THEN coalesce(records_lost_at, now()) END,
                next_check_at = now() + \(next.map { Int64($0) })::bigint * interval '1 microsecond'
            WHERE org_id = \(org) AND id = \(domain.id)
            """
    }

    /// Inserts a job for each domain that is due for a look; to be pushed.
    ///
    /// Each is put off for an hour at once: its job says when it is due again, and one that dies is not made anew
    /// without end.
    package func startDueVerifications(limit: Int) async throws -> [Ticket] {
        try await database.transaction(.worker) { transaction in
            let rows = try await transaction.query(
                """
                UPDATE domains SET next_check_at = now() + interval '1 hour'
                FROM (
                    SELECT org_id, id FROM domains WHERE next_check_at <= now()
                    ORDER BY next_check_at LIMIT \(limit) FOR UPDATE SKIP LOCKED
                ) AS due
                WHERE domains.org_id = due.org_id AND domains.id = due.id
                RETURNING domains.org_id, domains.id
                """
            )
            let jobs = try rows.map { try Self.verificationJob(try $0("id"), try $0("org_id")) }
            if !jobs.isEmpty { try await transaction.query(Jobs.insert(jobs)) }
            return jobs.map(\.ticket)
        }
    }
}

extension VerifyDomainPayload {
    /// Tries of one look that cannot be written down; the next look comes of itself.
    package static let attemptsMax = 5
}
