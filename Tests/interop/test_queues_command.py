"""`commune queues` as an operator uses it: limits, cancelling, dead letters in bulk, and what status says of all that."""

import json
import signal
import time
import uuid

import pytest

from polling import eventually
from processes import Process
from platform_under_test import programs


def status(platform, queue="send", *arguments):
    """The JSON of `queues status` for one queue."""
    return [row for row in json.loads(platform.commune("queues", "status", "--json", *arguments)) if row["queue"] == queue]


def jobs(platform, queue="send"):
    return platform.database.query(
        "SELECT id::text, org_id::text AS org, state::text, last_error, priority FROM jobs WHERE queue = %s ORDER BY id", queue
    )


@pytest.fixture(autouse=True)
def no_rules(platform):
    platform.database.query("TRUNCATE queue_control")


def test_limits_are_set_shown_and_lifted(platform, sink):
    """A cap by command holds at once under load, status says so, and after --clear it is gone."""
    platform.start_api()
    inbox = platform.inbox()
    platform.start_worker()
    sink.hold()
    assert platform.commune("queues", "limit", "send", "--org", "interop", "--concurrency", "2") == "Limited interop in send."
    addresses = [f"capped{n}@limit.test" for n in range(8)]
    platform.send_to_each(inbox, addresses)
    eventually(lambda: len(sink.seen()) == 2, 20, "two run")
    [row] = status(platform)
    assert (row["running"], row["ready"], row["state"]) == (2, 6, "running")
    [org] = platform.database.query("SELECT id::text FROM organizations WHERE name = 'interop'")
    [rule] = row["rules"]
    assert (rule["scope"], rule["subject"], rule["concurrency"]) == ("org", org["id"], 2)
    assert "at most 2 at a time" in platform.commune("queues", "status")
    # Another limit leaves the first as it was.
    platform.commune("queues", "limit", "send", "--org", "interop", "--weight", "3")
    [rule] = status(platform)[0]["rules"]
    assert (rule["concurrency"], rule["weight"]) == (2, 3)
    [of_org] = status(platform, "send", "--by-org")
    assert (of_org["org"], of_org["running"], of_org["rules"][0]["weight"]) == (org["id"], 2, 3)
    platform.commune("queues", "limit", "send", "--org", "interop", "--clear")
    eventually(lambda: len(sink.seen()) == 8, 20, lambda: f"all run, {len(sink.seen())} do")
    assert status(platform)[0]["rules"] == []
    sink.release()
    platform.await_delivered(addresses)
    platform.assert_settled()


def test_a_rate_parks_and_status_names_who(platform, sink):
    """Of an organization at its rate limit status says that it is parked, and for how long."""
    platform.start_api()
    platform.start_worker()
    platform.commune("queues", "limit", "send", "--rate", "0.05")
    platform.send_to_each(platform.inbox(), [f"slow{n}@rate.test" for n in range(3)])
    eventually(lambda: status(platform)[0].get("parked") == 1, 20, lambda: f"parked: {status(platform)}")
    [row] = status(platform)
    [held] = row["parked_some"]
    assert held["scope"] == "org" and 0 < held["wait_seconds"] <= 20
    assert "waits" in platform.commune("queues", "status")
    assert len(sink.seen()) == 1
    platform.commune("queues", "limit", "send", "--clear")
    eventually(lambda: len(sink.seen()) == 3, 20, "the rest goes out")
    platform.redis_server.kill()
    assert "parked" not in status(platform)[0]
    assert platform.commune("queues", "status").splitlines()[1].split()[5] == "-"


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["--concurrency", "0"], "--concurrency must be"),
        (["--rate", "0"], "--rate must be"),
        (["--weight", "3"], "--weight needs --org"),
        (["--clear", "--weight", "3", "--org", "interop"], "or --clear alone"),
        ([], "Give --concurrency"),
        (["--org", "a", "--lane", "b", "--rate", "1"], "not both"),
    ],
)
def test_limits_that_mean_nothing(platform, arguments, fault):
    result = platform.run("queues", "limit", "send", *arguments, check=False)
    assert result.returncode == 64 and fault in result.stderr


def test_cancel(platform, sink):
    """A waiting job is cancelled with its recipients; one that runs, ended or is unknown is not, and each says so."""
    platform.start_api()
    platform.commune("queues", "pause", "send")
    platform.send(platform.inbox(), ["one@cancel.test", "two@elsewhere.test"])
    platform.start_worker()
    eventually(lambda: platform.redis.hget("commune:{send.0}:n", "ready") == "2", 20, "both are in the schedule")
    first, second = [row["id"] for row in jobs(platform)]
    assert platform.commune("queues", "cancel", "send", first) == f"Cancelled {first}."
    assert platform.redis.hget("commune:{send.0}:n", "ready") == "1"
    states = platform.database.query("SELECT state, last_reply FROM recipients WHERE state <> 'queued' AND domain LIKE '%%.test'"
                                     " AND address IN ('one@cancel.test', 'two@elsewhere.test')")
    assert states == [{"state": "failed", "last_reply": "Cancelled by the operator."}]
    again = platform.run("queues", "cancel", "send", first, check=False)
    assert again.returncode == 1 and "was cancelled already" in again.stderr
    unknown = platform.run("queues", "cancel", "send", str(uuid.uuid4()), check=False)
    assert unknown.returncode == 1 and "There is no job" in unknown.stderr
    other = platform.run("queues", "cancel", "process-inbound", second, check=False)
    assert other.returncode == 1 and "There is no job" in other.stderr

    sink.hold()
    platform.commune("queues", "resume", "send")
    eventually(lambda: len(sink.seen()) == 1, 20, "the other runs")
    running = platform.run("queues", "cancel", "send", second, check=False)
    assert running.returncode == 1 and "runs on " in running.stderr and "cancel it again" in running.stderr
    sink.release()
    eventually(lambda: jobs(platform)[1]["state"] == "succeeded", 20, "it ended by itself")
    assert jobs(platform)[0]["state"] == "cancelled"
    ended = platform.run("queues", "cancel", "send", second, check=False)
    assert ended.returncode == 1 and "has succeeded already" in ended.stderr
    platform.assert_settled()


def test_cancel_an_organization(platform, sink):
    """All that waits of one organization goes, in batches, and nothing of another's."""
    other = platform.organization(f"other-{uuid.uuid4()}")
    platform.start_api()
    platform.commune("queues", "pause", "send")
    addresses = [f"many{n}@cancel-org.test" for n in range(450)]
    platform.send_to_each(platform.inbox(), addresses)
    platform.send(platform.inbox(key=other), "kept@cancel-org.test", key=other)
    printed = platform.commune("queues", "cancel", "send", "--org", "interop")
    assert printed.splitlines()[-1] == "Cancelled 450."
    assert [line.split()[-3] for line in printed.splitlines()[:-1]] == ["200", "400", "450"]
    assert set(platform.states(addresses).values()) == {"failed"}
    assert sorted(row["state"] for row in jobs(platform)) == ["cancelled"] * 450 + ["queued"]
    platform.commune("queues", "resume", "send")
    platform.start_worker()
    platform.await_delivered(["kept@cancel-org.test"])
    assert sink.seen() == {"kept@cancel-org.test": 1}
    platform.assert_settled()


def test_dead_letters_in_bulk(platform):
    """2,500 dead letters of two organizations: replayed and dropped a thousand at a time, or one organization's alone."""
    insert = """
        INSERT INTO jobs (org_id, id, queue, kind, lane, payload, state, max_attempts, finished_at)
        SELECT o.id, gen_random_uuid(), 'process-inbound', 'process-inbound', 'l', '{}', 'dead', 1,
            now() - n * interval '1 second'
        FROM organizations o, generate_series(1, %s) AS n WHERE o.name = %s
    """
    name = f"dead-{uuid.uuid4()}"
    platform.organization(name)
    platform.database.query(insert, 2100, "interop")
    platform.database.query(insert, 400, name)
    shown = platform.commune("queues", "dead", "show", jobs(platform, "process-inbound")[0]["id"])
    assert "payload   {}" in shown
    dropped = platform.commune("queues", "dead", "drop", "process-inbound", "--all", "--org", name)
    assert dropped.splitlines()[-1] == "Dropped 400."
    replayed = platform.commune("queues", "dead", "replay", "process-inbound", "--all").splitlines()
    assert [line.split()[-3] for line in replayed[:-1]] == ["1000", "2000", "2100"]
    assert replayed[-1].startswith("Replaying 2100;")
    rows = jobs(platform, "process-inbound")
    assert len(rows) == 2100 and {(row["state"], row["priority"]) for row in rows} == {("queued", 2)}
    none = platform.run("queues", "dead", "drop", "process-inbound", "--id", rows[0]["id"], check=False)
    assert none.returncode == 1 and "has no dead letter" in none.stderr


def test_status_is_redrawn(platform):
    """--watch goes on, a second at a time, until it is stopped."""
    log = platform.folder / "watch.log"
    watch = Process("watch", [programs() / "commune", "queues", "status", "--watch"], log, platform.environment())
    platform.processes.append(watch)
    began = time.monotonic()
    eventually(lambda: log.exists() and log.read_text().count("QUEUE") >= 3, 20, "three tables")
    assert time.monotonic() - began >= 1.5
    watch.signal(signal.SIGINT)
    assert watch.wait(5) in (-signal.SIGINT, 130)


@pytest.mark.parametrize(
    "value, fault",
    [
        ("0", "neither a number"),
        ("send", "neither a number"),
        ("send=0", "neither a number"),
        ("12,,", "neither a number"),
        ("1,2", "two numbers for all queues"),
        ("mail=3", "unknown queue mail"),
        ("send=1,send=2", "names send twice"),
        ("process-inbound=3", "which --queues leaves out"),
    ],
)
def test_concurrency_faults(platform, value, fault):
    """Each fault of --concurrency is one clear line and status 64."""
    worker = platform.start("worker", "--queues", "send", "--concurrency", value)
    assert worker.wait(20) == 64
    assert fault in worker.tail()


def test_concurrency_by_queue(platform, sink):
    """`8,send=4` runs four sends at a time, of which one organization leaves one to the next."""
    platform.start_api()
    platform.start_worker("--concurrency", "8,send=4")
    [row] = platform.database.query("SELECT queues, slots FROM workers")
    assert dict(zip(row["queues"], row["slots"])) == {
        "send": 4,
        "validate-recipients": 8,
        "process-inbound": 8,
        "verify-domain": 8,
    }
    keys = [platform.key, platform.organization(f"second-{uuid.uuid4()}")]
    sink.hold()
    for number, key in enumerate(keys):
        inbox = platform.inbox(key=key)
        for n in range(4):
            platform.send(inbox, f"slot{n}@org{number}.test", key=key)
    eventually(lambda: len(sink.seen()) == 4, 20, "four run")
    assert sorted(address.partition("@")[2] for address in sink.seen()) == ["org0.test"] * 3 + ["org1.test"]
    assert status(platform)[0]["running"] == 4
    sink.release()
    eventually(lambda: len(sink.seen()) == 8, 20, "all are out")
    platform.assert_settled()
