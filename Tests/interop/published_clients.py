"""The published clients of the API, pointed at an installation: the SDK, sync and async, and the command line."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from commune import AsyncCommuneClient, CommuneClient


class SDK:
    """The sync SDK; the same calls through the async one with `async_calls`."""

    def __init__(self, platform, key=None):
        self._arguments = {
            "api_key": key or platform.key,
            "base_url": f"http://127.0.0.1:{platform.api_port}",
        }
        self.client = CommuneClient(**self._arguments)

    def close(self):
        self.client.close()

    def async_calls(self, body):
        """Runs the coroutine function `body` with an async client."""

        async def run():
            client = AsyncCommuneClient(**self._arguments)
            try:
                return await body(client)
            finally:
                await client.close()

        return asyncio.run(run())


class CommandLine:
    """`commune-cli`, as its own program."""

    def __init__(self, platform, key=None):
        self._program = Path(sys.executable).parent / "commune"
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(platform.folder),
            "COMMUNE_CONFIG_DIR": str(platform.folder / "cli"),
            "COMMUNE_API_KEY": key or platform.key,
            "COMMUNE_BASE_URL": f"http://127.0.0.1:{platform.api_port}",
        }

    def run(self, *arguments):
        """The finished process."""
        return subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def json(self, *arguments):
        """What it printed, as JSON; it must have succeeded."""
        result = self.run(*arguments)
        assert result.returncode == 0, f"{arguments}: {result.returncode}\n{result.stdout}{result.stderr}"
        return json.loads(result.stdout)
