"""Workers that live and do not move, and jobs that take longer than a lease."""

import signal

from invariants import assert_nothing_lost
from platform_under_test import LEASE_SECONDS
from polling import eventually


def stories(platform):
    """What PostgreSQL says of every job, recipient and event."""
    return [
        platform.database.query(f"SELECT t::text FROM {table} t ORDER BY 1")
        for table in ("jobs", "recipients", "delivery_events")
    ]


def test_a_stopped_worker_comes_back_too_late(platform, sink):
    """SIGSTOP for two leases while another worker finishes its jobs, SIGCONT: not one late write is taken."""
    platform.start_api()
    stopped = platform.start_worker()
    inbox = platform.inbox()
    addresses = [f"stopped{n}@hang.test" for n in range(20)]
    # The first to ask is told no, so that a late write would show: the recipient would have bounced.
    sink.final_replies.update({address: ["550 5.7.1 told to the stopped worker"] for address in addresses})
    sink.hold()
    platform.send_to_each(inbox, addresses)
    eventually(lambda: len(sink.seen()) == 20, 20, lambda: f"20 in flight, {len(sink.seen())} are")
    stopped.signal(signal.SIGSTOP)
    stopped_at = platform.now()

    other = platform.start_worker()
    eventually(lambda: set(sink.seen().values()) == {2}, 20, lambda: f"all are tried again: {sink.seen()}")
    sink.release()
    platform.await_delivered(addresses)
    platform.assert_settled()
    eventually(lambda: platform.now() - stopped_at > 2 * LEASE_SECONDS, 10, "two leases have passed")
    before = stories(platform)

    stopped.signal(signal.SIGCONT)
    alive = "SELECT id FROM workers WHERE process = %s AND seen_at > to_timestamp(%s) AND running = '{}'"
    since = platform.now()
    eventually(
        lambda: platform.database.query(alive, stopped.process_id, since), 20, "it has given up what it ran before"
    )
    assert stories(platform) == before
    jobs = platform.database.query("SELECT DISTINCT state::text, attempt, crash_count FROM jobs")
    assert jobs == [{"state": "succeeded", "attempt": 2, "crash_count": 1}]

    assert other.stop() == 0
    platform.send_to_each(inbox, [f"after{n}@hang.test" for n in range(5)])
    assert_nothing_lost(platform, may_repeat=addresses)


def test_a_slow_job_runs_once(platform, sink):
    """A job of more than three leases whose worker gives signs of life is taken from it by nobody."""
    platform.start_api()
    platform.start_workers(2)
    addresses = [f"slow{n}@patience.test" for n in range(10)]
    sink.hold()
    platform.send_to_each(platform.inbox(), addresses)
    eventually(lambda: len(sink.seen()) == 10, 20, lambda: f"10 in flight, {len(sink.seen())} are")
    since = platform.now()

    def three_leases_have_passed():
        leases = platform.lease_times("send")
        assert len(leases) == 10 and min(leases) > 0, f"leases ran out: {leases}"
        return platform.now() - since > 3 * LEASE_SECONDS

    eventually(three_leases_have_passed, 20, "three leases have passed")
    sink.release()
    assert_nothing_lost(platform)
    jobs = platform.database.query("SELECT DISTINCT attempt, crash_count FROM jobs")
    assert jobs == [{"attempt": 1, "crash_count": 0}]
