// Statements about the jobs of a probe: jobs that do nothing, by which a queue's installation is checked and measured.
//
// They belong to organizations made up for one probe, so that no tenant's rows are touched and all of them can be
// found and removed by those ids.

package import Database
package import Platform

/// What a probe asks of the jobs table.
package enum ProbeJobs {
    /// Keeps when an attempt began, by the worker's clock, for the probe to read; belongs to the effects of that attempt.
    package static func keepStart(of job: ClaimedJob, at time: Timestamp) -> Statement {
        """
        UPDATE jobs SET payload = jsonb_build_object('began', \(time.microseconds)::bigint)
        WHERE org_id = \(job.org) AND id = \(job.id)
        """
    }

    /// One row when a job has ended: `state` and `began`, in microseconds since 1970.
    package static func ended(_ job: NewJob) -> Statement {
        """
        SELECT state::text AS state, (payload->>'began')::bigint AS began FROM jobs
        WHERE org_id = \(job.org) AND id = \(job.id) AND state NOT IN ('queued', 'running')
        """
    }

    /// Rows while jobs of a queue wait or run.
    package static func unfinished(queue: String) -> Statement {
        """
        (SELECT 1 FROM jobs WHERE state = 'queued' AND queue = \(queue) LIMIT 1)
        UNION ALL (SELECT 1 FROM jobs WHERE state = 'running' AND queue = \(queue) LIMIT 1)
        """
    }

    /// How many of these organizations' jobs succeeded, and in how many seconds from the first start to the last end.
    package static func result(_ orgs: [OrgID], queue: String) -> Statement {
        """
        SELECT count(*) AS succeeded,
            coalesce(extract(epoch FROM max(finished_at) - min(started_at)), 0)::double precision AS seconds
        FROM jobs WHERE org_id = ANY (\(orgs)::uuid[]) AND queue = \(queue) AND state = 'succeeded'
        """
    }

    /// Workers that serve a queue and have been seen within fifteen seconds.
    package static func workers(of queue: String) -> Statement {
        "SELECT id FROM workers WHERE \(queue) = ANY (queues) AND seen_at > now() - interval '15 seconds'"
    }

    /// Removes a probe's jobs, some at a time.
    package static func remove(_ orgs: [OrgID], queue: String, limit: Int) -> Statement {
        """
        DELETE FROM jobs WHERE (org_id, id) IN (
            SELECT org_id, id FROM jobs WHERE org_id = ANY (\(orgs)::uuid[]) AND queue = \(queue) LIMIT \(limit))
        """
    }
}
