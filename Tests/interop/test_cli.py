"""The operator's command, as an operator types it."""

import json
import os
import re
import subprocess

from platform_under_test import BARE_ENVIRONMENT, programs
from polling import eventually


def help_of(program, *path):
    """What `--help` prints, which needs no setting and no server."""
    result = subprocess.run(
        [programs() / program, *path, "--help"],
        env=BARE_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def subcommands(text):
    """The names in the SUBCOMMANDS section of a help text."""
    section = re.search(r"^SUBCOMMANDS:\n(.*?)(?:\n\n|\Z)", text, re.M | re.S)
    return re.findall(r"^  (\S+)", section[1], re.M) if section else []


def test_every_help_has_an_example():
    """`--help` of every subcommand, found by walking the help texts, shows an example."""
    walked, waiting = [], [()]
    while waiting:
        path = waiting.pop()
        text = help_of("commune", *path)
        assert "Example: " in text, f"commune {' '.join(path)} --help has no example"
        walked.append(path)
        waiting += [(*path, name) for name in subcommands(text)]
    assert {("migrate",), ("orgs", "create"), ("keys", "create"), ("queues", "status")} <= set(walked)
    assert "Example: " in help_of("commune-worker")


def test_keys_create_quiet(platform):
    """`keys create --quiet` prints the key and nothing else, and the key works."""
    platform.commune("orgs", "create", "quiet")
    result = platform.run("keys", "create", "--org", "quiet", "--scope", "admin", "--quiet")
    assert re.fullmatch(r"comm_[0-9a-f]{64}\n", result.stdout)
    platform.start_api()
    assert platform.get("/v1/inboxes", key=result.stdout.strip()) == []


def test_key_is_not_kept(platform):
    """The database holds a key's hash and no more of the key than tells keys apart."""
    platform.commune("orgs", "create", "hashed")
    key = platform.commune("keys", "create", "--org", "hashed", "--scope", "read", "--quiet")
    rows = platform.database.query("SELECT * FROM api_keys")
    assert rows
    assert key not in str(rows) and key[20:] not in str(rows)


def test_unknown_organization(platform):
    """A key for an organization that is not there: not made, and told how to make the organization."""
    result = platform.run("keys", "create", "--org", "nobody", "--scope", "admin", "--quiet", check=False)
    assert result.returncode not in (0, 78)
    assert result.stdout == ""
    assert "There is no organization named “nobody”" in result.stderr
    assert "commune orgs create nobody" in result.stderr


def test_organization_twice(platform):
    """The second organization of a name is refused in words."""
    platform.commune("orgs", "create", "twice")
    result = platform.run("orgs", "create", "twice", check=False)
    assert result.returncode != 0
    assert "twice" in result.stderr and "duplicate key" not in result.stderr


def test_unknown_scope(platform):
    """A scope that does not exist is refused, not stored as one that allows nothing."""
    platform.commune("orgs", "create", "scoped")
    result = platform.run("keys", "create", "--org", "scoped", "--scope", "everything", "--quiet", check=False)
    assert result.returncode != 0
    assert "everything" in result.stderr
    assert platform.database.query("SELECT 1 FROM api_keys WHERE scopes @> ARRAY['everything']") == []


def test_keys_life(platform):
    """A key is made with limits and an end, listed without its secret, revoked by its first characters."""
    platform.commune("orgs", "create", "life")
    admin = platform.commune("keys", "create", "--org", "life", "--scope", "admin", "--quiet")
    platform.start_api()
    inbox = platform.inbox(key=admin, name="limited")
    platform.inbox(key=admin, name="other")
    made = platform.commune(
        "keys", "create", "--org", "life", "--scopes", "read,messages:write", "--expires", "90d",
        "--inboxes", inbox["address"], "--name", "agent",
    )
    key = made.split()[0]
    assert [one["id"] for one in platform.get("/v1/inboxes", key=key)] == [inbox["id"]]
    listed = platform.commune("keys", "list", "--org", "life")
    line = next(line for line in listed.splitlines() if "“agent”" in line)
    assert key not in listed and key[:12] in line
    assert "active" in line and inbox["id"] in line and "expires: " in line and "last used: never" not in line
    assert "Revoked" in platform.commune("keys", "revoke", "--org", "life", key[:12])
    # The word over Redis comes sooner than what is remembered would be forgotten.
    eventually(lambda: platform.call("GET", "/v1/inboxes", key=key).status == 401, 3, "the key stops")
    assert "revoked" in platform.commune("keys", "list", "--org", "life")
    for wrong in (["--inboxes", ","], ["--expires", "never"], ["--domains", "x"], ["--inboxes", "none@life.test"]):
        result = platform.run("keys", "create", "--org", "life", "--scopes", "read", *wrong, check=False)
        assert result.returncode != 0 and result.stdout == ""


def test_migrate_twice_at_once(platform):
    """Several `commune migrate` at the same time all succeed, and change nothing any more."""
    runs = [
        subprocess.Popen(
            [programs() / "commune", "migrate"],
            env=platform.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(4)
    ]
    for run in runs:
        output, _ = run.communicate(timeout=60)
        assert run.returncode == 0, output
        assert "up to date" in output


def test_database_away(platform):
    """A database that is not there: one clear line and a status that is not 0, no stack trace."""
    url = f"postgresql://someone:hush-hush@127.0.0.1:9/{os.urandom(4).hex()}"
    result = platform.run("queues", "status", check=False, DATABASE_URL=url)
    assert result.returncode != 0
    assert "PostgreSQL" in result.stderr and "Connection refused" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "hush-hush" not in result.stderr


def test_queues_status(platform):
    """`queues status` shows what waits in PostgreSQL."""
    platform.start_api()
    platform.send(platform.inbox(), ["one@status.test", "two@elsewhere.test"])
    header, *lines = [line.split() for line in platform.commune("queues", "status").splitlines()]
    queues = {line[0]: dict(zip(header, line)) for line in lines}
    assert [queues["send"][name] for name in ("READY", "DELAYED", "RUNNING", "DEAD")] == ["2", "0", "0", "0"]
    assert queues["process-inbound"]["READY"] == "0"


def test_queues_probe(platform):
    """`queues probe` runs its jobs where a worker serves them, tells what they took, and leaves none behind."""
    platform.start_worker("--queues", "send,probe")
    rate = json.loads(platform.commune("queues", "probe", "--jobs", "2000", "--held", "--json"))
    assert rate["jobs"] == 2000 and rate["seconds"] > 0 and rate["per_second"] > 0
    pickup = json.loads(platform.commune("queues", "probe", "--jobs", "5", "--one-at-a-time", "--json"))
    assert pickup["jobs"] == 5 and 0 <= pickup["p50"] <= pickup["p99"] <= pickup["max"]
    assert platform.database.query("SELECT 1 FROM jobs") == []


def test_queues_probe_without_worker(platform):
    """`queues probe` says that nobody serves its queue instead of waiting; a worker must be told to by name."""
    platform.start_worker()
    result = platform.run("queues", "probe", check=False)
    assert result.returncode not in (0, 78)
    assert "commune-worker --queues" in result.stderr
    assert platform.database.query("SELECT 1 FROM jobs") == []
