"""The published SDK and command line work against this server as they are published."""

import base64

import httpx
import pytest
from commune.exceptions import AuthenticationError, NotFoundError, ValidationError

from platform_under_test import DOMAIN
from polling import eventually
from published_clients import SDK


def conversation(client, name):
    """Two inboxes and a message between them: (sender, receiver, the receiver's thread)."""
    sender = client.inboxes.create(local_part=f"{name}-sender")
    receiver = client.inboxes.create(local_part=f"{name}-receiver", name="The Receiver")
    sent = client.messages.send(to=receiver.address, subject="Hello", text="It works.", inbox_id=sender.id)
    assert sent.id == sent.message_id and sent.status == "queued"
    threads = eventually(
        lambda: client.threads.list(inbox_id=receiver.id).data, 20, lambda: "the mail to arrive"
    )
    return sender, receiver, threads[0]


def test_sdk_inboxes(sdk):
    made = sdk.client.inboxes.create(local_part="support", name="Support")
    assert made.address == f"support@{DOMAIN}"
    assert made.display_name == "Support"
    assert made.domain_name == DOMAIN
    listed = {inbox.id: inbox for inbox in sdk.client.inboxes.list()}
    assert listed[made.id].local_part == "support"
    assert listed[made.id].created_at


def test_sdk_attachments(sdk):
    """Uploaded, described, downloaded by its link, sent, and received by another inbox as it was."""
    client = sdk.client
    content = bytes(range(256)) * 300
    upload = client.attachments.upload(
        content=base64.b64encode(content).decode(), filename="Größe.pdf", mime_type="application/pdf"
    )
    assert (upload.filename, upload.mime_type, upload.size) == ("Größe.pdf", "application/pdf", len(content))
    known = client.attachments.get(upload.attachment_id)
    assert (known.source, known.storage_type, known.message_id) == ("upload", "database", "")
    sender = client.inboxes.create(local_part="files-sender")
    receiver = client.inboxes.create(local_part="files-receiver")
    sent = client.messages.send(
        to=receiver.address, subject="File", text="See it.", inbox_id=sender.id, attachments=[upload.attachment_id]
    )
    assert client.attachments.get(upload.attachment_id).message_id == sent.id
    (message,) = eventually(
        lambda: client.messages.list(inbox_id=receiver.id), 20, lambda: "the mail with its file"
    )
    (attachment,) = message.attachments
    link = client.attachments.url(attachment, expires_in=60)
    assert (link.filename, link.mime_type, link.expires_in) == ("Größe.pdf", "application/pdf", 60)
    assert httpx.get(link.url).content == content
    assert client.attachments.get(attachment).source == "email"
    with pytest.raises(NotFoundError):
        client.attachments.get("0" * 32)


def test_sdk_async_attachments(sdk):
    async def run(client):
        upload = await client.attachments.upload(content="aGVsbG8=", filename="a.txt", mime_type="text/plain")
        return upload, await client.attachments.url(upload.attachment_id)

    upload, link = sdk.async_calls(run)
    assert upload.size == 5
    assert httpx.get(link.url).content == b"hello"


def test_cli_attachments(cli, running):
    """The command line sends raw bytes under `X-Filename`, without a type."""
    path = running.folder / "Zahlen.csv"
    path.write_bytes(b"a,b\r\n1,2\r\n")
    made = cli.json("attachments", "upload", str(path), "--json")["data"]
    assert (made["filename"], made["mime_type"], made["size"]) == ("Zahlen.csv", "text/csv", 10)
    known = cli.json("attachments", "get", made["attachment_id"], "--json")
    assert known.get("data", known)["filename"] == "Zahlen.csv"
    link = cli.json("attachments", "url", made["attachment_id"], "--expires-in", "60", "--json")
    assert httpx.get(link.get("data", link)["url"]).content == path.read_bytes()


def test_sdk_conversation(sdk):
    client = sdk.client
    sender, receiver, thread = conversation(client, "sync")
    assert thread.subject == "Hello"
    assert thread.last_direction == "inbound"
    assert thread.message_count == 1
    (message,) = client.threads.messages(thread.thread_id)
    assert message.content.strip() == "It works."
    assert message.metadata.inbox_id == receiver.id
    answer = client.messages.send(
        to=sender.address, subject="Re: Hello", text="It does.", inbox_id=receiver.id, thread_id=thread.thread_id
    )
    assert answer.thread_id == thread.thread_id
    # The answer comes home to the thread that it answers.
    (home,) = client.threads.list(inbox_id=sender.id).data
    eventually(
        lambda: [m.direction for m in client.threads.messages(home.thread_id)] == ["outbound", "inbound"],
        20,
        lambda: "the answer in the sender's thread",
    )
    by_sender = client.messages.list(sender=sender.address, inbox_id=receiver.id)
    assert [m.message_id for m in by_sender] == [message.message_id]


def test_sdk_pages(sdk):
    client = sdk.client
    inbox = client.inboxes.create(local_part="pages")
    for number in range(7):
        client.messages.send(to="pages@elsewhere.test", subject=f"{number}", text="x", inbox_id=inbox.id)
    seen, cursor = [], None
    while True:
        page = client.threads.list(inbox_id=inbox.id, limit=3, cursor=cursor)
        seen += [thread.subject for thread in page.data]
        if not page.has_more:
            break
        cursor = page.next_cursor
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]
    oldest = client.messages.list(inbox_id=inbox.id, limit=2, order="asc")
    assert [m.metadata.subject for m in oldest] == ["0", "1"]


def test_sdk_errors(running, sdk):
    with pytest.raises(NotFoundError):
        sdk.client.threads.messages("thread_00000000-0000-0000-0000-000000000000")
    with pytest.raises(ValidationError, match="subject"):
        sdk.client.messages.send(to="a@b.test", subject="x" * 501, text="x", inbox_id="none")
    stranger = SDK(running, key="comm_" + "0" * 64)
    with pytest.raises(AuthenticationError):
        stranger.client.inboxes.list()
    stranger.close()


def test_async_sdk(sdk):
    async def body(client):
        inbox = await client.inboxes.create(local_part="async")
        sent = await client.messages.send(to="a@elsewhere.test", subject="Async", text="x", inbox_id=inbox.id)
        threads = await client.threads.list(inbox_id=inbox.id)
        messages = await client.threads.messages(sent.thread_id)
        return inbox, sent, threads.data, messages, await client.messages.list(inbox_id=inbox.id)

    inbox, sent, threads, messages, listed = sdk.async_calls(body)
    assert [t.thread_id for t in threads] == [sent.thread_id]
    assert [m.message_id for m in messages] == [sent.id] == [m.message_id for m in listed]
    assert messages[0].metadata.inbox_id == inbox.id


def test_command_line_mail(cli):
    inbox = cli.json("inboxes", "create", "--local-part", "cli")["data"]
    assert inbox["address"] == f"cli@{DOMAIN}"
    assert inbox["id"] in [one["id"] for one in cli.json("inboxes", "list")["data"]]
    assert cli.json("inboxes", "get", inbox["id"])["data"]["localPart"] == "cli"
    sent = cli.json(
        "messages", "send", "--to", "a@elsewhere.test", "--subject", "Hi", "--text", "x", "--inbox-id", inbox["id"]
    )["data"]
    threads = cli.json("threads", "list", "--inbox-id", inbox["id"])["data"]
    assert [t["thread_id"] for t in threads] == [sent["thread_id"]]
    assert len(cli.json("threads", "messages", sent["thread_id"])["data"]) == 1
    assert len(cli.json("messages", "list", "--inbox-id", inbox["id"])["data"]) == 1


def test_command_line_keys(running, cli):
    status = cli.json("config", "status", "--json")
    assert (status["org_name"], status["status"]) == ("interop", "active")
    made = running.call("POST", "/v1/agent/api-keys", {"name": "by hand", "scopes": ["read"]}).data
    keys = cli.json("config", "keys", "list", "--json")["data"]
    assert {"by hand"} <= {key["name"] for key in keys}
    assert all(key["keyPrefix"] and key["status"] and key["createdAt"] for key in keys)
    assert running.call("GET", "/v1/inboxes", key=made["key"]).status == 200
    assert cli.json("config", "keys", "revoke", made["id"], "--json")["data"]["status"] == "revoked"
    assert running.call("GET", "/v1/inboxes", key=made["key"]).status == 401


def test_sdk_search_and_delivery(sdk):
    client = sdk.client
    sender, receiver, thread = conversation(client, "search")
    (found,) = client.search.threads("works", inbox_id=receiver.id)
    assert found.thread_id == thread.thread_id
    assert (found.subject, found.message_count) == ("Hello", 1)
    assert found.last_activity == thread.last_message_at
    assert client.search.threads("nowhere", domain_id=receiver.domain_id) == []
    metrics = eventually(
        lambda: (m := client.delivery.metrics(inbox_id=sender.id, period="24h")).delivered and m, 20, lambda: "a delivery"
    )
    assert (metrics.sent, metrics.delivered, metrics.bounced, metrics.period) == (1, 1, 0, "24h")
    assert (metrics.delivery_rate, metrics.bounce_rate, metrics.complaint_rate) == (100, 0, 0)
    events = client.delivery.events(inbox_id=sender.id)
    assert [event.event_type for event in events] == ["delivered", "sent"]
    assert events[0].recipient == receiver.address and events[0].event_id and events[0].timestamp
    message_id = events[0].message_id
    assert len(client.delivery.events(message_id=message_id, event_type="delivered")) == 1
    assert client.delivery.suppressions(inbox_id=sender.id) == []


def test_async_sdk_search_and_delivery(sdk):
    async def body(client):
        inbox = await client.inboxes.create(local_part="async-search")
        await client.messages.send(to="a@elsewhere.test", subject="Sought", text="needle", inbox_id=inbox.id)
        found = await client.search.threads("needle", inbox_id=inbox.id)
        return found, await client.delivery.metrics(inbox_id=inbox.id), await client.delivery.suppressions()

    found, metrics, _ = sdk.async_calls(body)
    assert [one.subject for one in found] == ["Sought"]
    assert metrics.period == "7d"


def test_command_line_triage(cli):
    inbox = cli.json("inboxes", "create", "--local-part", "triage")["data"]
    thread = cli.json(
        "messages", "send", "--to", "a@elsewhere.test", "--subject", "Triage", "--text", "x", "--inbox-id", inbox["id"]
    )["data"]["thread_id"]
    assert cli.json("threads", "set-status", thread, "needs_reply")["data"]["status"] == "needs_reply"
    assert cli.json("threads", "assign", thread, "--to", "anna")["data"]["assigned_to"] == "anna"
    assert cli.json("threads", "assign", thread)["data"]["assigned_to"] is None
    assert cli.json("threads", "tags", "add", thread, "a", "b")["data"]["tags"] == ["a", "b"]
    assert cli.json("threads", "tags", "remove", thread, "a")["data"]["tags"] == ["b"]
    metadata = cli.json("threads", "metadata", thread)["data"]
    assert (metadata["status"], metadata["tags"]) == ("needs_reply", ["b"])
    assert metadata["participants"] == [inbox["address"], "a@elsewhere.test"]
    found = cli.json("search", "threads", "triage", "--inbox-id", inbox["id"])["data"]
    assert [one["thread_id"] for one in found] == [thread]


def test_command_line_delivery(running, cli):
    inbox = cli.json("inboxes", "create", "--local-part", "delivery")["data"]
    metrics = cli.json("delivery", "metrics", "--inbox-id", inbox["id"], "--period", "30d")["data"]
    assert metrics["sent"] == 0 and metrics["bounce_rate"] is None
    assert cli.json("delivery", "events", "--inbox-id", inbox["id"])["data"] == []
    assert running.call("POST", "/v1/delivery/suppressions", {"email": "Gone@elsewhere.test"}).status == 201
    listed = cli.json("delivery", "suppressions", "--limit", "1")
    assert [one["email"] for one in listed["data"]] == ["gone@elsewhere.test"]
    # `check` says by its status whether an address may be written to.
    checked = cli.run("delivery", "check", "gone@elsewhere.test", "--inbox-id", inbox["id"])
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert cli.run("delivery", "check", "there@elsewhere.test").returncode == 0


def test_command_line_out_of_scope(cli):
    for arguments in [("credits", "balance"), ("phone-numbers", "list"), ("threads", "contacts")]:
        result = cli.run(*arguments)
        assert result.returncode != 0
        assert "no such route" in (result.stdout + result.stderr).lower()
