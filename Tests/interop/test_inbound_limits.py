"""Every limit of inbound mail, on both sides of its edge, against the real program."""

import resource
import select
import socket
import time
from contextlib import ExitStack

import pytest

from inbound_mail import OUTSIDER, Line, deliver, mail, received, stored_mails
from platform_under_test import DOMAIN
from polling import eventually

SIZE_MAX = 40 << 20


@pytest.fixture
def receiving(platform):
    """The API and inbound mail."""
    platform.start_api()
    platform.inbound = platform.start_inbound()
    return platform


def message_of(size):
    """A message of exactly so many bytes, in lines of a thousand."""
    head = b"Subject: large\r\n\r\n"
    lines, rest = divmod(size - len(head), 1000)
    if rest == 1:  # no room for a line end: one line less, and a longer one
        lines, rest = lines - 1, 1001
    return head + (b"x" * 998 + b"\r\n") * lines + (b"y" * (rest - 2) + b"\r\n" if rest else b"")


def memory_of(process):
    """Resident memory in MB."""
    with open(f"/proc/{process.process_id}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def test_command_line(receiving):
    """2,048 bytes with the line end are a command, one more is none, and the conversation goes on."""
    with Line(receiving.smtp_port) as line:
        line.hello()
        assert line.say("NOOP " + "x" * (2048 - 7)).startswith("250")
        assert line.say("NOOP " + "x" * (2049 - 7)).startswith("500 5.5.2 ")
        assert line.say("NOOP").startswith("250")


def test_endless_line(receiving):
    """A line without end is dropped as it comes, up to a mebibyte; then the connection is closed."""
    with Line(receiving.smtp_port) as line:
        line.hello()
        line.send(b"x" * ((1 << 20) - 4096))
        assert line.say("").startswith("500 5.5.2 ")
        assert line.say("NOOP").startswith("250")
        before = memory_of(receiving.inbound)
        with pytest.raises(ConnectionError):
            # A gigabyte, if anybody listened.
            for _ in range(1 << 14):
                line.send(b"x" * (1 << 16))
        assert memory_of(receiving.inbound) < before + 20


def test_message_size(receiving):
    """Advertised, checked at MAIL, and at the end of the data after reading on."""
    inbox = receiving.inbox()
    with Line(receiving.smtp_port, timeout=120) as line:
        assert f"SIZE {SIZE_MAX}" in line.say("EHLO client")
        assert line.say(f"MAIL FROM:<{OUTSIDER}> SIZE={SIZE_MAX + 1}").startswith("552 5.3.4 ")
        for size, reply in ((SIZE_MAX + 1, "552 5.3.4 "), (SIZE_MAX, "250 ")):
            before = stored_mails(receiving)
            assert line.say(f"MAIL FROM:<{OUTSIDER}> SIZE={SIZE_MAX}").startswith("250")
            assert line.say(f"RCPT TO:<{inbox['address']}>").startswith("250")
            assert line.say("DATA").startswith("354")
            line.send(message_of(size) + b".\r\n")
            assert line.reply().startswith(reply), size
            assert stored_mails(receiving) == before + (reply == "250 ")
        [row] = receiving.database.query(
            "SELECT m.size_bytes, sum(length(c.bytes)) AS stored FROM received_mail m"
            " JOIN blob_chunks c ON c.blob_id = m.raw_blob GROUP BY m.size_bytes ORDER BY m.size_bytes DESC LIMIT 1"
        )
        # With our own trace in front.
        assert SIZE_MAX < row["stored"] == row["size_bytes"] < SIZE_MAX + 400


def test_recipients(receiving):
    """A hundred; the next waits for another transaction and is no error."""
    receiving.inbox(name="many")
    with Line(receiving.smtp_port) as line:
        line.hello().say(f"MAIL FROM:<{OUTSIDER}>")
        for number in range(100):
            assert line.say(f"RCPT TO:<many+{number}@{DOMAIN}>").startswith("250"), number
        for number in range(30):
            assert line.say(f"RCPT TO:<many+{100 + number}@{DOMAIN}>").startswith("452 4.5.3 ")
        assert line.say("DATA").startswith("354")
        line.send(b"Subject: many\r\n\r\n.\r\n")
        assert line.reply().startswith("250")


@pytest.mark.parametrize("count, reply", [(50, "250 "), (51, "554 5.4.6 ")])
def test_received_fields(receiving, count, reply):
    """Fifty hops are far, one more is a loop; in the body the word means nothing."""
    inbox = receiving.inbox()
    with Line(receiving.smtp_port) as line:
        line.open_data(inbox["address"])
        trace = b"Received: from a\r\n\tby b; Mon, 23 Nov 2026 00:00:00 +0000\r\n"
        line.send(trace * count + b"Subject: far\r\n\r\n" + b"Received: no\r\n" * 100 + b".\r\n")
        assert line.reply().startswith(reply)
        assert line.say("NOOP").startswith("250")


def test_junk_commands(receiving):
    """Two words that nobody knows are borne, at the third the connection ends."""
    with Line(receiving.smtp_port) as line:
        line.hello()
        for _ in range(2):
            assert line.say("XYZZY plugh").startswith("500 5.5.1 ")
        assert line.say("NOOP").startswith("250")
        assert line.say("XYZZY plugh").startswith("421 4.7.0 ")
        assert line.remainder() == b""


def test_errors(receiving):
    """Nineteen errors are borne, at the twentieth the connection ends."""
    with Line(receiving.smtp_port) as line:
        line.hello().say(f"MAIL FROM:<{OUTSIDER}>")
        for number in range(19):
            assert line.say(f"RCPT TO:<guess{number}@{DOMAIN}>").startswith("550 5.1.1 ")
        assert line.say("NOOP").startswith("250")
        assert line.say(f"RCPT TO:<guess@{DOMAIN}>").startswith("421 4.7.0 ")
        assert line.remainder() == b""


def proxied(platform, client):
    return Line(platform.smtp_port, first=f"PROXY TCP4 {client} 192.0.2.1 1 25\r\n".encode())


def test_connections_of_a_client(platform):
    """Two at a time, others are not concerned, and one that ends makes room."""
    platform.start_inbound(COMMUNE_PROXY_FROM="127.0.0.1/32", COMMUNE_SMTP_CLIENT_CONNECTIONS="2")
    with ExitStack() as open_lines:
        first, second = (open_lines.enter_context(proxied(platform, "203.0.113.1")) for _ in range(2))
        assert (first.greeting[:3], second.greeting[:3]) == ("220", "220")
        with proxied(platform, "203.0.113.1") as third:
            assert third.greeting.startswith("421 4.7.0 ")
            assert third.remainder() == b""
        with proxied(platform, "203.0.113.2") as other:
            assert other.greeting.startswith("220")
        assert first.say("QUIT").startswith("221")

        def has_room():
            with proxied(platform, "203.0.113.1") as line:
                return line.greeting.startswith("220")

        eventually(has_room, 5, "room again")


def test_rate_of_a_client(platform):
    """Three connections a minute, open or not; others are not concerned."""
    platform.start_inbound(COMMUNE_PROXY_FROM="127.0.0.1/32", COMMUNE_SMTP_CLIENT_RATE="3")
    greetings = []
    for client in ["203.0.113.1"] * 4 + ["203.0.113.2"]:
        with proxied(platform, client) as line:
            greetings.append(line.greeting[:9])
    assert [greeting[:3] for greeting in greetings] == ["220", "220", "220", "421", "220"]
    assert greetings[3] == "421 4.7.0"


def test_idle(platform):
    """Silence is over after its time; bytes that make no line are silence; commands are not."""
    platform.start_inbound(COMMUNE_SMTP_IDLE_SECONDS="1")
    with Line(platform.smtp_port) as silent, Line(platform.smtp_port) as dripping, Line(platform.smtp_port) as busy:
        begun = time.monotonic()
        for line in (silent, dripping, busy):
            line.hello()
        while time.monotonic() - begun < 2.5:
            time.sleep(0.25)  # time is what is tested
            assert busy.say("NOOP").startswith("250")
            try:
                dripping.send(b"N")
            except ConnectionError:
                pass
        assert silent.remainder().startswith(b"421 4.4.2 ")
        # Its last bytes came after we had closed, which may cost it the reply.
        assert dripping.remainder() in (b"", b"421 4.4.2 Idle for too long, closing\r\n")
        assert busy.say("QUIT").startswith("221")


def test_overload(platform):
    """At nine tenths of the connections MAIL waits and silence is over after ten seconds; beyond the last, 421."""
    platform.start_inbound(COMMUNE_SMTP_CONNECTIONS="10")
    # The look whether it is ready was a connection too, and ends when it ends.
    with ExitStack() as open_lines:
        begun = time.monotonic()
        lines = [open_lines.enter_context(Line(platform.smtp_port)) for _ in range(8)]
        eventually(lambda: lines[0].say(f"MAIL FROM:<{OUTSIDER}>")[:3] in ("250", "503"), 5, "the first look is over")
        assert lines[1].hello().say(f"MAIL FROM:<{OUTSIDER}>").startswith("250")
        lines.append(open_lines.enter_context(Line(platform.smtp_port)))
        assert lines[2].hello().say(f"MAIL FROM:<{OUTSIDER}>").startswith("452 4.3.1 ")
        # What has begun goes on.
        assert lines[1].say("RCPT TO:<someone@elsewhere.test>").startswith("550 5.7.1 ")
        lines.append(open_lines.enter_context(Line(platform.smtp_port)))
        assert lines[9].greeting.startswith("220")
        with Line(platform.smtp_port) as beyond:
            assert beyond.greeting.startswith("421 4.3.2 ")
            assert beyond.remainder() == b""
        # Some of those that are silent go, until there is room again.
        parted, _, _ = select.select(lines, [], [], 60)
        assert time.monotonic() - begun > 9
        assert all(line.remainder().startswith(b"421 4.4.2 ") for line in parted)
        assert 1 <= len(parted) <= 2


@pytest.fixture
def many_files():
    """Room for thousands of sockets in this process and in those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections(platform, many_files):
    """Two thousand clients that say nothing take little memory, and do not keep another one from its business."""
    inbound = platform.start_inbound(COMMUNE_SMTP_CONNECTIONS="3000", COMMUNE_SMTP_CLIENT_CONNECTIONS="0",
                                     COMMUNE_SMTP_CLIENT_RATE="0")
    platform.start_api()
    inbox = platform.inbox()
    before = memory_of(inbound)
    memory = []
    with ExitStack() as open_sockets:
        sockets = []
        for _ in range(2000):
            sockets.append(open_sockets.enter_context(socket.create_connection(("127.0.0.1", platform.smtp_port), 30)))
        for connection in sockets:
            assert connection.recv(100).startswith(b"220")
        for number in range(6):
            deliver(platform, mail(inbox["address"]), inbox["address"])
            for connection in sockets:
                connection.sendall(b"NOOP\r\n")
            for connection in sockets:
                assert connection.recv(100).startswith(b"250")
            memory.append(round(memory_of(inbound), 1))
    print(f"{before:.1f} MB; with 2,000 connections, after each round of commands: {memory}")
    # Buffers and stacks of each connection; from then on nothing.
    assert memory[0] - before < 120
    assert memory[-1] - memory[1] < 5


def test_memory_of_large_messages(platform):
    """Thirty messages of 12 MiB at once wait on the disk: memory does not grow with size times connections."""
    inbound = platform.start_inbound()
    platform.start_api()
    inbox = platform.inbox()
    message = message_of(12 << 20)
    before = memory_of(inbound)
    peak = before
    with ExitStack() as open_lines:
        lines = [open_lines.enter_context(Line(platform.smtp_port, timeout=120)) for _ in range(30)]
        for number, line in enumerate(lines):
            line.open_data(inbox["address"])
            line.send(f"X-Number: {number}\r\n".encode() + message)
            peak = max(peak, memory_of(inbound))
        for line in lines:
            line.send(b".\r\n")
        for line in lines:
            assert line.reply().startswith("250")
            peak = max(peak, memory_of(inbound))
    print(f"{before:.1f} MB before, at most {peak:.1f}")
    assert peak - before < 60


def test_no_room_on_the_disk(platform):
    """What cannot be spooled is refused for now, after its end; small mail needs no disk."""
    platform.start_api()
    platform.start_inbound(COMMUNE_SPOOL=str(platform.folder / "missing"))
    inbox = platform.inbox()
    with Line(platform.smtp_port) as line:
        for size, reply in ((200_000, "452 4.3.1 "), (20_000, "250 ")):
            line.open_data(inbox["address"])
            line.send(message_of(size) + b".\r\n")
            assert line.reply().startswith(reply)


def test_who_is_accepted(receiving):
    """An inbox that is switched off is 550 5.2.1; postmaster and abuse are always there, and what comes is kept."""
    inbox = receiving.inbox(name="off")
    assert receiving.call("PATCH", f"/v1/inboxes/{inbox['id']}", {"status": "inactive"}).status == 200
    roles = [f"postmaster@{DOMAIN}", f"Abuse+1@{DOMAIN}", f"dmarc@send.{DOMAIN}", "postmaster@mail.interop.test"]
    with Line(receiving.smtp_port) as line:
        line.hello().say(f"MAIL FROM:<{OUTSIDER}>")
        assert line.say(f"RCPT TO:<{inbox['address']}>").startswith("550 5.2.1 ")
        assert line.say(f"RCPT TO:<dmarc@{DOMAIN}>").startswith("550 5.1.1 ")
        assert line.say("RCPT TO:<postmaster@elsewhere.test>").startswith("550 5.7.1 ")
        for role in roles:
            assert line.say(f"RCPT TO:<{role}>").startswith("250"), role
        assert line.say("RCPT TO:<Postmaster>").startswith("250")
        assert line.say("DATA").startswith("354")
        line.send(b"Subject: a complaint\r\n\r\n.\r\n")
        assert line.reply().startswith("250")
    kept = receiving.database.query("SELECT role, recipients FROM operator_mail ORDER BY role")
    assert [row["role"] for row in kept] == ["abuse", "dmarc", "postmaster"]
    assert kept[2]["recipients"] == [roles[0], roles[3]]


def test_bounces_come_home(receiving, sink):
    """A return path of ours is accepted for the inbox that sent; one that nobody signed is not."""
    receiving.start_worker()
    inbox = receiving.inbox()
    receiving.send(inbox, OUTSIDER)
    receiving.await_delivered([OUTSIDER])
    [delivery] = sink.of(OUTSIDER)
    with Line(receiving.smtp_port) as line:
        line.hello().say("MAIL FROM:<>")
        local, _, domain = delivery.sender.partition("@")
        assert line.say(f"RCPT TO:<{local[:-1]}{'a' if local[-1] != 'a' else 'b'}@{domain}>").startswith("550 5.1.1 ")
        assert line.say(f"RCPT TO:<{delivery.sender.upper()}>").startswith("250")
        assert line.say("DATA").startswith("354")
        line.send(b"Subject: Undelivered\r\n\r\nSorry.\r\n.\r\n")
        assert line.reply().startswith("250")
    eventually(lambda: received(receiving, inbox), 10, "the bounce in the inbox")
