"""Without Redis workers take jobs straight from PostgreSQL, and what an operator ordered holds there too."""

import time

from polling import eventually

LOAD = 60


def busiest(deliveries):
    """The most messages that were between their final dot and its answer at one moment."""
    edges = sorted([(d.at, 1) for d in deliveries] + [(d.answered_at, -1) for d in deliveries])
    now = most = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def test_caps_hold_without_redis(platform, sink):
    """Three workers without Redis never run more than two jobs of an organization whose cap is two."""
    platform.commune("queues", "limit", "send", "--org", "interop", "--concurrency", "2")
    platform.redis_server.kill()
    platform.start_api()
    platform.start_workers(3, "--queues", "send")
    sink.delay = 0.05
    addresses = [f"capped{n}@degraded.test" for n in range(LOAD)]
    platform.send_to_each(platform.inbox(), addresses)
    platform.await_delivered(addresses, within=60)
    assert sink.seen() == dict.fromkeys(addresses, 1)
    assert busiest(sink.deliveries) <= 2


def test_a_rate_is_an_eighth_a_process_without_redis(platform, sink):
    """At 40 a second two workers start ten a second together, an eighth each, and not a burst of any size."""
    platform.commune("queues", "limit", "send", "--rate", "40")
    platform.redis_server.kill()
    platform.start_api()
    addresses = [f"rated{n}@degraded.test" for n in range(30)]
    platform.send_to_each(platform.inbox(), addresses)
    platform.start_workers(2, "--queues", "send")
    platform.await_delivered(addresses, within=60)
    times = sorted(delivery.at for delivery in sink.deliveries)
    for number, at in enumerate(times, 1):
        # The first of each, and what half a second makes up for.
        assert number <= 2 + 5 + 10 * (at - times[0] + 0.05), f"{number} after {at - times[0]:.3f} s"


def test_pause_and_drain_hold_without_redis(platform, sink):
    """What is paused or drained stays so without Redis, and goes on when it is resumed there."""
    platform.redis_server.kill()
    platform.start_api()
    inbox = platform.inbox()
    other = platform.organization(f"other-{time.monotonic_ns()}")
    other_inbox = platform.inbox(key=other)
    platform.start_worker("--queues", "send")
    platform.commune("queues", "pause", "send", "--org", "interop")
    platform.send(inbox, "held@degraded.test")
    platform.send(other_inbox, "free@degraded.test", key=other)
    platform.await_delivered(["free@degraded.test"])
    assert "held@degraded.test" not in sink.seen()
    platform.commune("queues", "resume", "send", "--org", "interop")
    platform.await_delivered(["held@degraded.test"])
    assert platform.commune("queues", "drain", "send", "--wait", "--timeout", "10").endswith("resume send")
    platform.send(inbox, "drained@degraded.test")
    before = platform.now()
    # Several looks of the worker, each a quarter of a second after the last.
    eventually(lambda: platform.now() - before > 1, 5, "a second")
    assert "drained@degraded.test" not in sink.seen()
    platform.commune("queues", "resume", "send")
    platform.await_delivered(["drained@degraded.test"])


def test_caps_hold_through_flushes(platform, sink):
    """FLUSHALL again and again under load: three workers never run more than the cap of two, and nothing is lost."""
    platform.commune("queues", "limit", "send", "--org", "interop", "--concurrency", "2")
    platform.start_api()
    platform.start_workers(3, "--queues", "send")
    sink.delay = 0.05
    addresses = [f"flushed{n}@cap.test" for n in range(2 * LOAD)]
    inbox = platform.inbox()
    with platform.load(lambda address: platform.send(inbox, address), addresses):
        for flush in range(1, 6):
            eventually(lambda: len(sink.deliveries) >= 15 * flush, 30, lambda: f"{15 * flush} are out")
            platform.redis.flushall()
    platform.await_delivered(addresses, within=60)
    assert sink.seen() == dict.fromkeys(addresses, 1)
    assert busiest(sink.deliveries) <= 2
    platform.assert_settled()


def test_a_lease_that_a_reaper_took_and_lost(platform, sink):
    """A reap whose reply was lost takes the lease and nothing else: the attempt goes on, and is not put off."""
    platform.start_api()
    platform.start_worker("--queues", "send")
    sink.silent_at_recipient.add("slow@reaped.test")
    platform.send(platform.inbox(), "slow@reaped.test")
    eventually(lambda: "slow@reaped.test" in sink.asked, 20, "it is before its final dot")
    [job] = platform.database.query("SELECT id::text FROM jobs")
    platform.redis.hset(f"commune:{{send.0}}:j:{job['id']}", "t", "reaper-that-died")
    since = platform.now()
    # Heartbeats find the lease lost, it expires, and is registered anew.
    eventually(lambda: platform.now() - since > 4, 10, "two leases")
    sink.silent_at_recipient.clear()
    platform.await_delivered(["slow@reaped.test"])
    [row] = platform.database.query("SELECT attempt, crash_count, gen FROM jobs")
    assert (row["attempt"], row["crash_count"], row["gen"]) == (1, 0, 1)
    assert sink.seen() == {"slow@reaped.test": 1}
    platform.assert_settled()
