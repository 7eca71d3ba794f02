// Dead letters, and waiting jobs that an operator takes out: found in order, changed a batch at a time.

package import Database
package import Platform

/// A job by its primary key.
package struct JobKey: Sendable, Hashable {
    package let org: OrgID
    package let id: JobID

    /// Names a job.
    package init(org: OrgID, id: JobID) {
        self.org = org
        self.id = id
    }

    /// Reads `org_id, id`.
    package init(_ row: Row) throws { self.init(org: try row("org_id"), id: try row("id")) }
}

/// Which dead letters of a queue are meant.
package struct DeadLetterFilter: Sendable {
    package let queue: String
    /// One alone; nil is all.
    package let id: JobID?
    /// Those of one organization; nil is all.
    package let org: OrgID?

    /// All of a queue unless narrowed.
    package init(queue: String, id: JobID? = nil, org: OrgID? = nil) {
        self.queue = queue
        self.id = id
        self.org = org
    }
}

/// Where a walk over dead letters stands, from the newest to the oldest; what dies meanwhile is never met.
package struct DeadLetterCursor: Sendable {
    let diedAt: Timestamp
    let id: JobID

    /// Reads `finished_at, id`.
    package init(_ row: Row) throws {
        diedAt = try row("finished_at")
        id = try row("id")
    }
}

extension Jobs {
    /// The newest dead letters of a queue.
    package static func dead(queue: String, limit: Int) -> Statement {
        """
        SELECT org_id, id, finished_at, last_error FROM jobs WHERE queue = \(queue) AND state = 'dead'
        ORDER BY finished_at DESC LIMIT \(limit)
        """
    }

    /// One dead letter with everything.
    package static func dead(_ id: JobID) -> Statement {
        """
        SELECT org_id, queue, lane, created_at, finished_at, attempt, max_attempts, crash_count, last_error,
            payload::text AS payload
        FROM jobs WHERE id = \(id) AND state = 'dead'
        """
    }

    /// The next dead letters of a walk, locked for the transaction: `org_id, id, finished_at`.
    package static func dead(
        _ filter: DeadLetterFilter,
        after cursor: DeadLetterCursor?,
        limit: Int
    ) -> Statement {
        if let id = filter.id {
            return """
                SELECT org_id, id, finished_at FROM jobs
                WHERE id = \(id) AND queue = \(filter.queue) AND state = 'dead' FOR UPDATE
                """
        }
        var statement: Statement = """
            SELECT org_id, id, finished_at FROM jobs WHERE queue = \(filter.queue) AND state = 'dead'
            """
        if let org = filter.org { statement += " AND org_id = \(org)" }
        if let cursor { statement += " AND (finished_at, id) < (\(cursor.diedAt), \(cursor.id))" }
        statement += " ORDER BY finished_at DESC, id DESC LIMIT \(limit) FOR UPDATE"
        return statement
    }

    /// Lets dead letters run again with fresh attempts, behind everything fresh; returns `org_id, id`.
    ///
    /// Of those with one unique key the newest runs, unless a job with that key waits or runs already.
    package static func replay(_ dead: [JobKey]) -> Statement {
        """
        UPDATE jobs SET state = 'queued', gen = gen + 1, attempt = 0, crash_count = 0, run_at = now(), finished_at = NULL,
            priority = \(Priority.last.rawValue)
        FROM (
            SELECT j.org_id, j.id, row_number() OVER (
                PARTITION BY j.org_id, coalesce(j.unique_key, j.id::text) ORDER BY j.finished_at DESC, j.id DESC) AS n
            FROM jobs j JOIN unnest(\(dead.map(\.org))::uuid[], \(dead.map(\.id))::uuid[]) AS w (org_id, id)
                ON j.org_id = w.org_id AND j.id = w.id
            WHERE j.state = 'dead'
        ) AS newest
        WHERE newest.n = 1 AND jobs.org_id = newest.org_id AND jobs.id = newest.id AND jobs.state = 'dead'
            AND NOT EXISTS (SELECT 1 FROM jobs other WHERE other.org_id = jobs.org_id AND other.queue = jobs.queue
                AND other.unique_key = jobs.unique_key AND other.state IN ('queued', 'running'))
        RETURNING jobs.org_id, jobs.id
        """
    }

    /// Deletes dead letters; returns `org_id, id`.
    package static func drop(_ dead: [JobKey]) -> Statement {
        """
        DELETE FROM jobs USING unnest(\(dead.map(\.org))::uuid[], \(dead.map(\.id))::uuid[]) AS w (org_id, id)
        WHERE jobs.org_id = w.org_id AND jobs.id = w.id AND jobs.state = 'dead'
        RETURNING jobs.org_id, jobs.id
        """
    }

    // MARK: Taken out before they run

    /// One job by its id alone: `org_id, queue, state, host, started_at`.
    ///
    /// The primary key leads with the organization, so it is asked for once for each that has jobs.
    package static func find(_ id: JobID) -> Statement {
        """
        WITH RECURSIVE orgs AS (
            (SELECT org_id FROM jobs ORDER BY org_id LIMIT 1)
            UNION ALL
            SELECT (SELECT j.org_id FROM jobs j WHERE j.org_id > orgs.org_id ORDER BY j.org_id LIMIT 1)
            FROM orgs WHERE orgs.org_id IS NOT NULL
        )
        SELECT j.org_id, j.queue, j.state::text AS state, w.host, j.started_at
        FROM orgs JOIN jobs j ON j.org_id = orgs.org_id AND j.id = \(id) LEFT JOIN workers w ON w.id = j.worker_id
        """
    }

    /// Waiting jobs of one organization that were made until `until`, locked for the transaction: `org_id, id`.
    package static func waiting(queue: String, org: OrgID, until: Timestamp, limit: Int) -> Statement {
        """
        SELECT org_id, id FROM jobs
        WHERE queue = \(queue) AND org_id = \(org) AND state = 'queued' AND created_at <= \(until)
        ORDER BY id LIMIT \(limit) FOR UPDATE SKIP LOCKED
        """
    }

    /// Cancels jobs that wait; returns `org_id, id, payload` of those that did.
    package static func cancel(_ jobs: [JobKey], reason: String) -> Statement {
        """
        UPDATE jobs SET state = 'cancelled', gen = gen + 1, finished_at = now(), last_error = \(reason)
        FROM unnest(\(jobs.map(\.org))::uuid[], \(jobs.map(\.id))::uuid[]) AS w (org_id, id)
        WHERE jobs.org_id = w.org_id AND jobs.id = w.id AND jobs.state = 'queued'
        RETURNING jobs.org_id, jobs.id, jobs.payload::text AS payload
        """
    }
}
