"""The API killed between its commit and its push: what it had accepted is sent all the same."""

import signal

from invariants import assert_nothing_lost
from polling import eventually
from processes import free_port


def addresses_at(domain, count=20):
    return [f"someone{n}@{domain}" for n in range(count)]


def test_committed_but_never_pushed(platform, sink):
    """An API that cannot reach Redis commits and dies; the worker's feeder finds the jobs in PostgreSQL."""
    dead_redis = f"redis://127.0.0.1:{free_port()}/0"
    api = platform.start_api(REDIS_URL=dead_redis)
    assert platform.call("GET", "/readyz").body["redis"] == "away"
    addresses = addresses_at("unpushed.test")
    platform.send_to_each(platform.inbox(), addresses)
    api.kill()
    waiting = platform.database.query("SELECT state::text FROM jobs WHERE queue = 'send'")
    assert [row["state"] for row in waiting] == ["queued"] * len(addresses)
    assert platform.redis.dbsize() == 0

    platform.start_worker()
    assert_nothing_lost(platform)
    assert sink.seen().keys() == set(addresses)


def test_killed_while_its_push_hangs(platform, sink):
    """Redis stops answering, the API commits, its push hangs, `kill -9`: the jobs are sent once."""
    api = platform.start_api()
    inbox = platform.inbox()
    addresses = addresses_at("hanging.test")
    platform.redis_server.process.signal(signal.SIGSTOP)
    try:
        platform.send_to_each(inbox, addresses)
        api.kill()
    finally:
        platform.redis_server.process.signal(signal.SIGCONT)

    platform.start_worker()
    assert_nothing_lost(platform)
    assert sink.seen().keys() == set(addresses)


def test_killed_under_load(platform, sink):
    """`kill -9` in the middle of a load: every send that was answered with 2xx is delivered, and once."""
    api = platform.start_api()
    platform.start_worker()
    inbox = platform.inbox()
    answered = []

    def send(address):
        try:
            platform.send(inbox, address)
            answered.append(address)
        except OSError:
            pass  # no answer: the caller knows that it does not know

    with platform.steady_load(send, "killed-api.test"):
        eventually(lambda: len(answered) >= 100, 30, lambda: f"100 answers, {len(answered)} came")
        api.kill()

    assert_nothing_lost(platform)
    seen = sink.seen()
    assert set(answered) <= seen.keys()
    committed = platform.database.query("SELECT address FROM recipients WHERE address LIKE '%%@killed-api.test'")
    assert {row["address"] for row in committed} == seen.keys()
