"""What the published clients read and sort: messages and threads by every filter, triage, search, delivery, limited keys."""

import pytest
from commune.exceptions import AuthenticationError, NotFoundError, PermissionDeniedError, ValidationError

from polling import eventually
from published_clients import SDK, CommandLine


@pytest.fixture(scope="module")
def mailbox(sdk):
    """An inbox from which five messages were sent, one after the other; and what the send answered."""
    inbox = sdk.client.inboxes.create(local_part="mailbox")
    sent = [
        sdk.client.messages.send(to="a@elsewhere.test", subject=f"Number {n}", text=f"body {n}", inbox_id=inbox.id)
        for n in range(5)
    ]
    return inbox, sent


def test_sdk_send_with_everything(sdk, running):
    client = sdk.client
    inbox = client.inboxes.create(local_part="everything")
    sent = client.messages.send(
        to=["a@elsewhere.test", "b@elsewhere.test"],
        cc=["c@elsewhere.test"],
        bcc=["d@elsewhere.test"],
        subject="Everything",
        html="<p>Hello</p>",
        text="Hello",
        reply_to="replies@elsewhere.test",
        headers={"X-Campaign": "seven"},
        inbox_id=inbox.id,
    )
    (message,) = client.threads.messages(sent.thread_id)
    roles = [(one.role, one.identity) for one in message.participants]
    assert roles[0] == ("sender", inbox.address)
    assert ("cc", "c@elsewhere.test") in roles and ("bcc", "d@elsewhere.test") in roles
    assert (message.content, message.content_html) == ("Hello", "<p>Hello</p>")
    left = eventually(lambda: running.sink.deliveries, 20, lambda: "the mail to leave")[0].content.decode()
    assert "X-Campaign: seven" in left and "replies@elsewhere.test" in left and "d@elsewhere.test" not in left
    story = eventually(
        lambda: (m := running.get(f"/v1/messages/{sent.id}"))
        and {r["state"] for r in m["recipients"]} == {"delivered"}
        and m,
        20,
        lambda: "the delivery to all four",
    )
    assert {r["role"] for r in story["recipients"]} == {"to", "cc", "bcc"}
    with pytest.raises(PermissionDeniedError):
        client.messages.send(to="a@b.test", subject="s", text="t", from_address="nobody@elsewhere.test")
    with pytest.raises(ValidationError):
        client.messages.send(to="a@b.test", subject="s", text="t", inbox_id=inbox.id, headers={"From": "x@y.test"})
    with pytest.raises(NotFoundError):
        client.messages.send(to="a@b.test", subject="s", text="t", inbox_id=inbox.id, attachments=["0" * 32])


def filters(inbox, sent, created):
    """Each set of filters and the subjects that it must find."""
    number = [f"Number {n}" for n in range(5)]
    return [
        ({"inbox_id": inbox.id}, number[::-1]),
        ({"inbox_id": inbox.id, "order": "asc"}, number),
        ({"domain_id": inbox.domain_id, "sender": inbox.address, "limit": 2}, [number[4], number[3]]),
        ({"sender": inbox.address, "order": "asc", "after": created[1]}, number[2:]),
        ({"inbox_id": inbox.id, "before": created[3]}, number[2::-1]),
        ({"inbox_id": inbox.id, "after": created[0], "before": created[4], "order": "asc"}, number[1:4]),
        ({"inbox_id": inbox.id, "sender": "nobody@elsewhere.test"}, []),
    ]


def test_messages_by_filters(sdk, cli, mailbox):
    inbox, sent = mailbox
    created = [message.created_at for message in sdk.client.messages.list(inbox_id=inbox.id, order="asc")]
    assert created == sorted(created) and len(set(created)) == 5
    for asked, subjects in filters(inbox, sent, created):
        found = sdk.client.messages.list(**asked)
        assert [message.metadata.subject for message in found] == subjects, asked

        async def body(client, asked=asked):
            return await client.messages.list(**asked)

        assert [m.message_id for m in sdk.async_calls(body)] == [m.message_id for m in found], asked
        options = [part for name, value in asked.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        listed = cli.json("messages", "list", *options)["data"]
        assert [m["message_id"] for m in listed] == [m.message_id for m in found], asked
    with pytest.raises(ValidationError):
        sdk.client.messages.list()
    assert cli.run("messages", "list").returncode == 1


def test_threads_page_by_page(sdk, cli, mailbox):
    inbox, sent = mailbox
    oldest_first = [one.thread_id for one in sent]
    for order, expected in (("asc", oldest_first), ("desc", oldest_first[::-1])):

        async def walk(client, order=order):
            seen, cursor = [], None
            while True:
                page = await client.threads.list(inbox_id=inbox.id, limit=2, order=order, cursor=cursor)
                seen += [thread.thread_id for thread in page.data]
                if not page.has_more:
                    return seen
                cursor = page.next_cursor

        assert sdk.async_calls(walk) == expected
        seen, more = [], ()
        while True:
            page = cli.json("threads", "list", "--inbox-id", inbox.id, "--order", order, "--limit", "2", *more)
            seen += [thread["thread_id"] for thread in page["data"]]
            if not page["has_more"]:
                break
            more = ("--cursor", page["next_cursor"])
        assert seen == expected
    assert oldest_first[0] in [t.thread_id for t in sdk.client.threads.list(domain_id=inbox.domain_id, limit=100).data]
    with pytest.raises(ValidationError, match="cursor"):
        sdk.client.threads.list(inbox_id=inbox.id, cursor="not-ours")


def test_a_reply_by_the_command_line(sdk, cli):
    """The thread's messages in both orders, after an answer that goes home."""
    one, two = (sdk.client.inboxes.create(local_part=f"reply-{name}") for name in ("one", "two"))
    first = cli.json(
        "messages", "send", "--to", two.address, "--subject", "Question", "--text", "?", "--inbox-id", one.id
    )["data"]
    (thread,) = eventually(lambda: sdk.client.threads.list(inbox_id=two.id).data, 20, lambda: "the question")
    cli.json(
        "messages", "send", "--to", one.address, "--subject", "Re: Question", "--text", "!", "--inbox-id", two.id,
        "--thread-id", thread.thread_id, "--cc", "c@elsewhere.test", "--reply-to", "r@elsewhere.test",
    )  # fmt: skip
    both = eventually(
        lambda: len(messages := cli.json("threads", "messages", first["thread_id"])["data"]) == 2 and messages,
        20,
        lambda: "the answer",
    )
    assert [message["direction"] for message in both] == ["outbound", "inbound"]
    assert both[1]["metadata"]["subject"] == "Re: Question"
    newest = cli.json("threads", "messages", first["thread_id"], "--order", "desc", "--limit", "1")["data"]
    assert [message["message_id"] for message in newest] == [both[1]["message_id"]]


def test_triage_shows_where_threads_are_listed(running, sdk, cli, mailbox):
    inbox, sent = mailbox
    thread = sent[2].thread_id
    assert cli.json("threads", "set-status", thread, "waiting")["data"]["status"] == "waiting"
    cli.json("threads", "tags", "add", thread, "vip", "refund")
    cli.json("threads", "assign", thread, "--to", "anna@customer.test")
    (listed,) = [t for t in sdk.client.threads.list(inbox_id=inbox.id).data if t.thread_id == thread]
    assert (listed["status"], listed["assigned_to"], listed["tags"]) == ("waiting", "anna@customer.test", ["vip", "refund"])
    # What the command line does not know: the same by the routes of their own.
    path = f"/v1/threads/{thread}"
    assert running.call("PUT", f"{path}/status", {"status": "closed"}).data["status"] == "closed"
    assert running.call("PUT", f"{path}/assign", {"assigned_to": None}).data["assigned_to"] is None
    assert running.call("DELETE", f"{path}/tags", {"tags": ["vip"]}).data["tags"] == ["refund"]
    assert running.get(f"{path}/metadata")["status"] == "closed"
    refused = cli.run("threads", "set-status", thread, "asleep")
    assert refused.returncode != 0
    missing = cli.run("threads", "set-status", "thread_00000000-0000-7000-8000-000000000000", "open")
    assert missing.returncode == 3, missing.stdout + missing.stderr


def test_search_by_all_clients(sdk, cli, mailbox):
    inbox, sent = mailbox
    asked = {"inbox_id": inbox.id}
    assert [found.subject for found in sdk.client.search.threads("number", **asked)] == [f"Number {n}" for n in range(4, -1, -1)]
    for query, expected in (('"body 3"', [3]), ("number -body", []), ("elsewhere 1", [1]), ("nowhere", [])):
        found = [one.thread_id for one in sdk.client.search.threads(query, **asked)]
        assert found == [sent[n].thread_id for n in expected], query
        listed = cli.json("search", "threads", query, "--inbox-id", inbox.id, "--limit", "5")["data"]
        assert [one["thread_id"] for one in listed] == found, query
    with pytest.raises(ValidationError):
        sdk.client.search.threads("...")


def test_a_suppressed_recipient(running, sdk, cli):
    inbox = sdk.client.inboxes.create(local_part="suppressed")
    added = running.call("POST", "/v1/delivery/suppressions", {"email": "Gone@elsewhere.test"})
    assert (added.status, added.data["reason"]) == (201, "manual")
    answer = running.call(
        "POST",
        "/v1/messages/send",
        {"to": ["gone@elsewhere.test", "there@elsewhere.test"], "subject": "s", "text": "t", "inboxId": inbox.id},
    )
    assert answer.status == 200 and answer.body["validation"]["suppressed"] == ["gone@elsewhere.test"]

    async def body(client):
        return await client.delivery.suppressions(), await client.delivery.events(inbox_id=inbox.id)

    suppressions, _ = sdk.async_calls(body)
    (entry,) = [one for one in suppressions if one.email == "gone@elsewhere.test"]
    assert (entry.reason, bool(entry.suppressed_at)) == ("manual", True)
    events = eventually(
        lambda: len(all := sdk.client.delivery.events(message_id=answer.data["id"])) == 3 and all,
        20,
        lambda: "its three events",
    )
    assert {event.event_type for event in events} == {"suppressed", "sent", "delivered"}
    listed = cli.json("delivery", "events", "--inbox-id", inbox.id, "--limit", "2")
    assert listed["has_more"] and len(listed["data"]) == 2
    rest = cli.json("delivery", "events", "--inbox-id", inbox.id, "--cursor", listed["next_cursor"])
    assert {e["event_id"] for e in listed["data"] + rest["data"]} == {event.event_id for event in events}
    only = {"to": "gone@elsewhere.test", "subject": "s", "text": "t", "inboxId": inbox.id}
    refused = running.call("POST", "/v1/messages/send", only)
    assert refused.status == 400 and refused.body["validation"]["suppressed"] == ["gone@elsewhere.test"]
    assert running.call("DELETE", "/v1/delivery/suppressions/gone%40elsewhere.test").status == 200
    assert running.call("POST", "/v1/messages/send", only).status == 200


def test_metrics_by_all_clients(sdk, cli, mailbox):
    inbox, sent = mailbox
    metrics = eventually(
        lambda: (m := sdk.client.delivery.metrics(inbox_id=inbox.id)).delivered == 5 and m, 30, lambda: "five deliveries"
    )
    assert (metrics.sent, metrics.bounced, metrics.delivery_rate, metrics.period) == (5, 0, 100, "7d")

    async def body(client):
        return await client.delivery.metrics(inbox_id=inbox.id, period="30d")

    assert sdk.async_calls(body).delivered == 5
    assert cli.json("delivery", "metrics", "--inbox-id", inbox.id, "--period", "24h")["data"]["delivered"] == 5
    with pytest.raises(ValidationError, match="period"):
        sdk.client.delivery.metrics(period="1y")


def test_a_limited_key(running, sdk, mailbox):
    """A key of one inbox: the published clients see that inbox and its mail, and nothing else."""
    inbox, sent = mailbox
    other = sdk.client.inboxes.create(local_part="other")
    sdk.client.messages.send(to="a@elsewhere.test", subject="Number of another", text="x", inbox_id=other.id)
    made = running.call(
        "POST", "/v1/agent/api-keys", {"name": "limited", "scopes": ["read", "write"], "inbox_ids": [inbox.id]}
    ).data
    limited = SDK(running, key=made["key"])
    client = limited.client
    assert [one.id for one in client.inboxes.list()] == [inbox.id]
    assert client.threads.list(inbox_id=other.id).data == []
    assert len(client.search.threads("number")) == 5
    assert all(event.message_id in {one.id for one in sent} for event in client.delivery.events())
    with pytest.raises((NotFoundError, PermissionDeniedError)):
        client.messages.send(to="a@elsewhere.test", subject="s", text="t", inbox_id=other.id)
    with pytest.raises(PermissionDeniedError):
        client.inboxes.create(local_part="escape")
    assert client.messages.send(to="a@elsewhere.test", subject="s", text="t", inbox_id=inbox.id).id
    running.call("DELETE", f"/v1/agent/api-keys/{made['id']}")
    with pytest.raises(AuthenticationError):
        client.inboxes.list()
    limited.close()


def test_a_key_of_one_scope(running):
    made = running.call("POST", "/v1/agent/api-keys", {"name": "reader", "scopes": ["threads:read"]}).data
    reader = CommandLine(running, key=made["key"])
    refused = reader.run("inboxes", "create", "--local-part", "never")
    assert refused.returncode == 2 and "inboxes:write" in refused.stderr, refused.stdout + refused.stderr
    wrong = CommandLine(running, key="comm_" + "0" * 64).run("inboxes", "list")
    assert wrong.returncode == 2, wrong.stdout + wrong.stderr
