-- What the queue's own work needs to find quickly, and how many jobs each worker takes at a time.

-- A dead letter by its id alone, as an operator names it.
CREATE INDEX jobs_dead_by_id ON jobs (id) WHERE state = 'dead';

-- What waits for a time of its own, the next due first, whatever its lane. A job that may run at once is made with
-- run_at = created_at and costs this index nothing.
CREATE INDEX jobs_delayed ON jobs (queue, run_at, id) WHERE state = 'queued' AND run_at > created_at;

-- Jobs at a time of each of `queues`, in the same order.
ALTER TABLE workers ADD COLUMN slots integer[] NOT NULL DEFAULT '{}';
