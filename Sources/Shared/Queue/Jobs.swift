// The queue's truth: every statement on the jobs table.
//
// A job is claimed by one UPDATE that adds one to `gen`, and everything written for that attempt asks for that `gen`
// again. So an attempt that was given up for dead can finish nothing, however late it comes back.
//
// Statements on many jobs take them in the order of their ids, so that two of them cannot wait for each other.

package import Database
import Foundation
package import Platform

/// All SQL on jobs.
package enum Jobs {
    /// Crashes after which a job is held to be poison.
    package static let crashesMax = 3

    /// Inserts jobs in the caller's transaction; one whose unique key is taken is left out.
    package static func insert(_ jobs: [NewJob]) -> Statement {
        """
        INSERT INTO jobs (org_id, id, queue, kind, lane, priority, payload, run_at, max_attempts, unique_key)
        SELECT org_id, id, queue, queue, lane, priority, payload, coalesce(run_at, now()), max_attempts, unique_key
        FROM unnest(
            \(jobs.map(\.org))::uuid[], \(jobs.map(\.id))::uuid[], \(jobs.map(\.queue))::text[],
            \(jobs.map(\.lane))::text[], \(jobs.map(\.priority.rawValue))::smallint[], \(jobs.map(\.payload))::jsonb[],
            \(jobs.map(\.runAt))::timestamptz[], \(jobs.map(\.attemptsMax))::integer[],
            \(jobs.map(\.uniqueKey))::text[]
        ) AS t (org_id, id, queue, lane, priority, payload, run_at, max_attempts, unique_key)
        ORDER BY unique_key, id
        ON CONFLICT (org_id, queue, unique_key) WHERE unique_key IS NOT NULL AND state IN ('queued', 'running')
        DO NOTHING
        """
    }

    /// Claims leased jobs: the record that an attempt started.
    ///
    /// Rows that are no longer queued, or not due, do not come back and must not be run. Two seconds of difference
    /// between the clocks of Redis and PostgreSQL are forgiven.
    package static func claim(_ leases: [Lease], worker: WorkerID) -> Statement {
        let leases = leases.sorted { $0.id.uuid < $1.id.uuid }
        return """
            UPDATE jobs SET state = 'running', gen = jobs.gen + 1, attempt = attempt + 1, worker_id = \(worker),
                started_at = now()
            FROM unnest(\(leases.map(\.org))::uuid[], \(leases.map(\.id))::uuid[]) AS leased (org_id, id)
            WHERE jobs.org_id = leased.org_id AND jobs.id = leased.id
                AND jobs.state = 'queued' AND jobs.run_at <= now() + interval '2 seconds'
            RETURNING jobs.org_id, jobs.id, queue, kind, lane, priority, payload::text AS payload, attempt, max_attempts,
                crash_count, gen, created_at
            """
    }

    /// Reads what a claim returned.
    package static func claimed(_ row: Row) throws -> ClaimedJob {
        ClaimedJob(
            id: try row("id"),
            org: try row("org_id"),
            queue: try row("queue"),
            kind: try row("kind"),
            lane: try row("lane"),
            priority: Priority(rawValue: try row("priority")) ?? .normal,
            payload: try row("payload"),
            attempt: try row("attempt"),
            attemptsMax: try row("max_attempts"),
            crashCount: try row("crash_count"),
            generation: try row("gen"),
            createdAt: try row("created_at")
        )
    }

    /// Ends attempts, each behind its fence; the ids that come back are those that were still ours.
    ///
    /// Returns `org_id, id, state, gen, run_at`.
    package static func finish(_ endings: [Ending]) -> Statement {
        let endings = endings.sorted { $0.job.id.uuid < $1.job.id.uuid }
        return """
            UPDATE jobs SET state = e.state::job_state,
                run_at = CASE WHEN e.state = 'queued' THEN now() + e.delay * interval '1 microsecond' ELSE run_at END,
                attempt = attempt - CASE WHEN e.refund THEN 1 ELSE 0 END,
                last_error = coalesce(e.error, last_error), worker_id = NULL,
                finished_at = CASE WHEN e.state = 'queued' THEN NULL ELSE now() END
            FROM unnest(
                \(endings.map(\.job.org))::uuid[], \(endings.map(\.job.id))::uuid[], \(endings.map(\.job.generation))::integer[],
                \(endings.map(\.state.rawValue))::text[], \(endings.map(\.delay.microseconds))::bigint[],
                \(endings.map(\.refund))::boolean[], \(endings.map(\.error))::text[]
            ) AS e (org_id, id, gen, state, delay, refund, error)
            WHERE jobs.org_id = e.org_id AND jobs.id = e.id AND jobs.gen = e.gen AND jobs.state = 'running'
            RETURNING jobs.org_id, jobs.id, jobs.state::text AS state, jobs.gen, jobs.run_at
            """
    }

    /// Takes back running jobs whose lease expired, `generation` being the ticket's, one less than the claim's.
    ///
    /// Spared are those that a worker named in a heartbeat no older than `fresh`: it lives and was only cut off from Redis.
    /// Returns `org_id, id, state, crash_count, payload` of those that were running: queued again, or dead after too many crashes.
    package static func reap(_ expired: [ExpiredLease], sparing fresh: Duration = .zero) -> Statement {
        let expired = expired.sorted { $0.id.uuid < $1.id.uuid }
        return """
            UPDATE jobs SET gen = jobs.gen + 1, crash_count = crash_count + 1, worker_id = NULL,
                state = CASE WHEN crash_count + 1 >= \(crashesMax) THEN 'dead' ELSE 'queued' END::job_state,
                finished_at = CASE WHEN crash_count + 1 >= \(crashesMax) THEN now() END,
                last_error = 'The worker that ran this job stopped or hung ' || crash_count + 1 || ' time(s).'
            FROM unnest(\(expired.map(\.org))::uuid[], \(expired.map(\.id))::uuid[], \(expired.map(\.generation))::integer[])
                AS e (org_id, id, gen)
            WHERE jobs.org_id = e.org_id AND jobs.id = e.id AND jobs.gen = e.gen + 1 AND jobs.state = 'running'
                AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = jobs.worker_id AND jobs.id = ANY (w.running)
                    AND w.seen_at > now() - \(fresh.microseconds) * interval '1 microsecond')
            RETURNING jobs.org_id, jobs.id, jobs.state::text AS state, jobs.crash_count, jobs.payload::text AS payload
            """
    }

    /// Takes back running jobs whose worker's heartbeat is old, or does not name them, where Redis lost the lease.
    package static func reapOrphans(queue: String, heartbeatMax: Duration, limit: Int) -> Statement {
        """
        UPDATE jobs SET gen = jobs.gen + 1, crash_count = crash_count + 1, worker_id = NULL,
            state = CASE WHEN crash_count + 1 >= \(crashesMax) THEN 'dead' ELSE 'queued' END::job_state,
            finished_at = CASE WHEN crash_count + 1 >= \(crashesMax) THEN now() END,
            last_error = 'The worker that ran this job stopped or hung ' || crash_count + 1 || ' time(s).'
        FROM (
            SELECT j.org_id, j.id, j.gen FROM jobs j LEFT JOIN workers w ON w.id = j.worker_id
            WHERE j.state = 'running' AND j.queue = \(queue)
                AND j.started_at < now() - \(heartbeatMax.microseconds) * interval '1 microsecond'
                AND (w.id IS NULL OR w.seen_at < now() - \(heartbeatMax.microseconds) * interval '1 microsecond'
                    OR NOT j.id = ANY (w.running))
            LIMIT \(limit)
        ) AS orphan
        WHERE jobs.org_id = orphan.org_id AND jobs.id = orphan.id AND jobs.gen = orphan.gen AND jobs.state = 'running'
        RETURNING jobs.org_id, jobs.id, jobs.state::text AS state, jobs.crash_count, jobs.payload::text AS payload
        """
    }

    /// Those attempts that nobody has taken back: `id`.
    package static func stillOurs(_ jobs: [ClaimedJob]) -> Statement {
        """
        SELECT j.id FROM jobs j
        JOIN unnest(\(jobs.map(\.org))::uuid[], \(jobs.map(\.id))::uuid[], \(jobs.map(\.generation))::integer[])
            AS w (org_id, id, gen) ON j.org_id = w.org_id AND j.id = w.id AND j.gen = w.gen
        WHERE j.state = 'running'
        """
    }

    /// Tickets of given jobs as they stand, whatever their state: `org_id, id, …, state`.
    package static func tickets(of jobs: [(org: OrgID, id: JobID)]) -> Statement {
        """
        SELECT j.org_id, j.id, j.queue, j.lane, j.priority, j.gen, j.run_at, j.state::text AS state
        FROM jobs j JOIN unnest(\(jobs.map(\.org))::uuid[], \(jobs.map(\.id))::uuid[]) AS w (org_id, id)
            ON j.org_id = w.org_id AND j.id = w.id
        """
    }

    /// For the rest of the transaction PostgreSQL walks an index in its order rather than sort what it finds.
    ///
    /// The table changes faster than its statistics. Where they say that it is empty, sorting all rows for every lane looks
    /// as cheap as taking the first from the index, and is not.
    package static let walking: Statement = """
        SELECT set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true),
            set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
            set_config('jit', 'off', true)
        """

    /// The next queued jobs of each lane, for the feeder: at most `window` a lane, `lanes` lanes after `cursor`.
    package static func waiting(
        queue: String,
        after cursor: LaneCursor?,
        lanes: Int,
        window: Int,
        horizon: Duration
    ) -> Statement {
        """
        WITH RECURSIVE lanes AS (
            (SELECT org_id, lane, 1 AS n FROM jobs WHERE state = 'queued' AND queue = \(queue)
                AND (org_id, lane) > (\(cursor?.org ?? LaneCursor.start)::uuid, \(cursor?.lane ?? "")::text)
             ORDER BY org_id, lane LIMIT 1)
            UNION ALL
            SELECT next.org_id, next.lane, lanes.n + 1 FROM lanes CROSS JOIN LATERAL (
                SELECT j.org_id, j.lane FROM jobs j WHERE j.state = 'queued' AND j.queue = \(queue)
                    AND (j.org_id, j.lane) > (lanes.org_id, lanes.lane)
                ORDER BY j.org_id, j.lane LIMIT 1
            ) next WHERE lanes.n < \(lanes)
        )
        SELECT lanes.org_id, t.id, \(queue)::text AS queue, lanes.lane, t.priority, t.gen, t.run_at
        FROM lanes CROSS JOIN (VALUES (0), (1), (2)) AS levels (level) LEFT JOIN LATERAL (
            SELECT j.id, j.priority, j.gen, j.run_at FROM jobs j
            WHERE j.state = 'queued' AND j.queue = \(queue) AND j.org_id = lanes.org_id AND j.lane = lanes.lane
                AND j.priority = level AND j.run_at <= now() + \(horizon.microseconds) * interval '1 microsecond'
            ORDER BY j.run_at, j.id LIMIT \(window)
        ) t ON true
        ORDER BY lanes.org_id, lanes.lane, t.priority, t.run_at, t.id
        """
    }

    /// Delayed jobs of a queue after `cursor` that are due within the horizon, in the order of their time.
    ///
    /// Jobs that might run when they were made are not among them: those are found lane by lane.
    package static func delayed(
        queue: String,
        after cursor: DueCursor?,
        limit: Int,
        horizon: Duration
    ) -> Statement {
        """
        SELECT org_id, id, queue, lane, priority, gen, run_at FROM jobs
        WHERE queue = \(queue) AND state = 'queued' AND run_at > created_at
            AND (run_at, id) > (coalesce(\(cursor?.due)::timestamptz, now()), \((cursor?.id ?? JobID(LaneCursor.start.uuid)))::uuid)
            AND run_at <= now() + \(horizon.microseconds) * interval '1 microsecond'
        ORDER BY run_at, id LIMIT \(limit)
        """
    }

    /// The next queued jobs of one lane.
    package static func waiting(
        queue: String,
        org: OrgID,
        lane: String,
        window: Int,
        horizon: Duration
    ) -> Statement {
        """
        SELECT t.org_id, t.id, t.queue, t.lane, t.priority, t.gen, t.run_at
        FROM (VALUES (0), (1), (2)) AS levels (level) CROSS JOIN LATERAL (
            SELECT * FROM jobs j
            WHERE j.state = 'queued' AND j.queue = \(queue) AND j.org_id = \(org) AND j.lane = \(lane)
                AND j.priority = level AND j.run_at <= now() + \(horizon.microseconds) * interval '1 microsecond'
            ORDER BY j.run_at, j.id LIMIT \(window)
        ) t
        """
    }

    /// Reads a ticket; nil for a lane that had none within the horizon.
    package static func ticket(_ row: Row) throws -> Ticket? {
        guard let id: JobID = try row("id") else { return nil }
        return Ticket(
            id: id,
            org: try row("org_id"),
            queue: try row("queue"),
            lane: try row("lane"),
            priority: Priority(rawValue: try row("priority")) ?? .normal,
            generation: try row("gen"),
            due: try row("run_at")
        )
    }
}

/// Where the feeder's walk over lanes stands.
package struct LaneCursor: Sendable, Hashable {
    package let org: OrgID
    package let lane: String

    /// The lane that was walked last.
    package init(org: OrgID, lane: String) {
        self.org = org
        self.lane = lane
    }

    static let start = OrgID("00000000-0000-0000-0000-000000000000") ?? OrgID()
    static let end = OrgID("ffffffff-ffff-ffff-ffff-ffffffffffff") ?? OrgID()
}

/// Where the feeder's look by time stands.
package struct DueCursor: Sendable {
    let due: Timestamp
    let id: JobID

    /// Reads `run_at, id`.
    package init(_ row: Row) throws {
        due = try row("run_at")
        id = try row("id")
    }
}

/// The end of one attempt, as `Jobs.finish` writes it.
package struct Ending: Sendable {
    package let job: ClaimedJob
    package let state: JobState
    package let delay: Duration
    /// The attempt is not counted.
    package let refund: Bool
    package let error: String?

    /// What an outcome means for the row: the only place where attempts are counted out.
    package init(_ job: ClaimedJob, _ outcome: Outcome) {
        self.job = job
        switch outcome {
        case .succeeded:
            (state, delay, refund, error) = (.succeeded, .zero, false, nil)
        case .retry(let after, let reason):
            let isLast = job.attempt >= job.attemptsMax
            (state, delay, refund, error) = (isLast ? .dead : .queued, after, false, reason)
        case .snooze(let after, let reason):
            (state, delay, refund, error) = (.queued, after, true, reason)
        case .dead(let reason):
            (state, delay, refund, error) = (.dead, .zero, false, reason)
        case .released:
            (state, delay, refund, error) = (.queued, .zero, true, nil)
        }
    }
}
