"""SIGTERM is obeyed, soon, with status 0, and loses nothing."""

import signal
import socket

from polling import eventually


def test_worker_ends_what_it_runs(platform, sink):
    """A worker told to stop takes nothing more, waits for the answers of what is in flight, and ends with 0."""
    platform.start_api()
    worker = platform.start_worker()
    inbox = platform.inbox()
    in_flight = [f"flight{n}@term.test" for n in range(20)]
    later = [f"later{n}@term.test" for n in range(20)]
    sink.hold()
    platform.send_to_each(inbox, in_flight)
    eventually(lambda: len(sink.seen()) == 20, 20, lambda: f"20 in flight, {len(sink.seen())} are")
    worker.signal(signal.SIGTERM)
    eventually(lambda: "shut" in worker.log.read_text().lower(), 10, "the worker heard it")
    platform.send_to_each(inbox, later)
    assert worker.is_running
    sink.release()
    assert worker.wait(20) == 0
    # Recorded before the end: nobody has to find out.
    assert platform.states(in_flight) == dict.fromkeys(in_flight, "delivered")
    assert sink.seen() == dict.fromkeys(in_flight, 1)
    assert platform.database.query("SELECT id FROM workers") == []

    platform.start_worker()
    platform.await_delivered(later)
    assert sink.seen() == dict.fromkeys(in_flight + later, 1)
    platform.assert_settled()


def test_rolling_restart_of_workers(platform, sink):
    """Three workers, stopped and replaced one after the other under load: every message goes out exactly once."""
    platform.start_api()
    inbox = platform.inbox()
    workers = [platform.start_worker() for _ in range(3)]
    sink.delay = 0.2
    addresses = []

    def send(address):
        platform.send(inbox, address)
        addresses.append(address)

    with platform.steady_load(send, "rolling.test"):
        for worker in workers:
            out = len(sink.seen())
            eventually(lambda: len(sink.seen()) >= out + 30, 20, "30 more are out")
            assert worker.stop() == 0
            platform.start_worker()
    platform.await_delivered(addresses)
    assert sink.seen() == dict.fromkeys(addresses, 1)
    attempts = platform.database.query("SELECT DISTINCT attempt, crash_count FROM jobs WHERE queue = 'send'")
    assert attempts == [{"attempt": 1, "crash_count": 0}]
    platform.assert_settled()


def test_api_answers_what_it_began(platform, sink):
    """SIGTERM of the API under load: it ends with 0, and what it had answered with 200 is stored and delivered."""
    api = platform.start_api()
    platform.start_worker()
    inbox = platform.inbox()
    answered, unanswered = [], []

    def send(address):
        try:
            platform.send(inbox, address)
            answered.append(address)
        except OSError:
            unanswered.append(address)

    with platform.steady_load(send, "api-term.test"):
        eventually(lambda: len(answered) >= 100, 30, lambda: f"100 answers, {len(answered)} came")
        assert api.stop() == 0
    assert unanswered, "the load was over before the API was told to stop"
    platform.await_delivered(answered)
    platform.assert_settled()
    seen = sink.seen()
    assert {address: seen.get(address) for address in answered} == dict.fromkeys(answered, 1)


def test_inbound_ends(platform):
    """SIGTERM of inbound mail with a client connected: it ends with 0 and does not wait for the client for ever."""
    inbound = platform.start_inbound()
    with socket.create_connection(("127.0.0.1", platform.smtp_port), timeout=10) as client:
        assert client.recv(100).startswith(b"220 ")
        assert inbound.stop(within=15) == 0
        assert client.recv(1000).startswith(b"421 4.3.2 ")
