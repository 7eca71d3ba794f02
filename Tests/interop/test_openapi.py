"""Schemathesis drives every operation of the served OpenAPI document: no 5xx, no answer outside the document."""

import os
import subprocess
import sys

import pytest

IS_LONG = os.environ.get("COMMUNE_TEST_LONG") == "1"


@pytest.mark.timeout(3600 if IS_LONG else 150)

def test_schemathesis(installation):
    installation.start_api()
    sender = installation.inbox(name="schemathesis")
    installation.send(sender, "a@elsewhere.test")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"http://127.0.0.1:{installation.api_port}/openapi.json",
            "--header",
            f"Authorization: Bearer {installation.key}",
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "300" if IS_LONG else "10",
            # It waits for as long as it is asked to; test_waiting.py and EventWaitTests have it.
            "--exclude-path",
            "/v1/events/wait",
            "--workers",
            "2",
            "--no-color",
        ],
        cwd=installation.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3500 if IS_LONG else 140,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-12_000:]
