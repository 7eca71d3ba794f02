"""What comes back through the real inbound program: bounces, delays and complaints; and that forged ones change nothing."""

import gzip
import smtplib
import time
import uuid
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from platform_under_test import DOMAIN
from polling import eventually

GONE = "550 5.1.1 <{}>: Recipient address rejected: User unknown"
FULL = "552 5.2.2 <{}>: Mailbox full"
SPAM = "550 5.7.1 <{}>: Message rejected as spam by Content Filtering"


@pytest.fixture
def returning(platform):
    """The platform with everything running."""
    platform.start_api()
    platform.start_inbound()
    platform.start_worker()
    return platform


def sent(platform, inbox, *addresses, key=None, **fields):
    """Sends one message and waits until the remote has it; what the remote got, by address."""
    message = platform.send(inbox, list(addresses), key=key, **fields)["id"].removeprefix("msg_")
    taken = "SELECT count(*) AS n FROM recipients WHERE message_id = %s AND state = 'delivered'"
    eventually(
        lambda: platform.database.query(taken, message)[0]["n"] == len(addresses), 30, lambda: "the remote has it"
    )
    return {address: platform.sink.of(address)[-1] for address in addresses}


def part(kind, content):
    return f"Content-Type: {kind}\r\n\r\n".encode() + content


def report(kind, to, *parts):
    """A multipart/report as mail servers write it, with a Message-ID of its own."""
    boundary = f"b{uuid.uuid4().hex}"
    header = (
        "From: Mail Delivery System <MAILER-DAEMON@mx.remote.test>\r\n"
        f"To: {to}\r\nSubject: Undelivered Mail Returned to Sender\r\n"
        f"Message-ID: <{uuid.uuid4()}@mx.remote.test>\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type={kind}; boundary="{boundary}"\r\n\r\n'
    ).encode()
    words = part("text/plain", b"This is the mail system at host mx.remote.test.\r\n")
    delimiter = f"--{boundary}\r\n".encode()
    body = b"".join(delimiter + each + b"\r\n" for each in (words, *parts))
    return header + body + f"--{boundary}--\r\n".encode()


def bounce(to, recipient, action="failed", diagnostic=GONE, original=""):
    """A delivery status notification (RFC 3464)."""
    diagnostic = diagnostic.format(recipient)
    status = next(word for word in diagnostic.split() if word.count(".") == 2)
    fields = (
        "Reporting-MTA: dns; mx.remote.test\r\n\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; {diagnostic}\r\n"
    )
    header = original or f"To: {recipient}\r\n"
    return report(
        "delivery-status",
        to,
        part("message/delivery-status", fields.encode()),
        part("text/rfc822-headers", header.encode()),
    )


def complaint(to, original, kind="abuse", **fields):
    """A feedback report (RFC 5965) with the message it is about, to the byte."""
    text = f"Feedback-Type: {kind}\r\nUser-Agent: Loop/1.0\r\nVersion: 1\r\n"
    text += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return report(
        "feedback-report",
        to,
        part("message/feedback-report", text.encode()),
        part("message/rfc822", original),
    )


def give(platform, message, to):
    """Hands a report over with the null reverse-path; the refusals by recipient."""
    with smtplib.SMTP("127.0.0.1", platform.smtp_port, "mx.remote.test", timeout=15) as client:
        try:
            client.sendmail("", [to], message)
            return {}
        except smtplib.SMTPRecipientsRefused as refusal:
            return refusal.recipients


def is_read(platform):
    """Every mail that was taken has been processed."""
    return platform.database.query("SELECT count(*) AS n FROM received_mail WHERE processed_at IS NULL")[0]["n"] == 0


def accept(platform, message, to):
    """Hands a report over and waits until it was read."""
    assert give(platform, message, to) == {}
    eventually(lambda: is_read(platform), 15, lambda: "the report was not read")


def story(platform, address):
    """(state at its last message, events, reason of the suppression) of an address."""
    states = platform.database.query(
        "SELECT state FROM recipients WHERE address = %s ORDER BY message_id DESC LIMIT 1", address
    )
    events = platform.database.query(
        "SELECT event_type FROM delivery_events WHERE recipient = %s ORDER BY id", address
    )
    reasons = platform.database.query("SELECT reason FROM suppressions WHERE address_key = %s", address.lower())
    return (
        states[0]["state"] if states else None,
        [row["event_type"].removeprefix("email.") for row in events],
        reasons[0]["reason"] if reasons else None,
    )


def address():
    return f"to-{uuid.uuid4().hex[:12]}@remote.test"


def test_user_unknown(returning):
    """A bounce to the token's address: bounced, one event, suppressed; said again nothing more; no mail in the inbox."""
    inbox = returning.inbox()
    to = address()
    path = sent(returning, inbox, to)[to].sender
    assert path.startswith("bounce+") and path.endswith(f"@send.{DOMAIN}")
    for _ in range(2):
        accept(returning, bounce(path, to), path)
        assert story(returning, to) == ("bounced", ["delivered", "bounced"], "hard_bounce")
    received = [m for m in returning.get(f"/v1/messages?inbox_id={inbox['id']}") if m["direction"] == "inbound"]
    assert received == []
    # The next send leaves the address out.
    answer = returning.call("POST", "/v1/messages/send", {"inboxId": inbox["id"], "to": to, "subject": "s", "text": "t"})
    assert answer.status == 400 and "suppressed" in str(answer.body)
    returning.assert_settled()


def test_after_forwarding(returning):
    """The report names an address that we never wrote to; the token says whom it is about."""
    inbox = returning.inbox()
    to = address()
    path = sent(returning, inbox, to)[to].sender
    accept(returning, bounce(path, "private@elsewhere.test"), path)
    assert story(returning, to) == ("bounced", ["delivered", "bounced"], "hard_bounce")


def test_one_of_two(returning):
    """Of two recipients who shared a transaction the named one bounces; one that is neither changes nothing."""
    inbox = returning.inbox()
    first, second = address(), address()
    path = sent(returning, inbox, first, second)[first].sender
    accept(returning, bounce(path, "nobody-of-us@remote.test"), path)
    accept(returning, bounce(path, second.upper()), path)
    assert story(returning, first) == ("delivered", ["delivered"], None)
    assert story(returning, second) == ("bounced", ["delivered", "bounced"], "hard_bounce")


def test_about_us(returning):
    """What is about us bounces the message and suppresses nobody."""
    inbox = returning.inbox()
    to = address()
    path = sent(returning, inbox, to)[to].sender
    accept(returning, bounce(path, to, diagnostic=SPAM), path)
    assert story(returning, to) == ("bounced", ["delivered", "bounced"], None)


def test_delay(returning):
    """A delay is told once and changes no state; the bounce that follows does."""
    inbox = returning.inbox()
    to = address()
    path = sent(returning, inbox, to)[to].sender
    late = "451 4.4.1 connection timed out, still trying"
    for _ in range(2):
        accept(returning, bounce(path, to, "delayed", late), path)
        assert story(returning, to) == ("delivered", ["delivered", "delivery_delayed"], None)
    accept(returning, bounce(path, to, "failed", "451 4.4.7 message expired"), path)
    assert story(returning, to) == ("bounced", ["delivered", "delivery_delayed", "bounced"], None)


def test_full_mailbox(returning):
    """Three full mailboxes in a row suppress, although each message was taken at first; a real success between resets."""
    inbox = returning.inbox()
    to, lucky = address(), address()
    for number in range(3):
        assert story(returning, to)[2] is None
        path = sent(returning, inbox, to)[to].sender
        accept(returning, bounce(path, to, diagnostic=FULL), path)
    assert story(returning, to)[2] == "soft_bounce"
    for number in range(4):
        path = sent(returning, inbox, lucky)[lucky].sender
        if number != 1:
            accept(returning, bounce(path, lucky, diagnostic=FULL), path)
    assert story(returning, lucky)[2] is None


def test_letter(returning):
    """A letter that is no RFC 3464 report, as qmail writes it."""
    inbox = returning.inbox()
    to = address()
    path = sent(returning, inbox, to)[to].sender
    letter = (
        f"From: MAILER-DAEMON@mx.remote.test\r\nTo: {path}\r\nSubject: failure notice\r\n\r\n"
        "Hi. This is the qmail-send program at mx.remote.test.\r\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
        f"This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n<{to}>:\r\n"
        "192.0.2.1 does not like recipient.\r\nRemote host said: 550 5.1.1 no such user\r\n"
    ).encode()
    accept(returning, letter, path)
    assert story(returning, to) == ("bounced", ["delivered", "bounced"], "hard_bounce")


def test_vacation(returning):
    """An answer to the return path is no bounce: it is mail for the inbox, in the thread of what it answers."""
    inbox = returning.inbox()
    to = address()
    delivery = sent(returning, inbox, to)[to]
    answer = EmailMessage(policy=policy.SMTP)
    answer["From"], answer["To"], answer["Subject"] = to, delivery.sender, "Out of office"
    answer["Auto-Submitted"] = "auto-replied"
    answer["In-Reply-To"] = delivery.message_id
    answer.set_content("I am away until Monday.")
    accept(returning, answer.as_bytes(), delivery.sender)
    assert story(returning, to) == ("delivered", ["delivered"], None)
    messages = returning.get(f"/v1/messages?inbox_id={inbox['id']}")
    assert sorted(message["direction"] for message in messages) == ["inbound", "outbound"]
    assert len({message["thread_id"] for message in messages}) == 1


def test_forged(returning):
    """No token, a wrong one, one of another purpose or message, another organization's: nothing changes."""
    inbox = returning.inbox()
    to = address()
    delivery = sent(returning, inbox, to, list_unsubscribe=True)[to]
    before = story(returning, to)
    path, original = delivery.sender, delivery.content.decode()
    token = path.removeprefix("bounce+").partition("@")[0]
    header = original.partition("\r\n\r\n")[0]
    link = message_from_bytes(delivery.content)["List-Unsubscribe"]
    unsubscribe = link.partition("token=")[2].partition(">")[0]
    assert unsubscribe and unsubscribe != token
    wrong = token[:20] + ("a" if token[20] != "a" else "b") + token[21:]
    for forged in ("", wrong, token[::-1], token[:-1], unsubscribe, "x" * 53):
        name = f"bounce+{forged}" if forged else "bounce"
        refused = give(returning, bounce(path, to, original=header), f"{name}@send.{DOMAIN}")
        assert [code for code, _ in refused.values()] == [550], forged
    # To the inbox, with everything but a token: the Message-ID is known to everybody who has seen an answer.
    names = ("Message-ID", "To", "From", "Subject", "Date")
    message = message_from_bytes(delivery.content)
    seen = "".join(f"{name}: {message[name]}\r\n" for name in names)
    accept(returning, bounce(inbox["address"], to, original=seen), inbox["address"])
    assert story(returning, to) == before
    # A complaint with a copy that somebody has made up, or altered.
    altered = delivery.content.replace(b"Hello.", b"Viagra")
    bare = altered.replace(b"List-Unsubscribe", b"X-Was-List").replace(token.encode(), b"")
    assert b"DKIM-Signature" in bare
    accept(returning, complaint(inbox["address"], bare, Original_Rcpt_To=to), inbox["address"])
    assert story(returning, to) == before
    # Another organization has tokens of its own, and says that this message bounced.
    key = returning.organization(f"stranger-{uuid.uuid4().hex[:8]}")
    theirs = returning.inbox(key=key)
    own = address()
    foreign = sent(returning, theirs, own, key=key)[own].sender
    accept(returning, bounce(foreign, to, original=header), foreign)
    accept(returning, complaint(theirs["address"], delivery.content, Original_Mail_From=f"<{path}>"), theirs["address"])
    assert story(returning, to) == before
    assert returning.database.query("SELECT count(*) AS n FROM suppressions WHERE address_key = %s", to)[0]["n"] == 0
    # Nothing of this was wrong with the token itself.
    accept(returning, bounce(path, to), path)
    assert story(returning, to)[0] == "bounced"


def spam_reports(platform, address):
    return platform.database.query("SELECT feedback_type, reporter FROM spam_reports WHERE recipient = %s", address)


def test_complaint_by_token(returning):
    """A complaint whose fields name our return path; To is blanked."""
    inbox = returning.inbox()
    to = address()
    delivery = sent(returning, inbox, to)[to]
    blank = delivery.content.replace(to.encode(), b"redacted@remote.test")
    for _ in range(2):
        accept(
            returning,
            complaint(inbox["address"], blank, Original_Mail_From=f"<{delivery.sender}>"),
            inbox["address"],
        )
        assert story(returning, to) == ("complained", ["delivered", "complained"], "complaint")
    assert spam_reports(returning, to) == [{"feedback_type": "abuse", "reporter": "Loop/1.0"}]


def test_complaint_by_signature(returning):
    """A complaint without any token: our own signature on the copy proves its Message-ID."""
    inbox = returning.inbox()
    to = address()
    delivery = sent(returning, inbox, to)[to]
    accept(returning, complaint(inbox["address"], delivery.content), inbox["address"])
    assert story(returning, to) == ("complained", ["delivered", "complained"], "complaint")
    # Of two recipients nobody can say which of them complained: it is counted, and nobody is suppressed.
    first, second = address(), address()
    both = sent(returning, inbox, first, second)[first]
    accept(returning, complaint(inbox["address"], both.content, Original_Rcpt_To=first), inbox["address"])
    assert story(returning, first) == ("delivered", ["delivered"], None)
    assert story(returning, second) == ("delivered", ["delivered"], None)
    nobody = returning.database.query(
        "SELECT count(*) AS n FROM delivery_events WHERE event_type = 'email.complained' AND recipient IS NULL"
    )
    assert nobody[0]["n"] == 1


def test_not_spam(returning):
    """A report that takes a complaint back, or is about a virus, is none."""
    inbox = returning.inbox()
    to = address()
    delivery = sent(returning, inbox, to)[to]
    accept(returning, complaint(delivery.sender, delivery.content, "not-spam"), delivery.sender)
    assert story(returning, to) == ("delivered", ["delivered"], None)


REPORT = """<?xml version="1.0"?><feedback><report_metadata><org_name>Reporter</org_name><email>d@reporter.test</email>
<report_id>{id}</report_id><date_range><begin>{begin}</begin><end>{end}</end></date_range></report_metadata>
<policy_published><domain>{domain}</domain><p>none</p></policy_published><record><row><source_ip>192.0.2.7</source_ip>
<count>4</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>
<identifiers><header_from>{domain}</header_from></identifiers></record></feedback>"""


def dmarc_mail(to, domain, identifier):
    """A report as it is mailed: gzip, under a type that says nothing."""
    now = int(time.time())
    xml = REPORT.format(id=identifier, domain=domain, begin=now - 90_000, end=now - 3_600)
    message = EmailMessage(policy=policy.SMTP)
    message["From"], message["To"], message["Subject"] = "d@reporter.test", to, f"Report domain: {domain}"
    message["Message-ID"] = f"<{uuid.uuid4()}@reporter.test>"
    message.set_content("This is an aggregate report.")
    message.add_attachment(gzip.compress(xml.encode()), "application", "octet-stream", filename="report.dat")
    return message.as_bytes()


def test_dmarc_and_roles_by_mail(returning):
    """Reports to dmarc@send.<domain> are kept once and summed up; mail for abuse@ raises an alert, a complaint to it acts."""
    domain = f"d{uuid.uuid4().hex[:8]}.test"
    made = returning.call("POST", "/v1/domains", {"name": domain})
    assert made.status == 201, made.body
    returning.database.query(
        "INSERT INTO verified_domains (name, org_id, domain_id) SELECT name, org_id, id FROM domains WHERE name = %s", domain
    )
    returning.database.query("UPDATE domains SET status = 'verified', verified_at = now() WHERE name = %s", domain)
    to = f"dmarc@send.{domain}"
    for identifier, about in (("one", domain), ("one", domain), ("two", domain), ("three", "somebody-elses.test")):
        accept(returning, dmarc_mail(to, about, identifier), to)
    accept(returning, b"Subject: spam\r\n\r\nBuy.\r\n", to)
    accept(returning, dmarc_mail(to, domain, "four")[:-200], to)
    reports = returning.get(f"/v1/dmarc/reports?domain={domain}")
    assert sorted(report["reportId"] for report in reports) == ["one", "two"]
    assert {report["source"] for report in reports} == {"email"}
    summary = returning.get(f"/v1/dmarc/summary?domain={domain}")
    assert (summary["reports"], summary["messages"], summary["pass_rate"]) == (2, 8, 100)
    assert returning.get("/v1/alerts") == []
    # A complaint to abuse@ of the organization's own domain.
    inbox = returning.inbox()
    victim = address()
    delivery = sent(returning, inbox, victim)[victim]
    accept(returning, complaint(f"abuse@{domain}", delivery.content), f"abuse@{domain}")
    assert story(returning, victim)[0] == "complained"
    assert returning.get("/v1/alerts") == []
    for _ in range(2):
        accept(returning, f"Subject: {uuid.uuid4()}\r\n\r\nYour users ...\r\n".encode(), f"Abuse@{domain}")
    alerts = returning.get("/v1/alerts?status=open")
    assert [(alert["type"], alert["subject_id"]) for alert in alerts] == [("kept_mail", f"abuse@{domain}")]
