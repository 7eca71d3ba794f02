"""Redis is not precious: flushed, restarted empty, away, its scripts forgotten. Nothing is lost, nothing is done twice."""

from invariants import assert_nothing_lost
from platform_under_test import LEASE_SECONDS
from polling import eventually

LOAD = 300


def under_load(platform, sink, trouble, name, workers=2):
    """Sends LOAD messages, calls `trouble` when a third is out, and checks that each went out exactly once."""
    platform.start_api()
    inbox = platform.inbox()
    platform.start_workers(workers)
    sink.delay = 0.1
    addresses = [f"load{n}@{name}.test" for n in range(LOAD)]
    with platform.load(lambda address: platform.send(inbox, address), addresses):
        eventually(lambda: len(sink.seen()) >= LOAD // 3, 30, lambda: f"a third out, {len(sink.seen())} are")
        trouble()
    # No worker died, so every 250 could be recorded: not one message may have gone out twice.
    assert_nothing_lost(platform, within=40)
    assert len(sink.seen()) == LOAD


def test_flushed_under_load(platform, sink):
    """FLUSHALL while 300 messages are on their way through two workers: each is delivered exactly once."""
    under_load(platform, sink, lambda: platform.redis.flushall(), "flushed")


def test_flushed_with_long_jobs_running(platform, sink):
    """Jobs that run longer than two leases after a flush are registered again, not run again."""
    platform.start_api()
    platform.start_workers(2)
    inbox = platform.inbox()
    addresses = [f"long{n}@flushed.test" for n in range(40)]
    sink.delay = 5
    platform.send_to_each(inbox, addresses)
    eventually(lambda: len(sink.seen()) == 40, 20, lambda: f"40 in flight, {len(sink.seen())} are")
    platform.redis.flushall()
    assert_nothing_lost(platform)


def test_restarted_empty_under_load(platform, sink):
    """Redis killed under load and back without its data: each message is delivered exactly once."""

    def restart():
        platform.redis_server.kill()
        platform.redis_server.start()

    under_load(platform, sink, restart, "restarted")


def test_scripts_flushed_under_load(platform, sink):
    """SCRIPT FLUSH under load: the scripts are loaded again, and nobody notices."""
    under_load(platform, sink, lambda: platform.redis.script_flush(), "scripts")


def test_away_the_whole_time(platform, sink):
    """Without any Redis the API accepts and says so, and two workers deliver straight from PostgreSQL, each once."""
    platform.redis_server.kill()
    platform.start_api()
    platform.start_workers(2)
    ready = platform.call("GET", "/readyz")
    assert (ready.status, ready.body["redis"]) == (200, "away")
    addresses = [f"without{n}@away.test" for n in range(60)]
    platform.send_to_each(platform.inbox(), addresses)
    platform.await_delivered(addresses, within=40)
    assert sink.seen() == dict.fromkeys(addresses, 1)

    platform.redis_server.start()
    late = [f"back{n}@away.test" for n in range(20)]
    platform.send_to_each(platform.inbox(), late)
    assert_nothing_lost(platform)


def test_away_longer_than_a_lease_with_jobs_running(platform, sink):
    """Redis down for two leases, then back with its data: jobs that a living worker runs meanwhile are not run again."""
    platform.start_api()
    platform.start_workers(2)
    inbox = platform.inbox()
    addresses = [f"held{n}@pause.test" for n in range(20)]
    sink.hold()
    platform.send_to_each(inbox, addresses)
    eventually(lambda: len(sink.seen()) == 20, 20, lambda: f"20 in flight, {len(sink.seen())} are")
    platform.redis.save()
    platform.redis_server.kill()
    since = platform.now()
    eventually(lambda: platform.now() - since > 2 * LEASE_SECONDS, 10, "two leases have passed")
    platform.redis_server.start()
    # Every lease has expired. Until they are renewed the reaper must not take living workers for dead.
    eventually(lambda: len(t := platform.lease_times("send")) == 20 and min(t) > 0, 10, "all leases renewed")
    since = platform.now()
    eventually(lambda: platform.now() - since > LEASE_SECONDS, 10, "a lease later")
    sink.release()
    assert_nothing_lost(platform)
