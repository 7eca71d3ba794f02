"""A program killed at each named place: no job is lost, each succeeds once, and no effect comes oftener than explained."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from platform_under_test import programs
from polling import eventually

WORKER_POINTS = ["after-lease", "after-claim", "after-effect", "after-finish"]


def has_fail_points(folder):
    return b"COMMUNE_FAIL_POINT" in (folder / "commune-worker").read_bytes()


needs_fail_points = pytest.mark.skipif(
    not has_fail_points(programs()), reason="the programs are a release, which has no fail points"
)


@needs_fail_points
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("point", WORKER_POINTS)
def test_worker_killed_at(platform, sink, point, count):
    """Killed at a place, the first time or a later one: what was sent before and after is delivered all the same."""
    platform.start_api()
    inbox = platform.inbox()
    addresses = [f"message{n}@{point}-{count}.test" for n in range(12)]
    worker = platform.start("worker", "--concurrency", "4", COMMUNE_FAIL_POINT=f"{point}:{count}")
    platform.send_to_each(inbox, addresses)
    assert worker.wait(30) == -9
    unrecorded = {a for a, state in platform.states(addresses).items() if state == "queued"}

    restarted = time.monotonic()
    platform.start_worker()
    platform.await_delivered(addresses)
    platform.assert_settled()
    rows = platform.database.query("SELECT state::text, crash_count FROM jobs WHERE queue = 'send'")
    assert [row["state"] for row in rows] == ["succeeded"] * len(addresses), "one success a job"
    sent_before = {a for d in sink.deliveries if d.at < restarted for a in d.recipients}
    # Twice only what the other side had and nobody had recorded: the price of losing none.
    twice = unrecorded & sent_before
    assert sink.seen() == {address: 2 if address in twice else 1 for address in addresses}
    for address in addresses:
        assert len({d.message_id for d in sink.of(address)}) == 1
    crashes = sum(row["crash_count"] for row in rows)
    match point:
        case "after-lease" | "after-claim" if count == 1:
            assert not sent_before, "nothing was tried before"
            # A lease alone is no attempt; a claim is one.
            assert (crashes > 0) == (point == "after-claim")
        case "after-effect":
            assert twice and crashes > 0
        case "after-finish":
            assert len(unrecorded) < len(addresses), "something had been recorded"
    delivered = platform.database.query(
        "SELECT recipient, count(*) AS n FROM delivery_events WHERE event_type = 'email.delivered' GROUP BY 1"
    )
    assert {row["n"] for row in delivered if row["recipient"] in addresses} == {1}


@needs_fail_points
def test_api_killed_after_its_commit(platform, sink):
    """The API dies between commit and push; its caller has no answer, and the message goes out, once."""
    api = platform.start_api(COMMUNE_FAIL_POINT="after-accept:3")
    inbox = platform.inbox()
    addresses = [f"message{n}@accept.test" for n in range(3)]
    for address in addresses[:2]:
        platform.send(inbox, address)
    with pytest.raises(OSError):
        platform.send(inbox, addresses[2])
    assert api.wait(10) == -9
    platform.start_worker()
    platform.await_delivered(addresses)
    assert sink.seen() == dict.fromkeys(addresses, 1)
    platform.assert_settled()


@needs_fail_points
def test_unknown_fail_point_is_said(platform):
    """A name that is misspelt must not make a test that kills nothing."""
    worker = platform.start("worker", COMMUNE_FAIL_POINT="after-lunch")
    platform.start_api()
    platform.send(platform.inbox(), "one@lunch.test")
    assert worker.wait(30) == 78
    eventually(lambda: "names no fail point: after-lunch" in worker.tail(), 5, "the fault is said")


def test_release_has_no_fail_points():
    """Where a release was built here, nothing of them is in it."""
    root = Path(__file__).resolve().parents[2]
    command = ["swift", "build", "--package-path", str(root), "-c", "release", "--show-bin-path"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    folder = Path(shown.stdout.strip())
    if shown.returncode or not (folder / "commune-worker").exists():
        pytest.skip("no release was built here")
    newest = max(p.stat().st_mtime for p in (root / "Sources/Shared/Platform").glob("FailPoint.swift"))
    if os.path.getmtime(folder / "commune-worker") < newest:
        pytest.skip("the release here is older than the fail points")
    for name in ("commune-worker", "commune-api", "commune-inbound"):
        content = (folder / name).read_bytes()
        assert b"COMMUNE_FAIL_POINT" not in content and b"after-effect" not in content, name
