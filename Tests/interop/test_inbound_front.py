"""The front of inbound mail: TLS, LMTP, load balancers, and those who do not know how to behave."""

import socket
import struct
import subprocess
import threading

import pytest

from inbound_mail import OUTSIDER, Line, mail, stored_mails
from platform_under_test import DOMAIN
from polling import eventually
from processes import answers, free_port


def make_certificate(folder, name):
    """A chain and a key in PEM files; their paths."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={name}.interop.test", "-keyout", key, "-out", chain],
        check=True,
        capture_output=True,
    )
    return chain, key


@pytest.fixture
def certified(platform):
    """Inbound mail with a certificate, and the paths of its files."""
    chain, key = make_certificate(platform.folder, "first")
    platform.start_api()
    platform.start_inbound(COMMUNE_SMTP_TLS_CERT=str(chain), COMMUNE_SMTP_TLS_KEY=str(key))
    platform.certificate = chain, key
    return platform


def last_mail(platform):
    [row] = platform.database.query(
        "SELECT m.*, convert_from(c.bytes, 'utf8') AS text FROM received_mail m JOIN blob_chunks c ON c.blob_id = m.raw_blob"
        " ORDER BY received_at DESC LIMIT 1"
    )
    return row


def content_of(inbox):
    return mail(inbox["address"]).as_bytes().replace(b"\n", b"\r\n") + b"\r\n.\r\n"


def test_starttls(certified):
    """Offered in clear text, taken once, nothing said before the handshake counts after it, and the mail says TLS."""
    inbox = certified.inbox()
    with Line(certified.smtp_port) as line:
        assert "STARTTLS" in line.say("EHLO client.elsewhere.test")
        assert line.say(f"MAIL FROM:<{OUTSIDER}>").startswith("250")
        assert line.say("STARTTLS").startswith("503")
        assert line.say("RSET").startswith("250")
        line.start_tls()
        assert line.say(f"MAIL FROM:<{OUTSIDER}>").startswith("503")
        assert "STARTTLS" not in line.say("EHLO client.elsewhere.test")
        assert line.say("STARTTLS").startswith("503")
        line.open_data(inbox["address"])
        line.send(content_of(inbox))
        assert line.reply().startswith("250")
    row = last_mail(certified)
    assert row["tls"] == "TLSv1.3"
    assert "with ESMTPS;" in row["text"].partition("\r\nFrom:")[0]


def test_no_certificate(platform):
    """Without one STARTTLS is neither offered nor begun."""
    platform.start_inbound()
    with Line(platform.smtp_port) as line:
        assert "STARTTLS" not in line.say("EHLO client.elsewhere.test")
        assert line.say("STARTTLS").startswith("454 4.7.0 ")
        assert line.say("NOOP").startswith("250")


@pytest.mark.parametrize("split", [False, True])
def test_starttls_injection(certified, split):
    """Commands that somebody put behind STARTTLS are never obeyed inside TLS (CVE-2011-0411)."""
    inbox = certified.inbox()
    before = stored_mails(certified)
    with Line(certified.smtp_port) as line:
        line.hello()
        behind = f"EHLO x\r\nMAIL FROM:<{OUTSIDER}>\r\nRCPT TO:<{inbox['address']}>\r\nDATA\r\n\r\n.\r\n".encode()
        if split:
            # Whether it arrives in front of the handshake or as the handshake: no reply beyond the first.
            line.send(b"STARTTLS\r\n")
            line.send(behind)
            assert line.reply().startswith(("503", "220"))
            assert b"250" not in line.remainder()
        else:
            line.send(b"STARTTLS\r\n" + behind)
            assert line.reply().startswith("503 5.5.0 ")
            assert line.remainder() == b""
    assert stored_mails(certified) == before


def test_handshake_that_fails(certified):
    """No clear text after it: the connection is over, and the next one works."""
    with Line(certified.smtp_port) as line:
        line.hello()
        assert line.say("STARTTLS").startswith("220")
        line.send(b"NOOP\r\n" * 10)
        assert b"250" not in line.remainder()
    with Line(certified.smtp_port) as line:
        line.hello().start_tls()
        assert line.say("NOOP").startswith("250")


def test_certificate_is_reloaded(certified):
    """A renewed certificate is shown without a restart; one that is broken is not, the one before goes on."""
    chain, key = certified.certificate

    def shown():
        with Line(certified.smtp_port) as line:
            return line.hello().start_tls()

    first = shown()
    new_chain, new_key = make_certificate(certified.folder, "second")
    new_key.replace(key)
    new_chain.replace(chain)
    second = eventually(lambda: (c := shown()) != first and c, 10, "the new certificate")
    chain.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    log = certified.processes[-1]
    eventually(lambda: shown() == second and "cannot be used" in log.tail(400), 10, "the broken file was looked at")
    third_chain, third_key = make_certificate(certified.folder, "third")
    third_key.replace(key)
    third_chain.replace(chain)
    eventually(lambda: shown() not in (first, second), 10, "the third certificate")


@pytest.mark.parametrize("missing", ["COMMUNE_SMTP_TLS_CERT", "COMMUNE_SMTP_TLS_KEY"])
def test_half_a_certificate(platform, missing):
    """The start is refused, and says which half is missing."""
    chain, key = make_certificate(platform.folder, "half")
    settings = {"COMMUNE_SMTP_TLS_CERT": str(chain), "COMMUNE_SMTP_TLS_KEY": str(key), missing: None}
    inbound = platform.start("inbound", **settings)
    assert inbound.wait(30) == 78
    assert f"{missing} is needed" in inbound.tail()


def test_lmtp(platform):
    """LHLO, no EHLO, and after the final dot one reply for each recipient that was taken."""
    port = free_port()
    platform.start_api()
    inbound = platform.start_inbound(COMMUNE_LMTP_PORT=str(port))
    inbound.await_ready(lambda: answers(port))
    inboxes = [platform.inbox(), platform.inbox(key=platform.organization("lmtp"))]
    before = stored_mails(platform)
    with Line(port) as line:
        assert line.greeting.startswith("220 mail.interop.test LMTP")
        assert line.say("EHLO client").startswith("502")
        assert "PIPELINING" in line.say("LHLO client")
        assert line.say(f"MAIL FROM:<{OUTSIDER}>").startswith("250")
        assert line.say(f"RCPT TO:<nobody@{DOMAIN}>").startswith("550 5.1.1 ")
        assert line.say("DATA").startswith("503")
        for inbox in inboxes:
            assert line.say(f"RCPT TO:<{inbox['address']}>").startswith("250")
        assert line.say("DATA").startswith("354")
        line.send(content_of(inboxes[0]))
        assert [line.reply()[:3] for _ in inboxes] == ["250", "250"]
        assert line.say("QUIT").startswith("221")
    assert stored_mails(platform) == before + 2
    assert "with LMTP;" in last_mail(platform)["text"]


PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H4s4sHH", 12, bytes([203, 0, 113, 9]), bytes(4), 4321, 25)


@pytest.mark.parametrize("header", [b"PROXY TCP4 203.0.113.9 192.0.2.1 4321 25\r\n", PROXY_V2], ids=["v1", "v2"])
def test_proxy(platform, header):
    """A load balancer's word counts as the client's address."""
    platform.start_api()
    platform.start_inbound(COMMUNE_PROXY_FROM="127.0.0.0/8")
    inbox = platform.inbox()
    with Line(platform.smtp_port, first=header) as line:
        assert line.greeting.startswith("220")
        line.open_data(inbox["address"])
        line.send(content_of(inbox))
        assert line.reply().startswith("250")
    row = last_mail(platform)
    assert row["client_address"] == "203.0.113.9"
    assert "([203.0.113.9])" in row["text"]


def test_proxy_without_header(platform):
    """From a load balancer's network nobody is heard who is not announced."""
    platform.start_inbound(COMMUNE_PROXY_FROM="127.0.0.0/8")
    with Line(platform.smtp_port, first=b"EHLO client\r\n") as line:
        assert line.greeting == ""


def test_proxy_from_elsewhere(platform):
    """Whoever is no load balancer of ours cannot choose an address."""
    platform.start_inbound(COMMUNE_PROXY_FROM="192.0.2.0/24")
    with Line(platform.smtp_port) as line:
        assert line.greeting.startswith("220")
        assert line.say("PROXY TCP4 203.0.113.9 192.0.2.1 4321 25").startswith("500")


@pytest.mark.parametrize("proxied", [False, True])
def test_early_talkers(platform, proxied):
    """Who talks before the greeting hears that, and nothing it said is obeyed."""
    platform.start_inbound(
        COMMUNE_PROXY_FROM="127.0.0.0/8" if proxied else None, COMMUNE_SMTP_GREETING_DELAY_MS="1000"
    )
    header = PROXY_V2 if proxied else b""
    with Line(platform.smtp_port, first=header + b"EHLO client\r\nNOOP\r\n") as line:
        assert line.greeting.startswith("554 5.5.1 ")
        assert line.remainder() == b""
    with Line(platform.smtp_port, first=header) as line:
        assert line.greeting.startswith("220")
        assert line.say("NOOP").startswith("250")


@pytest.mark.parametrize(
    "verb", ["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "CONNECT", "PATCH", "TRACE", "PRI"]
)
def test_http_verbs(platform, verb):
    """Each is answered 554 and ends the connection."""
    platform.start_inbound()
    with Line(platform.smtp_port) as line:
        line.send(f"{verb} / HTTP/1.1\r\nHost: mail.interop.test\r\n\r\n".encode())
        assert line.reply().startswith("554 5.5.1 ")
        assert line.remainder() == b""


def test_pipelining(platform):
    """A group is answered in order; what stands behind a command that ends a group was written blindly: refused."""
    platform.start_api()
    platform.start_inbound()
    inbox = platform.inbox()
    group = f"MAIL FROM:<{OUTSIDER}>\r\nRCPT TO:<{inbox['address']}>\r\nRCPT TO:<nobody@{DOMAIN}>\r\nDATA\r\n".encode()
    with Line(platform.smtp_port) as line:
        line.hello().send(group)
        assert [line.reply()[:3] for _ in range(4)] == ["250", "250", "550", "354"]
        line.send(content_of(inbox))
        assert line.reply().startswith("250")
        line.send(b"NOOP\r\nRSET\r\n")
        assert [line.reply()[:3] for _ in range(2)] == ["503", "250"]
    for first in (b"EHLO client\r\n", group):
        with Line(platform.smtp_port) as line:
            line.hello().send(first + b"RSET\r\n")
            replies = [line.reply() for _ in range(first.count(b"\r\n"))]
            assert replies[-1].startswith("503 5.5.0 "), replies
            assert line.remainder() == b""


def test_client_that_hangs_up(platform):
    """Whoever goes away in the middle of anything leaves the server as it was."""
    platform.start_api()
    inbound = platform.start_inbound()
    inbox = platform.inbox()

    def hang_up(data):
        with socket.create_connection(("127.0.0.1", platform.smtp_port), 10) as connection:
            # A reset, not an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.recv(100)
            connection.sendall(data)

    steps = [b"EHLO x\r\n", f"MAIL FROM:<{OUTSIDER}>\r\n".encode(), f"RCPT TO:<{inbox['address']}>\r\n".encode()]
    data = b"".join(steps) + b"DATA\r\nSubject: x\r\n\r\n" + b"x" * 200_000
    threads = [threading.Thread(target=hang_up, args=(data[:end],)) for end in (0, 5, 8, 60, 90, 120, 1000, len(data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Line(platform.smtp_port) as line:
        line.open_data(inbox["address"])
        line.send(content_of(inbox))
        assert line.reply().startswith("250")
    assert inbound.is_running
