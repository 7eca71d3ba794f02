"""GET /v1/events/wait: told soon, nothing held while waiting, and ended by a shutdown."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor


def wait(platform, cursor=None, timeout=30, **parameters):
    query = "&".join(f"{name}={value}" for name, value in {"timeout": timeout, **parameters}.items())
    answer = platform.call("GET", f"/v1/events/wait?{query}" + (f"&cursor={cursor}" if cursor else ""), timeout=70)
    assert answer.status == 200, answer.body
    return answer.body


def test_a_send_is_followed_to_its_end(platform, sink):
    """What the worker records comes to whoever waits, in order and once; metrics have it, counted or not."""
    platform.start_api()
    inbox = platform.inbox()
    cursor = wait(platform, timeout=0)["next_cursor"]
    platform.start_worker()
    sent = platform.send(inbox, "followed@wait.test")
    events = []
    while len(events) < 2:
        page = wait(platform, cursor)
        assert page["data"], f"thirty seconds without an event after {events}"
        events += page["data"]
        cursor = page["next_cursor"]
    assert [event["type"] for event in events] == ["email.sent", "email.delivered"]
    assert {event["data"]["message_id"] for event in events} == {sent["id"]}
    (recipient,) = platform.get(f"/v1/messages/{sent['id']}")["recipients"]
    assert recipient["state"] == "delivered" and recipient["tries"] == 1
    assert recipient["remote_mx"] and recipient["last_reply"].startswith("250")
    path = f"/v1/delivery/metrics?inbox_id={inbox['id']}"
    assert platform.get(path)["delivered"] == 1
    # The worker's chore takes it into the hourly counts; the figure stays.
    counted = "SELECT count(*) AS n FROM delivery_counts WHERE subject_id = %s"
    end = time.monotonic() + 30
    while not platform.database.query(counted, inbox["id"])[0]["n"]:
        assert time.monotonic() < end, "events are not counted"
        time.sleep(0.2)
    assert platform.get(path)["delivered"] == 1
    assert platform.get(path)["delivery_rate"] == 100


def test_told_within_a_second(platform):
    """From the answer to a send, whose commit is an event's, to the one who waits."""
    platform.start_api()
    inbox = platform.inbox()
    platform.call("POST", "/v1/delivery/suppressions", {"email": "gone@wait.test"})
    cursor = wait(platform, timeout=0)["next_cursor"]
    with ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            call = pool.submit(wait, platform, cursor)
            # A suppressed recipient is an event of the send's own transaction.
            platform.send(inbox, ["gone@wait.test", "there@wait.test"])
            began = time.monotonic()
            page = call.result()
            assert time.monotonic() - began < 1
            assert [event["type"] for event in page["data"]] == ["email.suppressed"]
            cursor = page["next_cursor"]


def test_waiting_holds_no_connection(platform):
    """Eight wait at an API with one database connection; others are served meanwhile, and all eight are told."""
    platform.start_api(COMMUNE_DB_CONNECTIONS="1")
    inbox = platform.inbox()
    cursor = wait(platform, timeout=0)["next_cursor"]
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(wait, platform, cursor) for _ in range(8)]
        began = time.monotonic()
        for _ in range(20):
            assert platform.get("/v1/inboxes")
        assert time.monotonic() - began < 10
        assert not any(call.done() for call in calls)
        platform.start_worker()
        sent = platform.send(inbox, "eight@wait.test")
        for call in calls:
            assert {event["data"]["message_id"] for event in call.result()["data"]} == {sent["id"]}


def test_shutdown_ends_a_wait(platform):
    """Whoever waits hears at once, with the same cursor, and the API ends with 0."""
    api = platform.start_api()
    cursor = wait(platform, timeout=0)["next_cursor"]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(wait, platform, cursor, 60)
        time.sleep(1)  # until it waits; a request that came later would be refused, and the test would fail
        assert not call.done()
        began = time.monotonic()
        api.signal(signal.SIGTERM)
        page = call.result(timeout=20)
        assert page["data"] == [] and page["next_cursor"] == cursor
        assert api.wait(20) == 0
        assert time.monotonic() - began < 10
