"""Domains and inboxes by the published clients: the SDK, sync and async, and the command line."""

import pytest
from commune.exceptions import CommuneError, NotFoundError, ValidationError

from name_server import NameServer, lines

# Nobody ever asks it: no test here makes anything happen that a webhook is for.
ENDPOINT = "https://hooks.customer.test/mail"


@pytest.fixture(scope="module")
def name_server(installation):
    server = NameServer(installation.folder)
    server.publish([])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def running(installation, name_server):
    """The API, and a worker that looks domains up at our own DNS server."""
    installation.start_api()
    installation.start_worker(COMMUNE_DNS_SERVER=f"127.0.0.1:{name_server.port}")
    return installation


def zone(running, domain):
    """The lines that a domain's records ask for."""
    return list(lines(running.get(f"/v1/domains/{domain}/records")))


def test_sdk_domain(running, sdk, name_server):
    client = sdk.client
    made = client.domains.create("mail.sdk.test", region="us-east-1")
    assert (made.name, made.status, made.region) == ("mail.sdk.test", "not_started", "us-east-1")
    records = client.domains.records(made.id)
    assert {record.type for record in records} == {"TXT", "MX"}
    assert all(record.record and record.name and record.value and record.status and record.ttl for record in records)
    # Names are relative to what was registered: mail.sdk.test is a part of sdk.test.
    assert {record.name for record in records} >= {"send.mail", "mail"}
    name_server.publish([])
    assert client.domains.verify(made.id).status == "pending"
    with pytest.raises(ValidationError, match="not verified"):
        inbox = client.inboxes.create(local_part="early", domain_id=made.id)
        client.messages.send(to="a@elsewhere.test", subject="Early", text="x", inbox_id=inbox.id)
    name_server.publish(zone(running, made.id))
    verified = client.domains.verify(made.id)
    assert (verified.id, verified.status) == (made.id, "verified")
    assert {record.status for record in client.domains.records(made.id)} == {"verified"}
    known = client.domains.get(made.id)
    assert known.status == "verified" and [inbox.address for inbox in known.inboxes] == ["early@mail.sdk.test"]
    assert made.id in [domain.id for domain in client.domains.list()]
    sent = client.messages.send(to="a@elsewhere.test", subject="Sent", text="x", from_address="early@mail.sdk.test")
    (message,) = client.threads.messages(sent.thread_id)
    assert message.participants[0].identity == "early@mail.sdk.test"
    with pytest.raises(ValidationError, match="name"):
        client.domains.create("com")
    with pytest.raises(NotFoundError):
        client.domains.get("00000000-0000-7000-8000-000000000000")


def test_async_sdk_domain(running, sdk, name_server):
    async def begin(client):
        made = await client.domains.create("async.test")
        records = await client.domains.records(made.id)
        listed = await client.domains.list()
        return made, records, listed

    made, records, listed = sdk.async_calls(begin)
    assert made.id in [domain.id for domain in listed]
    assert len(records) == len(zone(running, made.id))
    name_server.publish(zone(running, made.id))

    async def end(client):
        return await client.domains.verify(made.id), await client.domains.get(made.id)

    verified, known = sdk.async_calls(end)
    assert (verified.status, known.status, known.name) == ("verified", "verified", "async.test")


def test_command_line_domain(running, cli, name_server):
    made = cli.json("domains", "create", "cli.test")["data"]
    assert (made["name"], made["status"]) == ("cli.test", "not_started")
    records = cli.json("domains", "records", made["id"])["data"]
    assert {"SPF", "DKIM"} <= {record["record"] for record in records}
    name_server.publish(zone(running, made["id"]))
    assert cli.json("domains", "verify", made["id"])["data"]["status"] == "verified"
    assert cli.json("domains", "get", made["id"])["data"]["status"] == "verified"
    assert made["id"] in [domain["id"] for domain in cli.json("domains", "list")["data"]]
    missing = cli.run("domains", "get", "00000000-0000-7000-8000-000000000000")
    assert (missing.returncode, "not found" in missing.stderr.lower()) == (3, True), missing.stderr
    twice = cli.run("domains", "create", "cli.test")
    assert twice.returncode == 1, twice.stdout + twice.stderr


def test_sdk_inbox_changes(sdk):
    client = sdk.client
    made = client.inboxes.create(
        local_part="changes", name="Changes", webhook={"endpoint": ENDPOINT, "events": ["email.received"]}
    )
    assert made.domain_name and made.domain_id and made.webhook.secret.startswith("whsec_")
    domain, inbox = made.domain_id, made.id
    assert client.inboxes.get(domain, inbox).address == made.address
    assert inbox in [one.id for one in client.inboxes.list(domain_id=domain)]
    # The secret stays when only the endpoint or the events change.
    moved = client.inboxes.set_webhook(domain, inbox, endpoint=f"{ENDPOINT}/2", events=["inbound", "email.bounced"])
    assert (moved.webhook.endpoint, moved.webhook.secret) == (f"{ENDPOINT}/2", made.webhook.secret)
    assert set(moved.webhook.events) == {"email.received", "email.bounced"}
    assert client.inboxes.update(domain, inbox, local_part="changed").address.startswith("changed@")
    assert client.inboxes.update(domain, inbox, status="inactive").status == "inactive"
    with pytest.raises(ValidationError, match="inactive"):
        client.messages.send(to="a@elsewhere.test", subject="Off", text="x", inbox_id=inbox)
    assert client.inboxes.update(domain, inbox, status="active").status in ("active", None)
    with pytest.raises(CommuneError) as taken:
        client.inboxes.create(local_part="changed", domain_id=domain)
    assert taken.value.status_code == 409
    assert client.inboxes.remove(domain, inbox) is True
    with pytest.raises(NotFoundError):
        client.inboxes.get(domain, inbox)


def test_async_sdk_inbox_changes(sdk):
    async def body(client):
        made = await client.inboxes.create(local_part="async-changes", webhook={"endpoint": ENDPOINT})
        place = (made.domain_id, made.id)
        known = await client.inboxes.get(*place)
        hooked = await client.inboxes.set_webhook(*place, endpoint=f"{ENDPOINT}/async")
        updated = await client.inboxes.update(*place, status="inactive")
        listed = await client.inboxes.list(domain_id=made.domain_id)
        return made, known, hooked, updated, listed, await client.inboxes.remove(*place)

    made, known, hooked, updated, listed, removed = sdk.async_calls(body)
    assert known.address == made.address and made.id in [one.id for one in listed]
    assert hooked.webhook.endpoint == f"{ENDPOINT}/async" and hooked.webhook.secret == made.webhook.secret
    assert updated.status == "inactive" and removed is True


def test_command_line_inbox_changes(cli):
    made = cli.json("inboxes", "create", "--local-part", "cli-changes", "--name", "One", "--webhook-url", ENDPOINT)["data"]
    assert made["webhook"]["endpoint"] == ENDPOINT and made["displayName"] == "One"
    assert cli.json("inboxes", "update", made["id"], "--name", "Two")["data"]["displayName"] == "Two"
    domain = ("--domain-id", made["domain_id"])
    assert made["id"] in [one["id"] for one in cli.json("inboxes", "list", *domain)["data"]]
    hooked = cli.json("inboxes", "set-webhook", made["id"], *domain, "--url", f"{ENDPOINT}/cli", "--json")["data"]
    assert hooked["webhook"]["endpoint"] == f"{ENDPOINT}/cli"
    assert cli.json("inboxes", "get", made["id"])["data"]["webhook"]["secret"] == made["webhook"]["secret"]
    deleted = cli.run("inboxes", "delete", made["id"], *domain, "--yes")
    assert deleted.returncode == 0, deleted.stdout + deleted.stderr
    assert cli.run("inboxes", "get", made["id"]).returncode == 3
    generated = cli.json("inboxes", "create")["data"]
    assert generated["localPart"]
