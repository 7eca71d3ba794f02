"""Mail to a real MTA: Postfix takes it, dkimpy verifies both signatures, Python's parser reads what was written."""

import base64
import contextlib
import os
import shutil
from email import policy
from email.parser import BytesParser

import dkim
import pytest

from platform_under_test import DOMAIN
from polling import eventually
from postfix_server import PostfixServer

POSTFIX_DOMAIN = "postfix.test"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts only as root"),
    pytest.mark.skipif(shutil.which("postfix") is None, reason="Postfix is not installed"),
]

LONG_LINE = "".join(f"{n:04} " for n in range(1000))
UMLAUTS = "Grüße aus Köln: äöüß ÄÖÜ, naïve façade, Ελληνικά, 日本語"
EMOJI = "Done ✅ 👩🏽‍🚀🇩🇪 — all systems go 🚀"
HTML = '<html><body><p style="color:#123">Grüße 🚀 &amp; <b>more</b></p>\n<p>second</p></body></html>\n'

CASES = {
    "plain": dict(subject="Plain words", text="Just a line.\n"),
    "umlauts": dict(subject=UMLAUTS, text=f"{UMLAUTS}\nund noch eine Zeile\n"),
    "emoji": dict(subject=EMOJI, text=f"{EMOJI}\n\n{EMOJI}\n"),
    "long lines": dict(subject="Long lines", text=f"{LONG_LINE}\nshort\n{'ü' * 5000}\n"),
    "long subject": dict(subject=f"{UMLAUTS} " * 8, text="The subject has 450 characters.\n"),
    "text and html": dict(subject="Both 🚀", text=f"{EMOJI}\n{LONG_LINE}\n", html=HTML),
    "html only": dict(subject="HTML only", html=f"{HTML}<!-- {LONG_LINE} -->\n"),
    "dots and froms": dict(subject="Dots", text=".\n..\n.hidden\nFrom the start\n>From\n-- \nsignature\n"),
    "blanks at ends": dict(subject="Blanks", text="trailing blanks   \ntab\t\n\n\nfour lines up\n\n\n"),
}


@pytest.fixture(scope="module")
def postfix():
    server = PostfixServer(POSTFIX_DOMAIN)
    yield server
    server.close()


@pytest.fixture
def sending(platform, postfix):
    """The platform with everything running and its mail going to Postfix."""
    platform.start_api()
    platform.start_worker(COMMUNE_SMTP_ROUTES=f"*=127.0.0.1:{postfix.port}")
    return platform


def dns_of(platform):
    """Answers TXT questions for our DKIM keys as a name server would that an operator filled from the database."""
    rows = platform.database.query("SELECT name, dkim_rsa_record, dkim_ed25519_record FROM platform_domains")
    records = {}
    for row in rows:
        records[f"commune._domainkey.{row['name']}."] = row["dkim_rsa_record"]
        records[f"commune-ed._domainkey.{row['name']}."] = row["dkim_ed25519_record"]

    def lookup(name, timeout=5):
        record = records.get(name.decode() if isinstance(name, bytes) else name)
        return record.encode() if record else None

    return lookup


def verify_both_signatures(platform, message):
    """dkimpy accepts the RSA and the Ed25519 signature."""
    checker = dkim.DKIM(message)
    fields = [value for name, value in checker.headers if name.lower() == b"dkim-signature"]
    assert len(fields) == 2
    algorithms = set()
    for index in range(2):
        assert dkim.DKIM(message).verify(idx=index, dnsfunc=dns_of(platform)), fields[index]
        tags = dict(tag.strip().split(b"=", 1) for tag in b"".join(fields[index].split()).rstrip(b";").split(b";"))
        algorithms.add((tags[b"a"], tags[b"s"]))
        assert tags[b"d"].decode() == DOMAIN
        assert tags[b"c"] == b"relaxed/relaxed"
        assert b"l" not in tags
        signed = tags[b"h"].lower().split(b":")
        assert {b"from", b"to", b"subject", b"date", b"message-id"} <= set(signed)
        assert signed.count(b"from") == 2, "a second From could be added"
    assert algorithms == {(b"rsa-sha256", b"commune"), (b"ed25519-sha256", b"commune-ed")}


def body(message, kind):
    """A text part as it reads, but for the one line end that MIME may put at a part's end or take from it."""
    part = message.get_body(preferencelist=(kind,))
    return None if part is None else part.get_content().replace("\r\n", "\n").removesuffix("\n")


@pytest.mark.parametrize("case", CASES)
def test_arrives_signed_and_unchanged(sending, postfix, case):
    """Through the API to Postfix's Maildir: both signatures hold, and subject and bodies read back exactly."""
    content = CASES[case]
    address = f"{case.replace(' ', '-')}@{POSTFIX_DOMAIN}"
    call = sending.call("POST", "/v1/messages/send", {"inboxId": sending.inbox()["id"], "to": address, **content})
    assert call.status == 200, call.body
    stored = postfix.await_message(call.data["smtp_message_id"])
    sending.await_delivered([address])

    verify_both_signatures(sending, stored)
    message = BytesParser(policy=policy.default).parsebytes(stored)
    assert message.defects == []
    assert message["Subject"] == content["subject"].strip()
    if "html" in content:
        assert body(message, "html") == content["html"].removesuffix("\n")
    else:
        assert body(message, "html") is None
    if "text" in content:
        assert body(message, "plain") == content["text"].removesuffix("\n")
    else:
        assert "Grüße 🚀 & more" in body(message, "plain"), "HTML alone gets a text for those who read no HTML"
    assert max(len(line) for line in stored.splitlines()) <= 998
    # Postfix writes its own fields around ours; ours are 7-bit.
    assert stored.isascii()
    recipients = sending.database.query("SELECT remote_mx, last_reply FROM recipients WHERE address = %s", address)
    assert recipients[0]["remote_mx"] == "127.0.0.1"
    assert recipients[0]["last_reply"].startswith("250 2.0.0 Ok: queued as ")
    sending.assert_settled()


def test_attachments_arrive(sending, postfix):
    """Files through Postfix: both signatures hold, and each file reads back bit for bit."""
    files = {"Größe.pdf": bytes(range(256)) * 4000, "dots.txt": b".\n..\r\nFrom here\n" * 100}
    ids = []
    for name, content in files.items():
        body = {"content": base64.b64encode(content).decode(), "filename": name, "mime_type": "application/x-test"}
        answer = sending.call("POST", "/v1/attachments/upload", body)
        assert answer.status == 201, answer.body
        ids.append(answer.data["attachment_id"])
    sent = sending.send(sending.inbox(), f"files@{POSTFIX_DOMAIN}", attachments=ids)
    stored = postfix.await_message(sent["smtp_message_id"])
    verify_both_signatures(sending, stored)
    message = BytesParser(policy=policy.default).parsebytes(stored)
    assert message.defects == []
    assert {part.get_filename(): part.get_content() for part in message.iter_attachments()} == files
    sending.await_delivered([f"files@{POSTFIX_DOMAIN}"])


def test_a_changed_message_fails(sending, postfix):
    """The check itself is sharp: one changed byte, in body or subject, and neither signature holds."""
    sent = sending.send(sending.inbox(), f"sharp@{POSTFIX_DOMAIN}", subject="Sharp", text="Pay 100 euros.\n")
    stored = postfix.await_message(sent["smtp_message_id"])
    for forged in (stored.replace(b"100", b"900"), stored.replace(b"Subject: Sharp", b"Subject: Shark")):
        assert forged != stored
        for index in range(2):
            with contextlib.suppress(dkim.ValidationError):
                assert not dkim.DKIM(forged).verify(idx=index, dnsfunc=dns_of(sending))


def test_blind_copies_stay_blind(sending, postfix):
    """To, Cc and Bcc all get the message; no copy of it has the Bcc address in any header we wrote."""
    to, cc, bcc = (f"{name}@{POSTFIX_DOMAIN}" for name in ("open-to", "open-cc", "very-secret"))
    sent = sending.send(
        sending.inbox(), f"Zoë Öpen <{to}>", cc=[cc], bcc=[bcc], reply_to="Elsewhere <else@where.test>"
    )
    sending.await_delivered([to, cc, bcc])
    # The three are of one domain: one transaction, and Postfix, once it has answered, stores a copy for each.
    identifier = sent["smtp_message_id"].encode()
    eventually(lambda: sum(identifier in m for m in postfix.stored()) == 3, 20, "three copies stored")
    copies = [m for m in postfix.stored() if identifier in m]
    ours = ("return-path", "x-original-to", "delivered-to", "received")
    for copy in copies:
        message = BytesParser(policy=policy.default).parsebytes(copy)
        assert message["Bcc"] is None
        assert not [name for name, value in message.items() if name.lower() not in ours and bcc in value]
        assert message["To"].addresses[0].display_name == "Zoë Öpen"
        assert message["To"].addresses[0].addr_spec == to
        assert message["Cc"].addresses[0].addr_spec == cc
        assert message["Reply-To"].addresses[0].addr_spec == "else@where.test"
        verify_both_signatures(sending, copy)
    assert {BytesParser().parsebytes(c)["Delivered-To"] for c in copies} == {to, cc, bcc}


def test_postfix_refuses(sending, postfix):
    """A domain that Postfix does not relay to is a bounce, with Postfix's own words."""
    sending.send(sending.inbox(), "nobody@not-here.test")
    sending.await_states({"nobody@not-here.test": "bounced"})
    replies = sending.database.query("SELECT last_reply FROM recipients WHERE address = 'nobody@not-here.test'")
    assert "Relay access denied" in replies[0]["last_reply"]
    sending.assert_settled()
