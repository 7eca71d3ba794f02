// How much there is of what; and what has been there for long enough.

package import Database
import Platform

extension Jobs {
    /// How many jobs each queue has by state, and the age of its oldest waiting one; `org` is null unless by organization.
    package static func depths(byOrg: Bool) -> Statement {
        let column = byOrg ? "org_id::text" : "NULL::text"
        return """
            SELECT queue, \(raw: column) AS org,
                count(*) FILTER (WHERE state = 'queued' AND run_at <= now()) AS ready,
                count(*) FILTER (WHERE state = 'queued' AND run_at > now()) AS delayed,
                count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'dead') AS dead,
                coalesce(extract(epoch FROM now() - min(run_at) FILTER (WHERE state = 'queued' AND run_at <= now())), 0)
                    ::double precision AS oldest_seconds
            FROM jobs WHERE state IN ('queued', 'running', 'dead') GROUP BY 1, 2 ORDER BY 1, 2
            """
    }

    /// Removes what finished, or was cancelled, before the given age, some at a time.
    package static func purgeFinished(olderThan age: Duration, limit: Int) -> Statement {
        """
        DELETE FROM jobs USING (
            SELECT org_id, id FROM jobs
            WHERE state IN ('succeeded', 'cancelled') AND finished_at < now() - \(age.microseconds) * interval '1 microsecond'
            ORDER BY finished_at LIMIT \(limit) FOR UPDATE SKIP LOCKED
        ) AS old WHERE jobs.org_id = old.org_id AND jobs.id = old.id
        """
    }
}
