// Work without Redis: jobs straight from PostgreSQL, slower, with every rule that PostgreSQL knows of.

package import Database
package import Platform

extension Jobs {
    /// Lets one process at a time choose what it claims without a schedule, until its transaction ends.
    ///
    /// Two that count the running jobs at once would both find room under a cap.
    package static func claimingWithoutSchedule(queue: String) -> Statement {
        "SELECT pg_advisory_xact_lock(hashtextextended(\("claim without schedule " + queue), 0)) IS NULL AS locked"
    }

    /// The rates of a queue that an operator set: `scope, subject, rate_per_second`.
    package static func rates(queue: String) -> Statement {
        """
        SELECT scope, subject, rate_per_second FROM queue_control
        WHERE queue = \(queue) AND rate_per_second IS NOT NULL
        """
    }

    /// Claims straight from PostgreSQL while Redis is away: one job an organization in turn, of the best priority that
    /// is due, honouring pauses and caps.
    ///
    /// `skipping` names organizations and lanes that this process may take nothing from at the moment. Those who claim so
    /// must hold `claimingWithoutSchedule`, for caps are counted from the rows.
    ///
    /// The walk over lanes starts anywhere and is bounded, so that each lane has its turn however many there are; it
    /// touches one row a lane and priority, however long their backlogs.
    package static func claimWithoutSchedule(
        queue: String,
        limit: Int,
        worker: WorkerID,
        defaults: QueueControl.Defaults = QueueControl.Defaults(),
        skipping: Set<ControlScope> = []
    ) -> Statement {
        let orgs = skipping.compactMap { if case .org(let org) = $0 { org } else { nil } }
        let heldLanes = skipping.compactMap { if case .lane(let lane) = $0 { lane } else { nil } }
        return """
            WITH RECURSIVE ends AS (
                -- The first 48 bits of an organization's id are the time of its creation: a start somewhere between two.
                SELECT ('x' || translate(left(low::text, 13), '-', ''))::bit(48)::bigint AS low,
                    ('x' || translate(left(high::text, 13), '-', ''))::bit(48)::bigint AS high
                FROM (SELECT
                    (SELECT org_id FROM jobs WHERE state = 'queued' AND queue = \(queue) ORDER BY org_id LIMIT 1) AS low,
                    (SELECT org_id FROM jobs WHERE state = 'queued' AND queue = \(queue) ORDER BY org_id DESC LIMIT 1) AS high
                ) AS orgs
            ), start AS MATERIALIZED (
                SELECT (lpad(to_hex(low + (random() * (high - low))::bigint), 12, '0') || repeat('0', 20))::uuid AS at
                FROM ends WHERE low IS NOT NULL
            ), lanes AS (
                SELECT first.org_id, first.lane, half.high, 1 AS n
                FROM start CROSS JOIN LATERAL (VALUES (at, \(LaneCursor.end)::uuid), (\(LaneCursor.start)::uuid, at))
                    AS half (low, high)
                CROSS JOIN LATERAL (
                    SELECT j.org_id, j.lane FROM jobs j WHERE j.state = 'queued' AND j.queue = \(queue)
                        AND j.org_id >= half.low AND j.org_id <= half.high
                    ORDER BY j.org_id, j.lane LIMIT 1
                ) AS first
                UNION ALL
                SELECT next.org_id, next.lane, lanes.high, lanes.n + 1 FROM lanes CROSS JOIN LATERAL (
                    SELECT j.org_id, j.lane FROM jobs j WHERE j.state = 'queued' AND j.queue = \(queue)
                        AND (j.org_id, j.lane) > (lanes.org_id, lanes.lane) AND j.org_id <= lanes.high
                    ORDER BY j.org_id, j.lane LIMIT 1
                ) AS next WHERE lanes.n < \(lanesWithoutSchedule)
            ), running AS MATERIALIZED (
                SELECT org_id, lane, count(*) AS n FROM jobs WHERE state = 'running' AND queue = \(queue) GROUP BY 1, 2
            ), control AS MATERIALIZED (
                SELECT scope, subject, state, concurrency_max FROM queue_control WHERE queue = \(queue)
            ), open AS (
                SELECT DISTINCT lanes.org_id, lanes.lane FROM lanes
                WHERE lanes.org_id <> ALL (\(orgs)::uuid[]) AND lanes.lane <> ALL (\(heldLanes)::text[])
                    AND NOT EXISTS (SELECT 1 FROM control c WHERE c.state <> 'running'
                        AND (c.scope = 'queue' OR c.scope = 'org' AND c.subject = lanes.org_id::text
                            OR c.scope = 'lane' AND c.subject = lanes.lane))
                    AND coalesce((SELECT sum(r.n) FROM running r WHERE r.org_id = lanes.org_id), 0)
                        < coalesce((SELECT c.concurrency_max FROM control c
                            WHERE c.scope = 'org' AND c.subject = lanes.org_id::text), (SELECT c.concurrency_max FROM control c
                            WHERE c.scope = 'queue'), \(defaults.orgConcurrencyMax)::integer, 1000000)
                    AND coalesce((SELECT sum(r.n) FROM running r WHERE r.lane = lanes.lane), 0)
                        < coalesce((SELECT c.concurrency_max FROM control c
                            WHERE c.scope = 'lane' AND c.subject = lanes.lane), \(defaults.laneConcurrencyMax)::integer, 1000000)
            ), due AS MATERIALIZED (
                SELECT due.org_id, due.id, due.priority FROM open
                CROSS JOIN (VALUES (0), (1), (2)) AS levels (level) CROSS JOIN LATERAL (
                    SELECT j.org_id, j.id, j.priority FROM jobs j
                    WHERE j.state = 'queued' AND j.queue = \(queue) AND j.org_id = open.org_id AND j.lane = open.lane
                        AND j.priority = level AND j.run_at <= now()
                    ORDER BY j.run_at, j.id LIMIT 1 FOR UPDATE SKIP LOCKED
                ) AS due
            ), chosen AS (
                SELECT org_id, id FROM (
                    SELECT DISTINCT ON (org_id) org_id, id FROM due ORDER BY org_id, priority, random()
                ) AS one ORDER BY random() LIMIT \(limit)
            )
            UPDATE jobs SET state = 'running', gen = jobs.gen + 1, attempt = attempt + 1, worker_id = \(worker),
                started_at = now()
            FROM chosen WHERE jobs.org_id = chosen.org_id AND jobs.id = chosen.id AND jobs.state = 'queued'
            RETURNING jobs.org_id, jobs.id, queue, kind, lane, priority, payload::text AS payload, attempt, max_attempts,
                crash_count, gen, created_at
            """
    }

    private static let lanesWithoutSchedule = 300
}
