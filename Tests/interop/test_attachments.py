"""Attachments through real programs: uploaded, sent, received, downloaded; bit by bit, and within their bounds."""

import base64
import email
import hashlib
import http.client
import json
import os
import re
import shutil
import smtplib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from email import policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from platform_under_test import DOMAIN, programs
from polling import eventually
from processes import Process

MIB = 1 << 20
API_MEMORY_MAX = 200 * MIB


def content_of(size, seed=b"commune"):
    """Bytes that look like nothing in particular, the same for the same seed."""
    block = hashlib.shake_256(seed).digest(min(size, MIB))
    return (block * (size // max(1, len(block)) + 1))[:size]


def post(platform, path, body, headers=None, timeout=120):
    """One POST of bytes; (status, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", platform.api_port, timeout=timeout)
    try:
        connection.request("POST", path, body, {"Authorization": f"Bearer {platform.key}", **(headers or {})})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def upload(platform, content, name="file.bin", mime_type="application/octet-stream"):
    """Uploads as JSON; the id."""
    body = {"content": base64.b64encode(content).decode(), "filename": name, "mime_type": mime_type}
    status, answer = post(platform, "/v1/attachments/upload", json.dumps(body), {"Content-Type": "application/json"})
    assert status == 201, answer
    return answer["data"]["attachment_id"]


def upload_raw(platform, content, name="file.bin"):
    status, answer = post(platform, "/v1/attachments/upload", content, {"X-Filename": name})
    assert status == 201, answer
    return answer["data"]["attachment_id"]


def download(url):
    """What the link of an attachment gives to somebody without a key."""
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read(), response.headers


def peak_memory(process):
    """The most memory the process ever had resident, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def test_twenty_large_uploads_at_once(platform):
    """20 clients upload 25 MiB each at the same time, half as JSON: all are stored whole, in little memory."""
    api = platform.start_api()
    content = content_of(25 * MIB)
    encoded = json.dumps(
        {"content": base64.b64encode(content).decode(), "filename": "large.bin", "mime_type": "a/b"}
    ).encode()
    requests = [
        (encoded, {"Content-Type": "application/json"}) if number % 2 else (content, {"X-Filename": "large.bin"})
        for number in range(20)
    ]
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda r: post(platform, "/v1/attachments/upload", *r, timeout=300), requests))
    took = time.monotonic() - began
    peak = peak_memory(api)
    print(f"20 uploads of 25 MiB in {took:.1f} s, peak of the API {peak / MIB:.0f} MiB")
    assert [status for status, _ in answers] == [201] * 20
    assert peak < API_MEMORY_MAX, f"{peak / MIB:.0f} MiB"

    digest = hashlib.sha256(content).digest()
    rows = platform.database.query("SELECT sha256, size_bytes FROM attachments")
    assert [(bytes(r["sha256"]), r["size_bytes"]) for r in rows] == [(digest, len(content))] * 20

    # And out again, slowly or not: the API holds a chunk at a time.
    def fetch(answer):
        link = platform.get(f"/v1/attachments/{answer['data']['attachment_id']}/url")
        return hashlib.sha256(download(link["url"])[0]).digest()

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(fetch, [answer for _, answer in answers])) == {digest}
    assert peak_memory(api) < API_MEMORY_MAX


def start_upload(platform, length):
    """A client that has sent the head of a raw upload and half a MiB of it, and goes on holding it open."""
    client = socket.create_connection(("127.0.0.1", platform.api_port), timeout=30)
    client.sendall(
        f"POST /v1/attachments/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {platform.key}\r\n"
        f"X-Filename: slow.bin\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    client.sendall(content_of(MIB // 2))
    return client


def spool_files(process, folder):
    """The temporary files that a process has open."""
    links = []
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            links.append(os.readlink(descriptor))
        except FileNotFoundError:
            continue  # closed meanwhile
    return [link for link in links if link.startswith(str(folder))]


def test_slow_clients_hold_no_connection_and_leave_no_file(platform):
    """Many uploads under way over one database connection, which everybody else uses; `kill -9` leaves no file."""
    spool = platform.folder / "spool"
    spool.mkdir(exist_ok=True)
    api = platform.start_api(COMMUNE_DB_CONNECTIONS="1", COMMUNE_SPOOL=str(spool))
    clients = [start_upload(platform, MIB) for _ in range(30)]
    try:
        eventually(lambda: len(spool_files(api, spool)) == 30, 20, "30 uploads being spooled")
        inbox = platform.inbox()
        assert platform.get(f"/v1/inboxes/{inbox['id']}")["id"] == inbox["id"]
        assert list(spool.iterdir()) == [], "spooled files have no name"
        # One of them ends well after all.
        clients[0].sendall(content_of(MIB // 2))
        answer = clients[0].recv(65536)
        assert b" 201 " in answer.splitlines()[0], answer
        api.kill()
        assert list(spool.iterdir()) == []
    finally:
        for client in clients:
            client.close()
    assert len(platform.database.query("SELECT id FROM attachments WHERE filename = 'slow.bin'")) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk(platform):
    """No room for temporary files: 503 and a sentence, nothing stored, and the API goes on."""
    spool = platform.folder / "small"
    spool.mkdir()
    script = 'mount -t tmpfs -o size=2m none "$1" && exec "$2"'
    api = Process(
        "commune-api on a small disk",
        ["unshare", "--mount", "sh", "-c", script, "sh", spool, programs() / "commune-api"],
        platform.folder / "small-disk.log",
        platform.environment(COMMUNE_SPOOL=str(spool)),
    )
    platform.processes.append(api)
    api.await_ready(lambda: platform.status("/readyz") == 200)
    before = platform.database.query("SELECT count(*) AS n FROM blobs")
    status, answer = post(platform, "/v1/attachments/upload", content_of(5 * MIB), {"X-Filename": "a.bin"})
    assert status == 503, answer
    assert answer["error"]
    assert platform.database.query("SELECT count(*) AS n FROM blobs") == before
    eventually(lambda: "disk for temporary files is full" in api.log.read_text(), 5, "the log says why")
    assert upload_raw(platform, content_of(MIB))


def test_wrong_uploads(platform):
    """Broken base64, too much, nothing at all: the right error, also while the body still comes."""
    platform.start_api()
    kind = {"Content-Type": "application/json"}
    path = "/v1/attachments/upload"

    def body(content):
        return json.dumps({"content": content, "filename": "f", "mime_type": "a/b"})

    for content in ("", "A", "AA", "AAA=A", "%%%%", "AAAA\nAAAA", "AA-_"):
        status, answer = post(platform, path, body(content), kind)
        assert (status, answer["details"][0]["path"]) == (400, "content"), content
    large = base64.b64encode(bytes(25 * MIB + 1)).decode()
    assert post(platform, path, body(large), kind)[0] == 413
    assert post(platform, path, b" " * (34 * MIB + 1), kind)[0] == 413
    assert post(platform, path, bytes(25 * MIB + 1), {"X-Filename": "f"})[0] == 413
    # Without a length, in chunks.
    pieces = (bytes(MIB) for _ in range(30))
    try:
        status, _ = post(platform, path, pieces, {"X-Filename": "f"})
        assert status == 413
    except ConnectionError:
        pytest.fail("the connection was cut where an answer was due")
    assert post(platform, path, b"", {"X-Filename": "f"})[0] == 400
    assert platform.database.query("SELECT count(*) AS n FROM attachments WHERE filename = 'f'")[0]["n"] == 0


def test_links_expire(platform):
    platform.start_api()
    attachment = upload(platform, b"short-lived")
    link = platform.get(f"/v1/attachments/{attachment}/url?expires_in=1")
    # The second has to pass.
    eventually(lambda: refusal(link["url"]) == 410, 5, "the link to expire")
    assert refusal(re.sub(r"expires=\d+", "expires=99999999999", link["url"])) == 404
    assert refusal(link["url"].split("?")[0]) == 404


def refusal(url):
    """The status of a GET without a key."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


FILES = {
    "empty-ish.bin": ("application/octet-stream", b"\x00"),
    "all bytes.bin": ("application/octet-stream", bytes(range(256)) * 500),
    "Grüße 🚀 – Bericht.pdf": ("application/pdf", content_of(100_000)),
    "lines.txt": ("text/plain; charset=utf-8", "Ä\r\nB\nC\r.\r\n.\r\nFrom \r\n".encode() * 50),
    "mail.eml": ("message/rfc822", b"Subject: inner\r\n\r\nText\r\n"),
    ("x" * 120) + ".png": ("image/png", content_of(77_777)),
}


def test_arrive_as_they_were_uploaded(platform, sink):
    """Several files on one message, sent through the worker: Python's parser reads each bit for bit."""
    platform.start_api()
    platform.start_worker()
    ids = [upload(platform, content, name, kind) for name, (kind, content) in FILES.items()]
    platform.send(platform.inbox(), "files@sink.test", text="See the files.", html="<p>See</p>", attachments=ids)
    platform.await_delivered(["files@sink.test"])
    (delivery,) = sink.of("files@sink.test")
    assert delivery.content.isascii()
    assert max(map(len, delivery.content.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(delivery.content, policy=policy.default)
    assert message.get_content_type() == "multipart/mixed"
    assert message.get_body(("plain",)).get_content().strip() == "See the files."
    parts = list(message.iter_attachments())
    assert [part.get_filename() for part in parts] == list(FILES)
    for part, (kind, content) in zip(parts, FILES.values(), strict=True):
        assert part.get_content_disposition() == "attachment"
        assert part.get_payload(decode=True) == content, part.get_filename()
        # A message may not be in base64 (RFC 2045), so it goes as plain bytes.
        expected = "application/octet-stream" if kind == "message/rfc822" else kind.split(";")[0]
        assert part.get_content_type() == expected
    platform.assert_settled()


def test_inline_by_content_id(platform, sink):
    """An upload with a content_id stands inside the HTML and not beside it."""
    platform.start_api()
    platform.start_worker()
    body = {"content": base64.b64encode(b"\x89PNG").decode(), "filename": "logo.png", "mime_type": "image/png"}
    status, answer = post(
        platform, "/v1/attachments/upload", json.dumps({**body, "content_id": "logo@acme"}), {}
    )
    assert status == 201, answer
    platform.send(
        platform.inbox(), "inline@sink.test", html='<img src="cid:logo@acme">', attachments=[answer["data"]["attachment_id"]]
    )
    platform.await_delivered(["inline@sink.test"])
    message = email.message_from_bytes(sink.of("inline@sink.test")[0].content, policy=policy.default)
    (related,) = [part for part in message.walk() if part.get_content_type() == "multipart/related"]
    page, picture = related.iter_parts()
    assert "cid:logo@acme" in page.get_content()
    assert picture["Content-ID"] == "<logo@acme>"
    assert picture.get_content_disposition() == "inline"
    assert picture.get_content() == b"\x89PNG"


def test_the_largest_message(platform, sink):
    """25 MiB arrive whole at several domains, and the worker holds what it may and not more."""
    platform.start_api()
    # The usual lease: a debug build composes for seconds, and a lease of two would run out meanwhile.
    worker = platform.start_worker(COMMUNE_LEASE_SECONDS="30")
    content = content_of(25 * MIB)
    attachment = upload_raw(platform, content, "large.bin")
    addresses = [f"large@sink{number}.test" for number in range(4)]
    platform.send(platform.inbox(), addresses, attachments=[attachment])
    platform.await_delivered(addresses, within=240)
    print(f"peak of the worker {peak_memory(worker) / MIB:.0f} MiB")
    for address in addresses:
        (delivery,) = sink.of(address)
        message = email.message_from_bytes(delivery.content, policy=policy.default)
        (part,) = message.iter_attachments()
        assert part.get_payload(decode=True) == content
    assert peak_memory(worker) < 600 * MIB
    platform.assert_settled()


def test_received_files(platform):
    """A mail with files over SMTP: listed with the message, and each downloads as it was."""
    platform.start_api()
    platform.start_inbound()
    platform.start_worker()
    inbox = platform.inbox()
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "outside@elsewhere.test", inbox["address"], "Files"
    mail["Message-ID"] = f"<{os.urandom(8).hex()}@elsewhere.test>"
    mail.set_content("Here they are.")
    mail.add_alternative('<p>Here <img src="cid:pic@x"></p>', subtype="html")
    mail.add_attachment(content_of(300_000), maintype="application", subtype="pdf", filename="Größe.pdf")
    mail.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="../../evil.png", cid="<pic@x>")
    with smtplib.SMTP("127.0.0.1", platform.smtp_port, timeout=20) as client:
        client.sendmail("outside@elsewhere.test", [inbox["address"]], mail.as_bytes(policy=policy.SMTP))
    message = eventually(
        lambda: (platform.get(f"/v1/messages?inbox_id={inbox['id']}") or [None])[0], 20, "the mail to show"
    )
    assert len(message["attachments"]) == 2
    expected = {"Größe.pdf": content_of(300_000), "evil.png": b"\x89PNG"}
    for attachment in message["attachments"]:
        data = platform.get(f"/v1/attachments/{attachment}")
        assert data["source"] == "email"
        assert data["message_id"] == message["message_id"]
        body, headers = download(platform.get(f"/v1/attachments/{attachment}/url")["url"])
        assert body == expected.pop(data["filename"])
        assert headers["Content-Disposition"].startswith("attachment; ")
    assert not expected
    assert platform.get(f"/v1/threads?inbox_id={inbox['id']}")[0]["has_attachments"] is True
    platform.assert_settled()
