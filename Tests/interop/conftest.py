"""Fixtures: one installation a module; and the programs' logs in the report of a test that failed."""

import pytest

from name_server import NameServer
from platform_under_test import DOMAIN, Platform
from published_clients import SDK, CommandLine


@pytest.fixture(scope="module")
def installation():
    """A database, a Redis, a sink and a key for the tests of a module."""
    platform = Platform()
    yield platform
    platform.close()


@pytest.fixture(scope="module")
def running(installation):
    """The module's installation with all programs, mail between our own inboxes included."""
    installation.routes = f"{DOMAIN}=127.0.0.1:{installation.smtp_port},{installation.routes}"
    installation.start_api()
    installation.start_inbound()
    installation.start_worker()
    return installation


@pytest.fixture(scope="module")
def sdk(running):
    sdk = SDK(running)
    yield sdk
    sdk.close()


@pytest.fixture(scope="module")
def cli(running):
    return CommandLine(running)


@pytest.fixture
def platform(installation):
    """The module's installation, with nothing running and nothing waiting."""
    installation.begin_test()
    yield installation


@pytest.fixture
def sink(platform):
    """Where the installation's mail goes."""
    return platform.sink


@pytest.fixture
def name_server(platform):
    """A DNS that a test publishes records in."""
    server = NameServer(platform.folder)
    yield server
    server.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    platform = getattr(item, "funcargs", {}).get("platform")
    if report.failed and platform is not None:
        report.sections.extend(platform.logs())
