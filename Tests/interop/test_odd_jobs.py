"""Jobs as other versions or a broken hand would have written them, and the same job twice."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg

from invariants import assert_nothing_lost
from polling import eventually


def test_an_unknown_kind_is_handed_back(platform, sink):
    """A job of a newer version's kind costs no attempt and no crash, and waits for a worker that knows it."""
    platform.start_api()
    inbox = platform.inbox()
    newer, known = [f"newer{n}@kinds.test" for n in range(3)], [f"known{n}@kinds.test" for n in range(10)]
    platform.send_to_each(inbox, newer)
    platform.database.query("UPDATE jobs SET kind = 'send-in-parts'")
    platform.send_to_each(inbox, known)
    platform.start_worker()
    platform.await_delivered(known)

    def handed_back():
        return platform.database.query(
            """
            SELECT state::text, attempt, crash_count, run_at > now() + interval '10 s' AS is_later, last_error
            FROM jobs WHERE kind = 'send-in-parts' AND last_error IS NOT NULL
            """
        )

    jobs = eventually(lambda: len(found := handed_back()) == 3 and found, 20, lambda: f"handed back: {handed_back()}")
    for job in jobs:
        assert (job["state"], job["attempt"], job["crash_count"], job["is_later"]) == ("queued", 0, 0, True)
        assert "does not know jobs of kind send-in-parts" in job["last_error"]
    assert sink.seen() == dict.fromkeys(known, 1)

    # As if a worker came that knows it. The schedule has it for later; that may be lost at any time.
    platform.database.query("UPDATE jobs SET kind = queue, run_at = now() WHERE state = 'queued'")
    platform.redis.flushall()
    assert_nothing_lost(platform)


def test_a_payload_that_cannot_be_read_is_a_dead_letter(platform, sink):
    """It is tried once and says why, also when its worker died three times, and holds up nobody beside it."""
    platform.start_api()
    inbox = platform.inbox()
    first = [f"first{n}@payload.test" for n in range(10)]
    platform.send_to_each(inbox, first)
    copy = """
        INSERT INTO jobs (org_id, id, queue, kind, lane, payload, max_attempts, state, gen, crash_count, worker_id, started_at)
        SELECT org_id, gen_random_uuid(), queue, kind, lane, %s, max_attempts, %s::job_state, %s, %s, %s,
            now() - interval '1 hour' FROM jobs LIMIT 1
    """
    unreadable = json.dumps({"message": 7, "parts": ["of", "another", "version"]})
    platform.database.query(copy, unreadable, "queued", 0, 0, None)
    # This one, and one of the good ones, are left behind by a worker that is no more.
    nobody = "00000000-0000-7000-8000-000000000000"
    platform.database.query(copy, unreadable, "running", 5, 2, nobody)
    platform.database.query(
        """
        UPDATE jobs SET state = 'running', gen = 1, attempt = 1, worker_id = %s, started_at = now() - interval '1 hour'
        WHERE id = (SELECT id FROM jobs WHERE state = 'queued' AND payload ? 'domain' LIMIT 1)
        """,
        nobody,
    )
    platform.start_worker()
    platform.send_to_each(inbox, [f"then{n}@payload.test" for n in range(10)])
    assert_nothing_lost(platform, dead=2)
    dead = platform.database.query("SELECT last_error, attempt, crash_count FROM jobs WHERE state = 'dead' ORDER BY attempt")
    assert [(job["attempt"], job["crash_count"]) for job in dead] == [(0, 3), (1, 0)]
    assert dead[0]["last_error"].startswith("The worker that ran this job stopped or hung 3 time")
    assert dead[1]["last_error"].startswith("The payload cannot be read: ")
    listed = platform.commune("queues", "dead", "list", "send")
    assert "The payload cannot be read" in listed and "stopped or hung 3 time" in listed


def test_the_same_unique_key_twice_at_once(platform, sink):
    """Two connections insert jobs with the same keys at the same time: one of each is there, and runs once."""
    platform.start_api()
    inbox = platform.inbox()
    addresses = [f"unique{n}@key.test" for n in range(20)]
    platform.send_to_each(inbox, addresses)
    # No act of the platform has a unique key yet, so theirs are given to the jobs of messages, as Jobs.insert does it.
    jobs = platform.database.query("DELETE FROM jobs RETURNING org_id, queue, lane, payload")
    insert = """
        INSERT INTO jobs (org_id, id, queue, kind, lane, payload, max_attempts, unique_key)
        VALUES (%s, gen_random_uuid(), %s, %s, %s, %s, 25, %s)
        ON CONFLICT (org_id, queue, unique_key) WHERE unique_key IS NOT NULL AND state IN ('queued', 'running')
        DO NOTHING
    """

    def insert_all(_):
        with psycopg.connect(platform.database.url) as connection:
            inserted = 0
            for number, job in enumerate(jobs):
                values = (job["org_id"], job["queue"], job["queue"], job["lane"], json.dumps(job["payload"]), f"key {number}")
                with connection.transaction():
                    connection.execute("SET LOCAL ROLE commune_worker")
                    inserted += connection.execute(insert, values).rowcount
            return inserted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(insert_all, range(4))) == len(addresses)
    platform.start_workers(2)
    platform.await_delivered(addresses)
    assert_nothing_lost(platform)
