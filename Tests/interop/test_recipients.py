"""Recipients good and bad, through a real DNS: told at the send, or judged before it, and each got it once or has failed."""

import signal

import pytest

from invariants import assert_nothing_lost
from polling import eventually

RECORDS = [
    "good.recipients.test. 60 IN MX 10 mx.recipients.test.",
    "also.recipients.test. 60 IN MX 10 mx.recipients.test.",
    "slow.recipients.test. 60 IN MX 10 mx.recipients.test.",
    "mx.recipients.test. 60 IN A 127.0.0.1",
    "null.recipients.test. 60 IN MX 0 .",
    "mailinator.com. 60 IN MX 10 mx.recipients.test.",
]
NO_MX = "No MX records found"


@pytest.fixture
def by_dns(platform, name_server, sink):
    """Settings of programs whose mail goes by the DNS, to the sink."""
    name_server.publish(RECORDS)
    return {
        "COMMUNE_SMTP_ROUTES": None,
        "COMMUNE_DNS_SERVER": f"127.0.0.1:{name_server.port}",
        "COMMUNE_DELIVERY_PORT": str(sink.port),
        "COMMUNE_DELIVERY_ALLOW": "127.0.0.0/8",
    }


def jobs(platform, queue):
    """payload's domain -> state."""
    rows = platform.database.query("SELECT payload->>'domain' AS domain, state::text FROM jobs WHERE queue = %s", queue)
    return {row["domain"]: row["state"] for row in rows}


def test_mixed_recipients(platform, sink, by_dns):
    """The bad ones are told at once and are no part of the message; the others get it."""
    platform.start_api(**by_dns)
    platform.start_worker(**by_dns)
    inbox = platform.inbox()
    body = {
        "inboxId": inbox["id"],
        "to": ["one@good.recipients.test", "gone@missing.recipients.test", "no address"],
        "cc": ["two@also.recipients.test", "three@mailinator.com"],
        "bcc": "null@null.recipients.test",
        "subject": "Mixed",
        "text": "Hello.",
    }
    answer = platform.call("POST", "/v1/messages/send", body)
    assert answer.status == 200, answer.body
    platform.accepted.append(answer.data["id"].removeprefix("msg_"))
    validation = answer.body["validation"]
    assert validation.pop("duration_ms") >= 0
    assert validation == {
        "rejected": [
            {"email": "no address", "reason": "Invalid email address"},
            {"email": "gone@missing.recipients.test", "reason": NO_MX},
            {"email": "null@null.recipients.test", "reason": NO_MX},
        ],
        "warnings": [{"email": "three@mailinator.com", "reason": "Disposable email domain"}],
        "suppressed": [],
    }
    good = ["one@good.recipients.test", "two@also.recipients.test", "three@mailinator.com"]
    platform.await_delivered(good)
    assert b"missing.recipients.test" not in sink.of(good[0])[0].content
    bad = platform.call("POST", "/v1/messages/send", {**body, "to": body["to"][1:], "cc": [], "bcc": body["bcc"]})
    assert bad.status == 400 and "error" in bad.body
    assert [finding["reason"] for finding in bad.body["validation"]["rejected"]] == ["Invalid email address", NO_MX, NO_MX]
    assert_nothing_lost(platform)


def test_judged_before_the_send(platform, sink, by_dns, name_server):
    """While the DNS and Redis are away sends are accepted; when they are back everybody gets a verdict, and then mail."""
    platform.start_api(**by_dns)
    inbox = platform.inbox()
    name_server.stop()
    platform.redis_server.kill()
    wanted = {f"{n}@slow.recipients.test": "delivered" for n in range(5)}
    wanted |= {f"{n}@missing.recipients.test": "failed" for n in range(5)}
    for n in range(5):
        platform.send(inbox, [f"{n}@slow.recipients.test", f"{n}@missing.recipients.test"])
    assert jobs(platform, "send") == {}
    platform.redis_server.start()
    platform.start_worker(**by_dns)
    # Nobody is rejected while the DNS is silent.
    eventually(
        lambda: platform.database.query("SELECT 1 FROM jobs WHERE attempt > 0 AND last_error LIKE 'The DNS does not say%%'"),
        30,
        lambda: "a try that the DNS did not answer",
    )
    assert set(platform.states(wanted).values()) == {"queued"}
    name_server.publish(RECORDS)
    platform.database.query("UPDATE jobs SET run_at = now() WHERE state = 'queued'")
    platform.redis.flushall()
    platform.await_states(wanted, 60)
    events = platform.database.query("SELECT DISTINCT event_type, detail FROM delivery_events WHERE detail = %s", NO_MX)
    assert events == [{"event_type": "email.failed", "detail": NO_MX}]
    assert_nothing_lost(platform, given_up=[a for a, state in wanted.items() if state == "failed"])


@pytest.mark.parametrize("point", ["after-lease", "after-claim", "after-effect", "after-finish"])
def test_killed_while_judging(platform, sink, by_dns, name_server, point):
    """A worker that is killed at any point of the judgement loses nobody, and nobody gets it twice."""
    platform.start_api(**by_dns)
    inbox = platform.inbox()
    name_server.stop()
    good = [f"{n}@slow.recipients.test" for n in range(3)]
    bad = [f"{n}@missing.recipients.test" for n in range(3)]
    for one, other in zip(good, bad):
        platform.send(inbox, [one, other])
    name_server.publish(RECORDS)
    assert len(jobs(platform, "validate-recipients")) == 2
    victim = platform.start_worker(
        "--queues", "validate-recipients", COMMUNE_FAIL_POINT=point, **by_dns
    )
    assert victim.wait(30) == -signal.SIGKILL
    platform.start_worker(**by_dns)
    platform.await_states(dict.fromkeys(good, "delivered") | dict.fromkeys(bad, "failed"), 60)
    assert sink.seen() == dict.fromkeys(good, 1)
    assert_nothing_lost(platform, given_up=bad)


def test_a_message_that_cannot_be_read_dies(platform, sink):
    """Its job is a dead letter at once, its recipients have failed, and the others' mail goes on."""
    platform.start_api()
    inbox = platform.inbox()
    spoilt = platform.send(inbox, "spoilt@unreadable.test")["id"].removeprefix("msg_")
    platform.send(inbox, "fine@unreadable.test")
    platform.database.query("UPDATE message_bodies SET composition = '{\"to\": 5}' WHERE message_id = %s", spoilt)
    platform.start_worker()
    platform.await_states({"spoilt@unreadable.test": "failed", "fine@unreadable.test": "delivered"})
    [dead] = platform.database.query("SELECT state::text, attempt, last_error FROM jobs WHERE state = 'dead'")
    assert (dead["attempt"], dead["last_error"][:36]) == (1, "The stored message cannot be read: T")
    assert_nothing_lost(platform, given_up=["spoilt@unreadable.test"], dead=1)
