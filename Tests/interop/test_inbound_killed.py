"""`kill -9` of inbound mail under load: what got 250 is there, once; what did not is sent again."""

import threading
import uuid

from inbound_mail import OUTSIDER, Line
from platform_under_test import IS_LONG
from polling import eventually

SENDERS = 8
ROUNDS = 20 if IS_LONG else 4


class Sender(threading.Thread):
    """Hands over messages, one after the other, until it is stopped; knows which got 250 and which has no answer."""

    def __init__(self, port, address):
        super().__init__(daemon=True)
        self._port, self._address = port, address
        self.accepted, self.unanswered = [], None
        self.is_over = False

    def run(self):
        try:
            with Line(self._port) as line:
                line.hello()
                while not self.is_over:
                    self.unanswered = f"<{uuid.uuid4()}@killed.test>"
                    if not hand_over(line, self._address, self.unanswered):
                        return
                    self.accepted.append(self.unanswered)
                    self.unanswered = None
        except (OSError, AssertionError):
            pass  # the server went away in the middle


def hand_over(line, address, message_id):
    """One message; whether it got 250."""
    for command in (f"MAIL FROM:<{OUTSIDER}>", f"RCPT TO:<{address}>"):
        assert line.say(command).startswith("250")
    assert line.say("DATA").startswith("354")
    # Every third is large enough to go through a file.
    size = 100 if int(message_id[1:3], 16) % 3 else 90_000
    line.send(f"Message-ID: {message_id}\r\nSubject: kill\r\n\r\n{'x' * 98}\r\n".encode() + b"y\r\n" * (size // 3) + b".\r\n")
    return line.reply().startswith("250")


def test_kill_inbound(platform):
    """Over several kills: every message that got 250 is in the inbox once; those without an answer, sent again, too."""
    platform.start_api()
    inbox = platform.inbox()
    accepted, unanswered = [], []
    for _ in range(ROUNDS):
        inbound = platform.start_inbound()
        senders = [Sender(platform.smtp_port, inbox["address"]) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        eventually(lambda: sum(len(s.accepted) for s in senders) >= 60, 30, "a load of mail")
        inbound.kill()
        for sender in senders:
            sender.join(30)
            accepted += sender.accepted
            unanswered += [sender.unanswered] if sender.unanswered else []
    assert unanswered, "the kills hit nothing"
    platform.start_inbound()
    with Line(platform.smtp_port) as line:
        line.hello()
        for message_id in unanswered + accepted[-20:]:
            assert hand_over(line, inbox["address"], message_id)
    platform.start_worker()
    wanted = accepted + unanswered
    query = "SELECT rfc_message_id AS id FROM messages WHERE direction = 'inbound' AND inbox_id = %s"

    def there():
        return [row["id"] for row in platform.database.query(query, inbox["id"])]

    eventually(lambda: len(there()) >= len(wanted), 180, lambda: f"{len(there())} of {len(wanted)} in the inbox")
    platform.assert_settled()
    assert sorted(there()) == sorted(wanted)
    [row] = platform.database.query("SELECT count(*) AS n FROM received_mail")
    assert row["n"] == len(wanted)
