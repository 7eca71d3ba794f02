"""Attachments in S3, on SeaweedFS, which checks every signature that we make."""

import email
import re
import urllib.error
import urllib.parse
import urllib.request
from email import policy

import pytest

from polling import eventually
from s3_server import BUCKET, S3Server
from test_attachments import MIB, content_of, download, post, refusal, upload, upload_raw


@pytest.fixture(scope="module")
def s3(installation):
    server = S3Server(installation.folder)
    yield server
    server.kill()


@pytest.fixture
def platform(platform, s3):
    """The installation, whose programs keep attachments in S3, and whose bucket is reachable."""
    if not s3.process.is_running:
        s3.start()
    platform.database.query("TRUNCATE attachments, blobs, blob_chunks")
    return platform


def states(platform):
    rows = platform.database.query("SELECT state, storage, count(*) AS n FROM blobs GROUP BY 1, 2")
    return {(row["state"], row["storage"]): row["n"] for row in rows}


def test_uploaded_linked_and_sent(platform, s3, sink):
    """In the bucket and not in the database; by a presigned link as it was; and on a message."""
    platform.start_api(**s3.environment())
    platform.start_worker(**s3.environment())
    before = set(s3.objects())
    content = content_of(3 * MIB + 7)
    name = 'Grüße "1" & 2+3 – 100%.pdf'
    attachment = upload(platform, content, name, "application/pdf")
    assert platform.get(f"/v1/attachments/{attachment}")["storage_type"] == "s3"
    assert platform.database.query("SELECT count(*) AS n FROM blob_chunks")[0]["n"] == 0
    (key,) = set(s3.objects()) - before
    row = platform.database.query("SELECT org_id, id FROM blobs")[0]
    assert key == f"blobs/{row['org_id']}/{row['id']}"

    link = platform.get(f"/v1/attachments/{attachment}/url?expires_in=600")
    assert link["url"].startswith(f"{s3.endpoint}/{BUCKET}/blobs/")
    body, headers = download(link["url"])
    assert body == content
    assert headers["Content-Type"] == "application/pdf"
    assert urllib.parse.quote("Grüße") in headers["Content-Disposition"]
    # The server does check.
    assert refusal(link["url"].replace("X-Amz-Expires=600", "X-Amz-Expires=6000")) == 403
    assert refusal(link["url"].split("?")[0]) == 403
    short = platform.get(f"/v1/attachments/{attachment}/url?expires_in=1")
    eventually(lambda: refusal(short["url"]) == 403, 10, "the presigned link to expire")

    platform.send(platform.inbox(), "s3@sink.test", attachments=[attachment])
    platform.await_delivered(["s3@sink.test"])
    message = email.message_from_bytes(sink.of("s3@sink.test")[0].content, policy=policy.default)
    (part,) = message.iter_attachments()
    assert part.get_payload(decode=True) == content
    platform.assert_settled()


def test_the_largest_upload(platform, s3):
    """25 MiB stream from the spool into the bucket."""
    platform.start_api(**s3.environment())
    content = content_of(25 * MIB)
    attachment = upload_raw(platform, content)
    assert download(platform.get(f"/v1/attachments/{attachment}/url")["url"])[0] == content


def test_blobs_of_both_storages(platform, s3):
    """What was stored before the bucket was configured stays where it is and readable."""
    first = platform.start_api()
    old = upload(platform, b"in the database")
    first.stop()
    platform.start_api(**s3.environment())
    new = upload(platform, b"in the bucket")
    kinds = [platform.get(f"/v1/attachments/{a}")["storage_type"] for a in (old, new)]
    assert kinds == ["database", "s3"]
    for attachment, content in ((old, b"in the database"), (new, b"in the bucket")):
        assert download(platform.get(f"/v1/attachments/{attachment}/url")["url"])[0] == content


def test_the_bucket_is_away(platform, s3):
    """503 and nothing left but a row that the sweep takes; then all is as before."""
    platform.start_api(**s3.environment())
    s3.kill()
    status, answer = post(platform, "/v1/attachments/upload", b"bytes", {"X-Filename": "f"})
    assert status == 503, answer
    assert platform.database.query("SELECT id FROM attachments") == []
    assert states(platform) == {("removing", "s3"): 1}
    s3.start()
    platform.start_worker(**s3.environment())
    eventually(lambda: states(platform) == {}, 60, "the sweep")
    assert upload_raw(platform, b"bytes")


def test_a_wrong_secret(platform, s3):
    """The storage refuses us: the caller hears 503, and the log has the storage's own word."""
    api = platform.start_api(**s3.environment(COMMUNE_S3_SECRET_ACCESS_KEY="wrong"))
    assert post(platform, "/v1/attachments/upload", b"bytes", {"X-Filename": "f"})[0] == 503
    assert re.search(r"S3 answered PUT with 403 SignatureDoesNotMatch", api.log.read_text())


def test_an_object_without_its_transaction(platform, s3):
    """Killed between the object and the commit: the row tells of the object, and after an hour both are removed."""
    platform.start_api(**s3.environment())
    before = set(s3.objects())
    attachment = upload_raw(platform, b"orphan")
    # The state that a kill leaves behind: the object, its pending row, and no attachment.
    platform.database.query("DELETE FROM attachments")
    platform.database.query("UPDATE blobs SET state = 'pending', created_at = now() - interval '50 minutes'")
    (orphan,) = set(s3.objects()) - before
    young = platform.database.query("SELECT id FROM blobs")[0]["id"]
    kept = upload_raw(platform, b"kept")
    # A worker sweeps when it starts, and then every half minute.
    worker = platform.start_worker(**s3.environment())
    eventually(lambda: platform.database.query("SELECT name FROM chores WHERE name = 'sweep-blobs'"), 20, "a sweep")
    worker.stop()
    assert orphan in s3.objects(), "an upload may still be under way"
    platform.database.query("UPDATE blobs SET created_at = now() - interval '61 minutes' WHERE id = %s", young)
    platform.database.query("DELETE FROM chores")
    platform.start_worker(**s3.environment())
    eventually(lambda: orphan not in s3.objects(), 60, "the orphan to be removed")
    eventually(lambda: states(platform) == {("stored", "s3"): 1}, 10, "its row to be removed")
    assert download(platform.get(f"/v1/attachments/{kept}/url")["url"])[0] == b"kept"
    assert platform.call("GET", f"/v1/attachments/{attachment}").status == 404
