"""Inbound mail on the wire: who is accepted, what ends a message, and that 250 means stored, once."""

import re
import time
import uuid

import pytest

from inbound_mail import OUTSIDER, Line, deliver, mail, received, stored_mails
from platform_under_test import DOMAIN
from polling import eventually


@pytest.fixture
def receiving(platform):
    """The platform with its API, inbound mail and a worker running."""
    platform.start_api()
    platform.start_inbound()
    platform.start_worker()
    return platform


def test_recipients(receiving):
    """Ours is accepted, with a tag too; unknown is 550 5.1.1, a foreign domain 550 5.7.1: no open relay."""
    inbox = receiving.inbox(name="known")
    with Line(receiving.smtp_port) as line:
        assert line.greeting.startswith("220 mail.interop.test ")
        line.say("EHLO client.elsewhere.test")
        assert line.say(f"MAIL FROM:<{OUTSIDER}>").startswith("250")
        assert line.say(f"RCPT TO:<nobody-here@{DOMAIN}>").startswith("550 5.1.1 ")
        assert line.say("RCPT TO:<someone@example.com>").startswith("550 5.7.1 ")
        assert line.say(f"RCPT TO:<someone%example.com@{DOMAIN}>").startswith("550 5.1.1 ")
        assert line.say("DATA").startswith(("503", "554"))
        for address in (inbox["address"], inbox["address"].upper(), f"known+a-tag@{DOMAIN}"):
            assert line.say(f"RCPT TO:<{address}>").startswith("250"), address
        assert line.say("QUIT").startswith("221")


def test_visible_within_two_seconds(receiving):
    """After 250 the message is in GET /v1/messages within 2 s, with what it said."""
    inbox = receiving.inbox()
    text = "Guten Tag,\nhier sind Umlaute: äöü, und 🚀.\n"
    message = mail(inbox["address"], "Grüße 🚀", text)
    deliver(receiving, message, inbox["address"])
    begun = time.monotonic()
    (found,) = eventually(lambda: received(receiving, inbox), 2, "the message in the API")
    assert time.monotonic() - begun < 2
    assert found["metadata"]["subject"] == "Grüße 🚀"
    assert found["metadata"]["message_id"] == message["Message-ID"]
    assert found["content"].replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
    assert {"role": "sender", "identity": OUTSIDER} in found["participants"]
    receiving.assert_settled()


def test_the_same_message_twice(receiving):
    """A client that lost our 250 sends again: it gets 250, and there is no second copy."""
    inbox = receiving.inbox()
    message = mail(inbox["address"], "Once")
    before = stored_mails(receiving)
    for _ in range(3):
        deliver(receiving, message, inbox["address"])
    eventually(lambda: received(receiving, inbox), 5, "the message in the API")
    receiving.assert_settled()
    assert len(received(receiving, inbox)) == 1
    assert stored_mails(receiving) == before + 1


def test_two_organizations(receiving):
    """One message to inboxes of two organizations reaches each, and neither sees the other's."""
    other_key = receiving.organization(f"other-{uuid.uuid4().hex[:8]}")
    mine, theirs = receiving.inbox(), receiving.inbox(key=other_key)
    message = mail(f"{mine['address']}, {theirs['address']}", "For both")
    assert deliver(receiving, message, mine["address"], theirs["address"]) == {}
    for inbox, key in ((mine, receiving.key), (theirs, other_key)):
        (found,) = eventually(lambda: received(receiving, inbox, key), 5, "the message in each inbox")
        assert found["metadata"]["subject"] == "For both"
    assert receiving.call("GET", f"/v1/messages?inbox_id={theirs['id']}").body.get("data", []) == []
    receiving.assert_settled()


def test_answer_joins_its_thread(receiving, sink):
    """What we sent is answered from outside: by In-Reply-To the answer is in the same thread, whatever its subject."""
    inbox = receiving.inbox()
    sent = receiving.send(inbox, OUTSIDER, subject="A question")
    receiving.await_delivered([OUTSIDER])
    (delivery,) = sink.of(OUTSIDER)
    assert delivery.message_id == sent["smtp_message_id"]
    deliver(
        receiving,
        mail(inbox["address"], "Something else entirely", In_Reply_To=delivery.message_id),
        inbox["address"],
    )
    deliver(receiving, mail(inbox["address"], "Unrelated"), inbox["address"])
    answers = eventually(lambda: len(r := received(receiving, inbox)) == 2 and r, 5, "both messages")
    threads = {message["metadata"]["subject"]: message["thread_id"] for message in answers}
    assert threads["Something else entirely"] == sent["thread_id"]
    assert threads["Unrelated"] != sent["thread_id"]
    messages = receiving.get(f"/v1/threads/{sent['thread_id']}/messages")
    assert sorted(message["direction"] for message in messages) == ["inbound", "outbound"]


# What a server that takes one of these for the end of DATA would do: end the first message and obey what follows.
FALSE_ENDS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "CR.LF": b"\r.\n",
    "LF.CR": b"\n.\r",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "NUL before the dot": b"\r\n\0.\r\n",
    "NUL behind the dot": b"\r\n.\0\r\n",
}


@pytest.mark.parametrize("end", FALSE_ENDS)
def test_smuggling(receiving, end):
    """No line end but CRLF.CRLF ends a message: the second one, hidden behind another, is never one of its own."""
    inbox = receiving.inbox()
    before = stored_mails(receiving)
    hidden = (
        f"MAIL FROM:<admin@{DOMAIN}>\r\nRCPT TO:<{inbox['address']}>\r\nDATA\r\n"
        f"From: admin@{DOMAIN}\r\nTo: {inbox['address']}\r\nSubject: smuggled\r\n\r\nI am not here.\r\n.\r\nQUIT\r\n"
    ).encode()
    first = f"From: {OUTSIDER}\r\nTo: {inbox['address']}\r\nSubject: first\r\n\r\nFirst.".encode()
    with Line(receiving.smtp_port) as line:
        line.open_data(inbox["address"])
        # In one write, as an attacker's relay would pass it on.
        line.send(first + FALSE_ENDS[end] + hidden)
        replies = line.rest()
    # Either the whole is one message with the hidden one as its text, or it is refused.
    assert re.match(r"250|5\d\d", replies[0]), replies
    assert len([reply for reply in replies if reply.startswith(("250", "354"))]) <= 1, replies
    accepted = int(replies[0].startswith("250"))
    assert stored_mails(receiving) == before + accepted
    receiving.assert_settled()
    assert [message["metadata"]["subject"] for message in received(receiving, inbox)] == ["first"] * accepted


def test_dots_and_lines(receiving):
    """Doubled dots are undone, a message of lines of every length up to the limit is read whole."""
    inbox = receiving.inbox()
    text = "".join(f"{'.' * (n % 4)}{'x' * n}\n" for n in range(0, 900, 7))
    deliver(receiving, mail(inbox["address"], "Dots", text), inbox["address"])
    (found,) = eventually(lambda: received(receiving, inbox), 5, "the message in the API")
    assert found["content"].replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")


def test_connection_lost_before_the_end(receiving):
    """Without the final dot there is no message, however much of it came."""
    inbox = receiving.inbox()
    before = stored_mails(receiving)
    with Line(receiving.smtp_port) as line:
        line.open_data(inbox["address"])
        line.send(b"Subject: half\r\n\r\nhalf a message\r\n.")
    deliver(receiving, mail(inbox["address"], "Whole"), inbox["address"])
    eventually(lambda: received(receiving, inbox), 5, "the whole message")
    receiving.assert_settled()
    assert [message["metadata"]["subject"] for message in received(receiving, inbox)] == ["Whole"]
    assert stored_mails(receiving) == before + 1


def test_http_is_no_smtp(receiving):
    """A browser that was led here is sent away at its first word, and its body is not obeyed."""
    inbox = receiving.inbox()
    before = stored_mails(receiving)
    with Line(receiving.smtp_port) as line:
        line.send(
            f"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<{inbox['address']}>\r\n"
            "DATA\r\nSubject: web\r\n\r\n.\r\n".encode()
        )
        replies = line.rest()
    assert replies[0].startswith("554") and len(replies) == 1
    assert stored_mails(receiving) == before


def test_database_away(receiving):
    """Our own trouble is never the sender's fault: 451 at RCPT and after the final dot, and all is well afterwards."""
    inbox = receiving.inbox()
    before = stored_mails(receiving)
    content = mail(inbox["address"], "Patience").as_bytes().replace(b"\n", b"\r\n") + b"\r\n.\r\n"
    with Line(receiving.smtp_port, timeout=30) as line:
        line.open_data(inbox["address"])
        receiving.database.close_doors()
        try:
            line.send(content)
            assert line.reply().startswith("451 4.")
            # The session goes on, and so does the trouble.
            assert line.say(f"MAIL FROM:<{OUTSIDER}>").startswith("250")
            assert line.say(f"RCPT TO:<{inbox['address']}>").startswith("451 4.")
            assert line.say(f"RCPT TO:<nobody@{DOMAIN}>").startswith("451 4.")
        finally:
            receiving.database.open_doors()

    def try_again():
        with Line(receiving.smtp_port, timeout=30) as again:
            again.say("EHLO client.elsewhere.test")
            again.say(f"MAIL FROM:<{OUTSIDER}>")
            if not again.say(f"RCPT TO:<{inbox['address']}>").startswith("250"):
                return False
            again.say("DATA")
            again.send(content)
            return again.reply().startswith("250")

    eventually(try_again, 20, "accepted again")
    eventually(lambda: received(receiving, inbox), 10, "the message in the API")
    receiving.assert_settled()
    assert [message["metadata"]["subject"] for message in received(receiving, inbox)] == ["Patience"]
    assert stored_mails(receiving) == before + 1


def test_redis_away(platform):
    """Without Redis mail is accepted and read all the same."""
    platform.redis_server.kill()
    platform.start_api()
    platform.start_inbound()
    platform.start_worker()
    inbox = platform.inbox()
    deliver(platform, mail(inbox["address"], "No Redis"), inbox["address"])
    (found,) = eventually(lambda: received(platform, inbox), 10, "the message in the API")
    assert found["metadata"]["subject"] == "No Redis"
