"""`kill -9` of workers: nothing is lost, and what was recorded is not done twice."""

import pytest

from invariants import assert_nothing_lost
from platform_under_test import IS_LONG, SHORT_TIMES
from polling import eventually


def delivered(platform):
    """Addresses that PostgreSQL has as delivered."""
    return {row["address"] for row in platform.database.query("SELECT address FROM recipients WHERE state = 'delivered'")}


def test_50_messages_in_flight_survive_their_worker(platform, sink):
    """Killed with 50 messages past their final dot and unanswered, all 50 come again; what was recorded before, never."""
    platform.start_api()
    # One organization alone may take three quarters of the slots.
    worker = platform.start_worker("--concurrency", "80")
    inbox = platform.inbox()
    recorded = [f"recorded{n}@killed.test" for n in range(10)]
    in_flight = [f"flight{n}@killed.test" for n in range(50)]
    platform.send_to_each(inbox, recorded)
    platform.await_delivered(recorded)

    sink.hold()
    platform.send_to_each(inbox, in_flight)
    eventually(lambda: set(in_flight) <= sink.seen().keys(), 30, lambda: f"50 in flight, {len(sink.seen()) - 10} are")
    worker.kill()
    sink.release()
    assert set(platform.states(in_flight).values()) == {"queued"}

    platform.start_worker()
    assert_nothing_lost(platform, may_repeat=in_flight)
    # Once unanswered, once again: the price of losing none.
    seen = sink.seen()
    assert [seen[a] for a in in_flight] == [2] * 50


def test_only_unrecorded_answers_are_asked_for_again(platform, sink):
    """Killed while answers come in: exactly those recipients are sent to again that PostgreSQL had not as delivered."""
    platform.start_api()
    # One organization alone may take three quarters of the slots.
    worker = platform.start_worker("--concurrency", "80")
    inbox = platform.inbox()
    addresses = [f"race{n}@killed.test" for n in range(50)]
    sink.hold()
    platform.send_to_each(inbox, addresses)
    eventually(lambda: set(addresses) <= sink.seen().keys(), 30, lambda: f"50 in flight, {len(sink.seen())} are")

    sink.release(25)
    eventually(lambda: "delivered" in platform.states(addresses).values(), 10, "the first answers recorded")
    worker.kill()
    sink.release()
    recorded = {a for a, state in platform.states(addresses).items() if state == "delivered"}
    assert 1 <= len(recorded) <= 25

    platform.start_worker()
    assert_nothing_lost(platform, may_repeat=set(addresses) - recorded)
    assert sink.seen() == {address: 1 if address in recorded else 2 for address in addresses}
    crashes = platform.database.query("SELECT DISTINCT crash_count FROM jobs WHERE attempt > 1")
    assert [row["crash_count"] for row in crashes] == [1]


@pytest.mark.timeout(400 if IS_LONG else 150)
def test_every_worker_killed(platform, sink):
    """All three workers die under load, nobody is there until every lease has run out, three come back: all is sent."""
    platform.start_api()
    inbox = platform.inbox()
    workers = platform.start_workers(3)
    sink.delay = 0.2
    with platform.steady_load(lambda address: platform.send(inbox, address), "outage.test"):
        eventually(lambda: len(sink.seen()) >= 60, 30, lambda: f"60 are out, {len(sink.seen())} are")
        for worker in workers:
            worker.kill()
        recorded = delivered(platform)
        died_at, accepted = platform.now(), len(platform.accepted)
        assert platform.lease_times("send"), "nobody ran anything when the workers died"
        eventually(lambda: max(platform.lease_times("send")) < 0, 20, "every lease has run out")
        if IS_LONG:
            eventually(lambda: platform.now() - died_at > 60, 70, "a minute has passed")
        eventually(lambda: len(platform.accepted) >= accepted + 50, 20, "the API goes on accepting")
        # All that had left, answered or not, and was not recorded.
        unrecorded = sink.seen().keys() - recorded
        platform.start_workers(3)
        eventually(lambda: len(sink.seen()) >= accepted + 50, 30, "they went on where the others had died")
    assert_nothing_lost(platform, may_repeat=unrecorded, within=120)


def test_a_job_that_kills_its_worker(platform, sink):
    """Three workers die of one job: it is a dead letter that says so, its recipient failed, and nobody else is harmed."""
    platform.start_api()
    inbox = platform.inbox()
    poison, bystander = "poison@crash.test", "bystander@crash.test"
    sink.silent_at_final_dot |= {poison, bystander}
    platform.send_to_each(inbox, [poison, bystander])
    for crash in range(1, 4):
        worker = platform.start_worker()
        others = [f"other{crash}-{n}@crash.test" for n in range(10)]
        platform.send_to_each(inbox, others)
        platform.await_delivered(others)
        eventually(lambda: sink.seen().get(poison) == crash, 20, lambda: f"try {crash} of {sink.seen().get(poison)}")
        if crash == 1:
            eventually(lambda: bystander in sink.seen(), 20, "another job in the same worker")
        else:
            platform.await_delivered([bystander])
        worker.kill()
        sink.silent_at_final_dot.discard(bystander)

    platform.start_worker()
    platform.await_states({poison: "failed"})
    # The bystander was under way when the first of them died.
    assert_nothing_lost(platform, may_repeat={bystander}, given_up={poison}, dead=1)
    assert sink.seen()[poison] == 3
    (dead,) = platform.database.query("SELECT state::text, attempt, crash_count, last_error FROM jobs WHERE crash_count = 3")
    assert (dead["state"], dead["attempt"]) == ("dead", 3)
    assert dead["last_error"] == "The worker that ran this job stopped or hung 3 time(s)."
    assert "stopped or hung 3 time" in platform.commune("queues", "dead", "list", "send")
    (event,) = platform.database.query("SELECT recipient, detail FROM delivery_events WHERE event_type = 'email.failed'")
    assert event["recipient"] == poison and "3 times" in event["detail"]


@pytest.mark.skipif(not IS_LONG, reason="half a minute: scripts/test --long")
def test_with_the_leases_of_production(platform, sink):
    """With nothing set, the jobs of a killed worker are taken up within the 35 s of queue.md."""
    defaults = dict.fromkeys(SHORT_TIMES)
    platform.start_api()
    worker = platform.start_worker(**defaults)
    addresses = [f"default{n}@killed.test" for n in range(20)]
    sink.hold()
    platform.send_to_each(platform.inbox(), addresses)
    eventually(lambda: len(sink.seen()) == 20, 30, lambda: f"20 in flight, {len(sink.seen())} are")
    worker.kill()
    sink.release()
    died_at = platform.now()
    platform.start_worker(**defaults)
    eventually(lambda: set(sink.seen().values()) == {2}, 60, lambda: f"all came again: {sink.seen()}")
    # 30 s of lease, 5 s to the next look; some more for a busy machine.
    assert platform.now() - died_at < 40
    assert_nothing_lost(platform, may_repeat=addresses)
