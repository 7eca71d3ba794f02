"""One organization's flood is nobody else's delay, and a rate is a rate, however many workers there are."""

import time

import pytest

from invariants import assert_nothing_lost
from platform_under_test import IS_LONG
from polling import eventually

#: A message has at most so many recipients, each a job of its own when it has a domain of its own.
RECIPIENTS_MAX = 50
FLOOD = 100_000 if IS_LONG else 3000
CONCURRENCY = 8


def send_jobs(platform, count, name, **options):
    """Sends messages that make so many jobs; their addresses."""
    inbox = platform.inbox(**options)
    addresses = [f"someone@{name}{n}.test" for n in range(count)]
    starts = range(0, count, RECIPIENTS_MAX)
    with platform.load(
        lambda start: platform.send(inbox, addresses[start : start + RECIPIENTS_MAX], **options), starts
    ):
        pass
    return addresses


@pytest.mark.timeout(1800 if IS_LONG else 150)
def test_a_flood_delays_nobody_else(platform, sink):
    """With thousands of one organization's jobs waiting, another's single message leaves within a second."""
    platform.start_api()
    key = platform.organization("single")
    inbox = platform.inbox(key=key)
    platform.start_worker("--queues", "send", "--concurrency", str(CONCURRENCY))
    sink.delay = 0.05
    send_jobs(platform, FLOOD, "flood")
    singles = [f"single{n}@quiet.test" for n in range(5)]
    for address in singles:
        assert platform.depth("send")["ready"] > FLOOD / 2, "the flood is over"
        asked_at = time.monotonic()
        platform.send(inbox, address, key=key)
        answered_at = time.monotonic()
        (delivery,) = eventually(lambda: sink.of(address), 10, f"{address} is out")
        assert delivery.at - asked_at < 1
        # One turn of the ring: what was running, what was leased meanwhile, and some that were on their way.
        between = [d for d in list(sink.deliveries) if answered_at < d.at < delivery.at]
        assert len(between) <= 3 * CONCURRENCY, f"{len(between)} of the flood went first"
    sink.delay = 0
    assert_nothing_lost(platform, within=1500 if IS_LONG else 60)


def test_a_rate_is_kept_by_eight_workers(platform, sink):
    """50 a second from eight workers together are never more, from the first on, and a flush gives one burst at most."""
    rate, count, burst = 50, 250, 5
    platform.start_api()
    platform.database.query(
        """
        INSERT INTO queue_control (queue, scope, subject, rate_per_second)
        SELECT 'send', 'org', id::text, %s FROM organizations WHERE name = 'interop'
        """,
        rate,
    )
    platform.commune("queues", "pause", "send")
    send_jobs(platform, count, "rate")
    platform.start_workers(8, "--queues", "send")
    eventually(lambda: platform.scheduled("send") == (count, 0, 0), 15, lambda: str(platform.scheduled("send")))
    began = time.monotonic()
    platform.commune("queues", "resume", "send")
    eventually(lambda: len(sink.deliveries) >= count / 2, 30, lambda: f"half is out, {len(sink.deliveries)} are")
    flushed_after = len(sink.deliveries)
    platform.redis.flushall()
    assert_nothing_lost(platform)

    times = sorted(delivery.at - began for delivery in sink.deliveries)
    for number, at in enumerate(times, 1):
        # The bucket begins full, and does so again after the flush, which some that were on their way may precede.
        allowed = (burst if number <= flushed_after else 2 * burst) + rate * (at + 0.02)
        assert number <= allowed, f"{number} were out after {at:.3f} s"
    # And it is used: twice the time, and some seconds for starting, the flush and a busy machine.
    assert times[-1] <= 2 * count / rate + 4
