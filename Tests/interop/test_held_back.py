"""Pause and drain: what is held back waits, exactly counted, over everything that may happen meanwhile."""

import re

from invariants import assert_nothing_lost
from polling import eventually

#: Of which one organization alone takes ten.
SLOTS = "13"


def shown(platform):
    """What an operator sees of `send`: its state, and how many jobs are ready and running."""
    depth = platform.depth("send")
    assert (depth["delayed"], depth["dead"]) == (0, 0)
    return depth["state"], depth["ready"], depth["running"]


def asked(platform):
    """How many scripts Redis has run: every look for work is one."""
    return sum(
        numbers["calls"]
        for name, numbers in platform.redis.info("commandstats").items()
        if name in ("cmdstat_evalsha", "cmdstat_eval")
    )


def test_pause_drain_and_resume_step_by_step(platform, sink):
    """After every step PostgreSQL, Redis and `queues status` agree on exactly how much waits and runs."""
    platform.start_api()
    inbox = platform.inbox()
    sink.hold()
    addresses = [f"step{n}@depth.test" for n in range(30)]
    platform.send_to_each(inbox, addresses)
    worker = platform.start_worker("--queues", "send", "--concurrency", SLOTS)

    def at(state, ready, running, seen):
        eventually(
            lambda: (*shown(platform), platform.scheduled("send"), len(sink.seen()))
            == (state, ready, running, (ready, 0, running), seen),
            15,
            lambda: f"{state}, {ready} ready, {running} running, {seen} seen: "
            f"{shown(platform)}, {platform.scheduled('send')}, {len(sink.seen())}",
        )

    at("running", 20, 10, seen=10)
    platform.commune("queues", "pause", "send")
    at("paused", 20, 10, seen=10)
    sink.release(4)
    at("paused", 20, 6, seen=10)
    late = [f"late{n}@depth.test" for n in range(5)]
    platform.send_to_each(inbox, late)
    at("paused", 25, 6, seen=10)
    sink.release(6)
    at("paused", 25, 0, seen=10)

    platform.commune("queues", "resume", "send")
    at("running", 15, 10, seen=20)
    platform.commune("queues", "drain", "send")
    at("draining", 15, 10, seen=20)
    drain = ("queues", "drain", "send", "--wait", "--timeout", "0")
    refused = platform.run(*drain, check=False)
    assert refused.returncode == 1 and "10 jobs of send still run" in refused.stderr
    sink.release(10)
    assert "Drained send" in platform.commune("queues", "drain", "send", "--wait", "--timeout", "15")
    at("draining", 15, 0, seen=20)

    # A drained queue stays so over restarts of everything.
    assert worker.stop() == 0
    platform.redis_server.kill()
    platform.redis_server.start()
    platform.start_worker("--queues", "send", "--concurrency", SLOTS)
    at("draining", 15, 0, seen=20)
    platform.commune("queues", "resume", "send")
    at("running", 5, 10, seen=30)
    sink.release()
    assert_nothing_lost(platform)


def test_drained_under_load(platform, sink):
    """`drain --wait` while sends come in: nothing runs when it ends, the API goes on, and not one job is uncounted."""
    platform.start_api()
    platform.start_workers(2)
    inbox = platform.inbox()
    sink.delay = 0.3
    with platform.steady_load(lambda address: platform.send(inbox, address), "drain.test"):
        eventually(lambda: len(sink.seen()) >= 50, 30, lambda: f"50 are out, {len(sink.seen())} are")
        told = platform.commune("queues", "drain", "send", "--wait", "--timeout", "30")
        out, accepted = len(sink.seen()), len(platform.accepted)
        depth = platform.depth("send")
        assert (depth["state"], depth["running"], platform.scheduled("send")[2]) == ("draining", 0, 0)
        eventually(lambda: len(platform.accepted) >= accepted + 50, 30, "the API goes on accepting")
    running = [int(number) for number in re.findall(r"running (\d+), waiting \d+", told)]
    assert running == sorted(running, reverse=True) and running[0] > 0 and running[-1] == 0, told
    # The load is over, so that the numbers stand still.
    assert len(sink.seen()) == out, "something left after the drain"
    assert shown(platform) == ("draining", len(platform.accepted) - out, 0)

    sink.delay = 0
    platform.commune("queues", "resume", "send")
    assert_nothing_lost(platform)


def test_flushed_while_held_back(platform, sink):
    """FLUSHALL while a queue and one of its organizations are paused: neither lets anything go before it is resumed."""
    platform.start_api()
    platform.commune("orgs", "create", "held")
    held = platform.commune("keys", "create", "--org", "held", "--scope", "admin", "--quiet")
    inbox, inbox_of_held = platform.inbox(), platform.inbox(key=held)
    platform.start_worker()
    platform.commune("queues", "pause", "send")
    platform.commune("queues", "pause", "send", "--org", "held")
    addresses = [f"paused{n}@flush.test" for n in range(20)]
    addresses_of_held = [f"held{n}@flush.test" for n in range(10)]
    platform.send_to_each(inbox, addresses)
    for address in addresses_of_held:
        platform.send(inbox_of_held, address, key=held)

    def nothing_leaves(ready, seen):
        eventually(
            lambda: platform.scheduled("send") == (ready, 0, 0), 15, lambda: f"refilled: {platform.scheduled('send')}"
        )
        looks = asked(platform)
        eventually(lambda: asked(platform) >= looks + 10, 20, "the worker has looked for work again and again")
        assert sink.seen().keys() == set(seen)

    platform.redis.flushall()
    nothing_leaves(30, [])
    platform.commune("queues", "resume", "send")
    platform.await_delivered(addresses)
    nothing_leaves(10, addresses)
    platform.redis.flushall()
    nothing_leaves(10, addresses)
    platform.commune("queues", "resume", "send", "--org", "held")
    assert_nothing_lost(platform)
    assert sink.seen().keys() == {*addresses, *addresses_of_held}
