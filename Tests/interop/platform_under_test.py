"""Commune as an operator runs it: its four programs, a database and a Redis of their own, and a sink for its mail.

Leases, scans and heartbeats are short, so that what happens after 30 seconds in production happens after two here.
"""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg.rows import dict_row

from polling import eventually
from processes import Process, RedisServer, answers, free_port
from smtp_sink import SMTPSink

DOMAIN = "agents.interop.test"
SHORT_TIMES = {
    "COMMUNE_LEASE_SECONDS": "2",
    "COMMUNE_REAP_INTERVAL_SECONDS": "0.5",
    "COMMUNE_HEARTBEAT_SECONDS": "0.5",
}
LEASE_SECONDS = float(SHORT_TIMES["COMMUNE_LEASE_SECONDS"])
#: Whether the full lengths were asked for (`scripts/test --long`).
IS_LONG = os.environ.get("COMMUNE_TEST_LONG") == "1"
#: The environment of a program without the settings of the machine or of whoever runs the tests.
BARE_ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}


def programs():
    """The folder of the programs that are tested."""
    return Path(os.environ["COMMUNE_TEST_BIN"])


class Answer:
    """What the API said."""

    def __init__(self, status, body, headers):
        self.status = status
        self.body = body
        self.headers = headers

    @property
    def data(self):
        return self.body["data"]


class TestDatabase:
    """A database of our own on the tests' PostgreSQL, with an owner who is no superuser."""

    __test__ = False

    def __init__(self):
        self._server_url = os.environ["TEST_DATABASE_URL"]
        self.name = f"interop_{os.urandom(6).hex()}"
        password = os.urandom(16).hex()
        with psycopg.connect(self._server_url, autocommit=True) as server:
            # What an operator gives Commune: a login that owns its database and may make the migrations' roles.
            server.execute(f"CREATE ROLE {self.name} LOGIN CREATEROLE PASSWORD '{password}'")
            server.execute(f"CREATE DATABASE {self.name} OWNER {self.name}")
            known = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)"
            for (role,) in server.execute(known, (["commune_app", "commune_worker", "commune_lookup"],)).fetchall():
                server.execute(f"GRANT {role} TO {self.name}")
        parts = urlsplit(self._server_url)
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit(("postgresql", f"{self.name}:{password}@{host}", f"/{self.name}", parts.query, ""))
        superuser_url = urlunsplit((parts.scheme, parts.netloc, f"/{self.name}", parts.query, ""))
        self._connection = psycopg.connect(superuser_url, autocommit=True, row_factory=dict_row)

    def query(self, sql, *parameters):
        """Rows as dictionaries; as superuser, past row-level security."""
        cursor = self._connection.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def close_doors(self):
        """The database goes away for everybody but us."""
        self._allow_connections(False)
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            self.name,
        )

    def open_doors(self):
        self._allow_connections(True)

    def _allow_connections(self, are_allowed):
        with psycopg.connect(self._server_url, autocommit=True) as server:
            server.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS {are_allowed}")

    def drop(self):
        self._connection.close()
        with psycopg.connect(self._server_url, autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
            # Where this login made the roles that others now use, PostgreSQL keeps it.
            with suppress(psycopg.Error):
                server.execute(f"DROP ROLE IF EXISTS {self.name}")


class Platform:
    """A migrated installation with one organization, and the programs that a test started of it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="commune-interop-", dir="/var/tmp"))
        self.processes = []
        #: Ids of the messages whose sending was answered with 200 in this test.
        self.accepted = []
        self.database = None
        self.redis_server = None
        self.sink = SMTPSink()
        self.api_port = free_port()
        self.smtp_port = free_port()
        self.routes = f"*=127.0.0.1:{self.sink.port}"
        self._secret = os.urandom(32).hex()
        try:
            self.database = TestDatabase()
            self.redis_server = RedisServer(self.folder)
            self.commune("migrate")
            self.key = self.organization("interop")
        except BaseException:
            self.close()
            raise

    def close(self):
        """Ends everything that was started, also what a failed test left in any state."""
        for process in self.processes:
            process.kill()
        if self.redis_server:
            self.redis_server.kill()
        self.sink.close()
        if self.database:
            self.database.drop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin_test(self):
        """The state in which every test of a module begins: no program runs, nothing waits, nothing is recorded."""
        for process in self.processes:
            process.kill()
        self.processes.clear()
        if not self.redis_server.process.is_running:
            self.redis_server.start()
        self.redis.flushall()
        self.database.query("TRUNCATE jobs, workers, chores, queue_control")
        self.accepted.clear()
        self.sink.reset()

    def logs(self):
        """(name, end of the log) of every program."""
        return [(process.name, process.tail(60)) for process in self.processes]

    # Programs ---------------------------------------------------------------------------------------------------

    def environment(self, **changes):
        """Settings of the programs; a change of None takes a variable away."""
        settings = {
            **BARE_ENVIRONMENT,
            **SHORT_TIMES,
            "DATABASE_URL": self.database.url,
            "REDIS_URL": self.redis_server.url,
            "PORT": str(self.api_port),
            "COMMUNE_HOST": "127.0.0.1",
            "COMMUNE_SMTP_HOST": "127.0.0.1",
            "COMMUNE_SMTP_PORT": str(self.smtp_port),
            "COMMUNE_SECRET_KEY": self._secret,
            "COMMUNE_DEFAULT_DOMAIN": DOMAIN,
            "COMMUNE_MAIL_HOST": "mail.interop.test",
            "COMMUNE_PUBLIC_URL": f"http://127.0.0.1:{self.api_port}",
            "COMMUNE_RATE_LIMIT_PER_MINUTE": "0",
            "COMMUNE_SEND_LIMIT_PER_MINUTE": "0",
            "COMMUNE_SMTP_ROUTES": self.routes,
            # Nothing here may ask the machine's real name servers.
            "COMMUNE_DNS_SERVER": "127.0.0.1:9",
            "COMMUNE_LOG_LEVEL": "debug",
            **changes,
        }
        return {name: value for name, value in settings.items() if value is not None}

    def run(self, *command, check=True, **changes):
        """Runs `commune` with these arguments to its end."""
        result = subprocess.run(
            [programs() / "commune", *command],
            env=self.environment(**changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if check and result.returncode:
            raise AssertionError(f"commune {' '.join(command)}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def commune(self, *command):
        """What `commune` printed."""
        return self.run(*command).stdout.strip()

    def depth(self, queue):
        """What `commune queues status` says of a queue."""
        lines = json.loads(self.commune("queues", "status", "--json"))
        return next(line for line in lines if line["queue"] == queue)

    def organization(self, name):
        """A new organization; its admin key."""
        self.commune("orgs", "create", name, "--quiet")
        return self.commune("keys", "create", "--org", name, "--scope", "admin", "--quiet")

    def start(self, program, *arguments, **changes):
        """Starts commune-PROGRAM."""
        log = self.folder / f"{program}-{len(self.processes)}.log"
        process = Process(
            f"commune-{program} #{len(self.processes)}",
            [programs() / f"commune-{program}", *arguments],
            log,
            self.environment(**changes),
        )
        self.processes.append(process)
        return process

    def start_api(self, port=None, **changes):
        """Starts the API, on a port of its own if it is another copy, and waits until it serves."""
        api = self.start("api", PORT=str(port or self.api_port), **changes)
        api.await_ready(lambda: self.status("/readyz", port) == 200)
        return api

    def start_inbound(self, **changes):
        """Starts inbound mail and waits until it greets."""
        inbound = self.start("inbound", **changes)
        inbound.await_ready(lambda: answers(self.smtp_port))
        return inbound

    def start_worker(self, *arguments, **changes):
        """Starts a worker and waits until its heartbeat is in the database."""
        return self.start_workers(1, *arguments, **changes)[0]

    def start_workers(self, count, *arguments, **changes):
        """Starts several workers and waits until all their heartbeats are in the database."""
        workers = [self.start("worker", *arguments, **changes) for _ in range(count)]
        for worker in workers:
            worker.await_ready(
                lambda: self.database.query("SELECT id FROM workers WHERE process = %s", worker.process_id)
            )
        return workers

    # The API ----------------------------------------------------------------------------------------------------

    _opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method, path, body=None, key=None, timeout=15, port=None):
        """One request; an answer of any status. Raises OSError when none came."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{port or self.api_port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return Answer(response.status, json.load(response), response.headers)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, json.load(refusal), refusal.headers)

    def get(self, path, key=None):
        """The `data` of a list or an object."""
        answer = self.call("GET", path, key=key)
        assert answer.status == 200, f"GET {path}: {answer.status} {answer.body}"
        return answer.data

    def inbox(self, key=None, name=None):
        """A new inbox."""
        body = {} if name is None else {"local_part": name}
        answer = self.call("POST", "/v1/inboxes", body, key=key)
        assert answer.status == 201, answer.body
        return answer.data

    def send(self, inbox, to, key=None, port=None, **fields):
        """Sends a message; what the API answered with 200."""
        message = {"inboxId": inbox["id"], "to": to, "subject": "Interop", "text": "Hello.", **fields}
        answer = self.call("POST", "/v1/messages/send", message, key=key, port=port)
        assert answer.status == 200, f"{answer.status} {answer.body}"
        self.accepted.append(answer.data["id"].removeprefix("msg_"))
        return answer.data

    def send_to_each(self, inbox, addresses):
        """A message of its own to each address, several at a time."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda address: self.send(inbox, address), addresses))

    @contextmanager
    def load(self, send, addresses):
        """Calls `send` for each address in the background, several at a time; at the end all have been called."""
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(send, address) for address in addresses]
            yield
            for call in calls:
                call.result()

    @contextmanager
    def steady_load(self, send, domain):
        """Calls `send` with ever new addresses of a domain, from four threads, until the block is left."""
        is_over = threading.Event()

        def keep_sending(thread):
            for number in itertools.count():
                if is_over.is_set():
                    return
                send(f"steady{thread}-{number}@{domain}")

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(keep_sending, thread) for thread in range(4)]
            try:
                yield
            finally:
                is_over.set()
            for call in calls:
                call.result()

    def status(self, path, port=None):
        try:
            return self.call("GET", path, timeout=5, port=port).status
        except OSError:
            return None

    def now(self):
        """The database's clock, in seconds."""
        return self.database.query("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")[0]["now"]

    def lease_times(self, queue):
        """Seconds that each lease of a queue has left."""
        client = self.redis
        seconds, microseconds = client.time()
        now = seconds * 1000 + microseconds / 1000
        leases = client.zrange(f"commune:{{{queue}.0}}:lease", 0, -1, withscores=True)
        return [(expiry - now) / 1000 for _, expiry in leases]

    def scheduled(self, queue):
        """The counts that Redis keeps of a queue: (ready, delayed, leased)."""
        counts = self.redis.hgetall(f"commune:{{{queue}.0}}:n")
        return tuple(int(counts.get(name, 0)) for name in ("ready", "delayed", "leased"))

    # What must hold ---------------------------------------------------------------------------------------------

    def states(self, addresses):
        """address -> state of the recipient, as PostgreSQL has it."""
        rows = self.database.query("SELECT address, state FROM recipients WHERE address = ANY (%s)", list(addresses))
        return {row["address"]: row["state"] for row in rows}

    def await_states(self, wanted, within=30):
        """Waits until every recipient has its state."""
        eventually(
            lambda: self.states(wanted) == wanted,
            within,
            lambda: "recipients' states; those that differ: "
            + str({a: s for a, s in self.states(wanted).items() if s != wanted.get(a)})[:1000],
        )

    def await_delivered(self, addresses, within=30):
        """Waits until all these recipients are recorded as delivered."""
        self.await_states(dict.fromkeys(addresses, "delivered"), within)

    @property
    def redis(self):
        return redis.Redis.from_url(self.redis_server.url, decode_responses=True)

    def leftovers(self, expecting_jobs=0):
        """What is still there although all work is done: jobs in PostgreSQL, keys and counts in Redis."""
        found = []
        jobs = self.database.query(
            "SELECT queue, state::text, count(*) AS n FROM jobs WHERE state IN ('queued', 'running', 'dead') GROUP BY 1, 2"
        )
        if sum(row["n"] for row in jobs) != expecting_jobs:
            found += [f"{row['n']} jobs {row['state']} in {row['queue']}" for row in jobs]
        client = self.redis
        # Sources/Shared/Queue/Scripts/prelude.lua has the keys; these three stay while a schedule stands.
        for key in client.scan_iter(match="commune:{*}:*", count=10_000):
            name = key.rpartition("}:")[2]
            if name == "n":
                found += [f"{key} {k}={v}" for k, v in client.hgetall(key).items() if v != "0"]
            elif name not in ("epoch", "cfg"):
                found.append(f"key {key}: {_content(client, key)}")
        return found

    def assert_settled(self, within=15, expecting_jobs=0):
        """All jobs have ended, the schedule's counts are back at zero, and no key is left behind."""
        eventually(
            lambda: not self.leftovers(expecting_jobs),
            within,
            lambda: "settled:\n" + "\n".join(self.leftovers(expecting_jobs)[:20]),
        )


def _content(client, key):
    match client.type(key):
        case "hash":
            return client.hgetall(key)
        case "list":
            return client.lrange(key, 0, 5)
        case "zset":
            return client.zrange(key, 0, 5, withscores=True)
        case "set":
            return list(client.smembers(key))[:5]
        case other:
            return other
