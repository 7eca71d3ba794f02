"""What a refusal leads to: another try, a bounce, an event."""

from invariants import assert_nothing_lost
from polling import eventually


def events(platform, message):
    """The delivery events of a message: (type, recipient), in order."""
    rows = platform.database.query(
        "SELECT event_type, recipient FROM delivery_events WHERE message_id = %s ORDER BY id",
        message["id"].removeprefix("msg_"),
    )
    return [(row["event_type"], row["recipient"]) for row in rows]


def bring_forward(platform):
    """The next try is minutes away; makes it due now, as if time had passed."""
    moved = platform.database.query(
        "UPDATE jobs SET run_at = now() WHERE state = 'queued' AND run_at > now() + interval '90 s' RETURNING id"
    )
    assert len(moved) == 1


def test_deferred_then_delivered(platform, sink):
    """451, later 250: deferred with the answer kept, tried again with the same bytes, delivered, each told once."""
    platform.start_api()
    platform.start_worker()
    address = "busy@retry.test"
    sink.recipient_replies[address] = ["451 4.2.1 come back later", "450 4.2.1 and later"]
    sink.final_replies[address] = ["452 4.3.1 disk full"]
    message = platform.send(platform.inbox(), address)
    for attempts, answer in enumerate(("451 4.2.1 come back later", "450 4.2.1 and later", "452 4.3.1 disk full"), 1):
        recipient = eventually(
            lambda: platform.database.query(
                "SELECT state, last_reply FROM recipients WHERE address = %s AND attempts = %s", address, attempts
            ),
            20,
            f"try {attempts} recorded",
        )[0]
        assert recipient["state"] == "deferred"
        assert answer in recipient["last_reply"]
        eventually(lambda: not platform.leftovers(expecting_jobs=1), 10, "nothing of a far retry in Redis")
        bring_forward(platform)

    platform.await_delivered([address])
    refused, accepted = sink.of(address)
    assert refused.content == accepted.content
    assert events(platform, message) == [
        ("email.sent", None),
        ("email.delivery_delayed", address),
        ("email.delivered", address),
    ]
    assert_nothing_lost(platform, may_repeat={address})


def test_each_recipient_has_its_own_fate(platform, sink):
    """Of two recipients in one transaction one is refused with 550: it bounced, the other is delivered, no retry."""
    platform.start_api()
    platform.start_worker()
    sink.recipient_replies["gone@fate.test"] = ["550 5.1.1 no such user"]
    message = platform.send(platform.inbox(), ["here@fate.test", "gone@fate.test"])
    platform.await_states({"here@fate.test": "delivered", "gone@fate.test": "bounced"})
    assert [d.recipients for d in sink.deliveries] == [["here@fate.test"]]
    told = events(platform, message)
    assert told[0] == ("email.sent", None)
    assert sorted(told[1:]) == [("email.bounced", "gone@fate.test"), ("email.delivered", "here@fate.test")]
    assert_nothing_lost(platform, given_up={"gone@fate.test"})


def test_two_domains_do_not_wait_for_each_other(platform, sink):
    """One message to two domains: the one that defers holds up neither the other nor its report."""
    platform.start_api()
    platform.start_worker()
    sink.recipient_replies["late@slow.test"] = ["451 4.7.1 greylisted"]
    platform.send(platform.inbox(), ["late@slow.test", "soon@quick.test"])
    platform.await_states({"late@slow.test": "deferred", "soon@quick.test": "delivered"})
    bring_forward(platform)
    platform.await_delivered(["late@slow.test", "soon@quick.test"])
    assert_nothing_lost(platform)


def test_connection_lost_after_the_final_dot(platform, sink):
    """No answer to the final dot is no answer: the outcome is unknown, and the message is sent again."""
    platform.start_api()
    platform.start_worker()
    address = "unknown@dropped.test"
    sink.final_replies[address] = ["drop"]
    platform.send(platform.inbox(), address)
    platform.await_states({address: "sent"})
    bring_forward(platform)
    platform.await_delivered([address])
    assert [d.is_accepted for d in sink.of(address)] == [False, True]
    assert_nothing_lost(platform, may_repeat={address})
