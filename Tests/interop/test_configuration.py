"""A wrong configuration is refused at once, wholly, and in words that say what to do."""

import subprocess

import pytest

from platform_under_test import BARE_ENVIRONMENT, programs
from polling import eventually
from processes import RedisServer, free_port

REQUIRED = ["DATABASE_URL", "REDIS_URL", "COMMUNE_SECRET_KEY"]
PROGRAMS = {
    "commune-api": [*REQUIRED, "COMMUNE_DEFAULT_DOMAIN"],
    "commune-inbound": REQUIRED,
    "commune-worker": REQUIRED,
}


def run(program, *arguments, **settings):
    """Runs a program that should refuse to start."""
    return subprocess.run(
        [programs() / program, *arguments],
        env={**BARE_ENVIRONMENT, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_set(program):
    """With nothing set a program ends with 78 (EX_CONFIG) and names every variable that it misses, at once."""
    result = run(program)
    assert result.returncode == 78, result.stderr
    for variable in PROGRAMS[program]:
        assert f"{variable} is not set" in result.stderr


def test_migrate_with_nothing_set():
    """`commune migrate` names all that it misses, at once, too."""
    result = run("commune", "migrate")
    assert result.returncode == 78, result.stderr
    for variable in ("DATABASE_URL", "COMMUNE_SECRET_KEY", "COMMUNE_DEFAULT_DOMAIN"):
        assert f"{variable} is not set" in result.stderr


def test_all_values_wrong():
    """Values that make no sense are all told at once, by name, and a secret among them is not shown."""
    result = run(
        "commune-worker",
        DATABASE_URL="postgres://commune:hush-hush@[::1/x",
        REDIS_URL="http://hush-hush@localhost",
        COMMUNE_SECRET_KEY="hush-hush",
        COMMUNE_SMTP_ROUTES="nonsense",
        COMMUNE_LEASE_SECONDS="soon",
        COMMUNE_DNS_SERVER="nowhere",
        COMMUNE_DB_CONNECTIONS="0",
    )
    assert result.returncode == 78, result.stderr
    for variable in (
        "DATABASE_URL",
        "REDIS_URL",
        "COMMUNE_SECRET_KEY",
        "COMMUNE_SMTP_ROUTES",
        "COMMUNE_LEASE_SECONDS",
        "COMMUNE_DNS_SERVER",
        "COMMUNE_DB_CONNECTIONS",
    ):
        assert f"  {variable} " in result.stderr
    assert "hush-hush" not in result.stderr


@pytest.mark.parametrize("program", ["api", "inbound", "worker"])
def test_evicting_redis(platform, program):
    """A Redis that throws keys away when it is full refuses the start, with one sentence that says what to set."""
    evicting = RedisServer(platform.folder, policy="allkeys-lru")
    try:
        process = platform.start(program, REDIS_URL=evicting.url)
        assert process.wait(20) == 78
        log = process.log.read_text()
        assert "allkeys-lru" in log and "noeviction" in log and "REDIS_URL" in log
        assert "Fatal error" not in log
    finally:
        evicting.kill()


def test_redis_out_of_reach(platform):
    """A Redis that is not there refuses no start."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    platform.start_api(REDIS_URL=nowhere)
    platform.start_inbound(REDIS_URL=nowhere)
    platform.start_worker(REDIS_URL=nowhere)
    assert platform.call("GET", "/readyz").body == {"status": "ok", "database": "ok", "redis": "away"}


def test_database_out_of_reach(platform):
    """Without PostgreSQL the API starts, says 503, and recovers when it comes."""
    platform.database.close_doors()
    try:
        api = platform.start("api")
        api.await_ready(lambda: platform.status("/healthz") == 200)
        assert platform.status("/readyz") == 503
        assert platform.call("GET", "/v1/inboxes").status == 503
    finally:
        platform.database.open_doors()
    eventually(lambda: platform.status("/readyz") == 200, 20, "the API recovered")
    assert platform.call("GET", "/v1/inboxes").status == 200
