"""SIGTERM is obeyed, soon, with status 0, and loses nothing."""

import random
import signal
import socket
import time
import urllib.error

import pytest

from invariants import assert_nothing_lost
from polling import eventually
from processes import answers, free_port


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
    assert_nothing_lost(platform)
    assert sink.seen().keys() == {*in_flight, *later}


def test_worker_ends_although_its_jobs_do_not(platform, sink):
    """Jobs longer than the grace: those before their final dot are handed back at once, the others left to their leases."""
    platform.start_api()
    worker = platform.start_worker(COMMUNE_GRACE_SECONDS="1")
    inbox = platform.inbox()
    handed_back = [f"back{n}@long.test" for n in range(10)]
    left = [f"left{n}@long.test" for n in range(10)]
    sink.silent_at_recipient.update(handed_back)
    sink.silent_at_final_dot.update(left)
    platform.send_to_each(inbox, handed_back + left)
    eventually(lambda: {*handed_back, *left} == sink.asked, 20, lambda: f"20 under way, {len(sink.asked)} are")
    eventually(lambda: len(sink.seen()) == 10, 20, lambda: f"10 past their dot, {len(sink.seen())} are")
    # The grace, five seconds for what is told to end, and the closing of everything.
    assert worker.stop(within=15) == 0
    rows = platform.database.query("SELECT state::text, attempt, crash_count, count(*) AS n FROM jobs GROUP BY 1, 2, 3")
    assert sorted((row["state"], row["attempt"], row["crash_count"], row["n"]) for row in rows) == [
        ("queued", 0, 0, 10),
        ("running", 1, 0, 10),
    ]
    assert platform.scheduled("send") == (10, 0, 10)

    sink.silent_at_recipient.clear()
    sink.silent_at_final_dot.clear()
    platform.start_worker()
    assert_nothing_lost(platform, may_repeat=left)
    assert sink.seen() == {**dict.fromkeys(handed_back, 1), **dict.fromkeys(left, 2)}


def test_rolling_restart_of_everything(platform, sink):
    """Two copies of the API and three workers, replaced one after the other under load: nothing is lost or sent twice."""
    ports = (platform.api_port, free_port())
    apis = [platform.start_api(port) for port in ports]
    workers = platform.start_workers(3)
    inbox = platform.inbox()
    sink.delay = 0.2
    unanswered = []

    def send(address):
        """As a proxy does: the next copy when one takes no connection, an error for the caller when one breaks off."""
        for port in random.sample(ports, 2):
            try:
                platform.send(inbox, address, port=port)
                return
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError):
                    unanswered.append(address)
                    return
            except OSError:
                unanswered.append(address)
                return
        raise AssertionError("no copy of the API took a connection")

    def restart(program, start):
        out, accepted = len(sink.seen()), len(platform.accepted)
        eventually(lambda: len(sink.seen()) >= out + 30, 20, "30 more are out")
        eventually(lambda: len(platform.accepted) >= accepted + 30, 20, "30 more are accepted")
        assert program.stop() == 0
        start()

    with platform.steady_load(send, "rolling.test"):
        for api, port in zip(apis, ports):
            restart(api, lambda: platform.start_api(port))
        for worker in workers:
            restart(worker, platform.start_worker)
    assert_nothing_lost(platform)
    attempts = platform.database.query("SELECT DISTINCT attempt, crash_count FROM jobs WHERE queue = 'send'")
    assert attempts == [{"attempt": 1, "crash_count": 0}]
    assert len(unanswered) <= 8, f"{len(unanswered)} requests were broken off by two restarts"


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
    assert_nothing_lost(platform)
    assert set(answered) <= sink.seen().keys()


def second_signal(program, first, second, heard=None):
    """Sends both, the second when it can no more be meant as the first; the exit status."""
    program.signal(first)
    began = time.monotonic()
    eventually(heard or (lambda: "raceful" in program.log.read_text()), 10, "the first was heard")
    # The same signal within half a second is the same order.
    eventually(lambda: time.monotonic() - began > 0.6, 2, "half a second")
    assert program.is_running
    program.signal(second)
    return program.wait(3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_a_worker_at_once(platform, sink, number):
    """A worker that waits for its jobs ends at the second signal; the jobs are taken back and delivered by another."""
    platform.start_api()
    worker = platform.start_worker()
    addresses = [f"hurry{n}@second.test" for n in range(5)]
    sink.hold()
    platform.send_to_each(platform.inbox(), addresses)
    eventually(lambda: len(sink.seen()) == 5, 20, lambda: f"5 in flight, {len(sink.seen())} are")
    assert second_signal(worker, signal.SIGTERM, number) == 128 + number
    assert "A second signal: ending at once." in worker.log.read_text()
    sink.release()
    platform.start_worker()
    platform.await_delivered(addresses)
    # They were past their final dots.
    assert sink.seen() == dict.fromkeys(addresses, 2)
    platform.assert_settled()


def test_second_signal_ends_the_api_at_once(platform):
    """An API that waits for the body of a request ends at the second signal."""
    api = platform.start_api()
    with socket.create_connection(("127.0.0.1", platform.api_port), timeout=10) as client:
        client.sendall(
            b"POST /v1/messages/send HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {platform.key}\r\nContent-Length: 100\r\n\r\n{{".encode()
        )
        # Answered by the same thread, so the request above has been read.
        assert platform.status("/healthz") == 200
        gone = lambda: not answers(platform.api_port)
        assert second_signal(api, signal.SIGTERM, signal.SIGTERM, gone) == 143


def test_second_signal_ends_inbound_at_once(platform):
    """Inbound mail that waits for a client ends at the second signal."""
    inbound = platform.start_inbound()
    with socket.create_connection(("127.0.0.1", platform.smtp_port), timeout=10) as client:
        assert client.recv(100).startswith(b"220 ")
        client.sendall(b"EHLO client.test\r\n")
        assert client.recv(1000).startswith(b"250-")
        assert second_signal(inbound, signal.SIGINT, signal.SIGINT) == 130


def test_inbound_ends(platform):
    """SIGTERM of inbound mail with a client connected: it ends with 0 and does not wait for the client for ever."""
    inbound = platform.start_inbound()
    with socket.create_connection(("127.0.0.1", platform.smtp_port), timeout=10) as client:
        assert client.recv(100).startswith(b"220 ")
        assert inbound.stop(within=15) == 0
        assert client.recv(1000).startswith(b"421 4.3.2 ")
