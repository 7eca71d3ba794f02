"""Programs and servers that a test starts: each with a log, each ended whatever happens."""

import contextlib
import os
import random
import signal
import socket
import subprocess
from pathlib import Path

from polling import eventually


def free_port():
    """A port that nobody listens on at the moment, below those that Linux gives to outgoing connections."""
    for _ in range(100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.randrange(10_000, 32_768)
            probe.bind(("0.0.0.0", port))
            return port
    raise RuntimeError("no port is free")


def answers(port):
    """Whether somebody listens on a port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A running program; its output goes to `log`."""

    def __init__(self, name, command, log: Path, environment=None, death_signal="KILL"):
        self.name = name
        self.log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                # Should pytest itself be killed, the kernel ends the program.
                ["setpriv", "--pdeathsig", death_signal, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self):
        return self._process.pid

    @property
    def is_running(self):
        return self._process.poll() is None

    @property
    def process_id(self):
        # setpriv becomes the program, so this is the program's own.
        return self._process.pid

    def signal(self, number):
        if self.is_running:
            os.kill(self._process.pid, number)

    def wait(self, within):
        """The exit status; a negative number is the signal that ended it."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within} s") from None

    def kill(self):
        """`kill -9`, and its end."""
        self.signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self, within=40):
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(within)

    def await_ready(self, condition, within=30):
        """Waits until `condition()` is true; fails when the program ends before."""

        def is_ready():
            assert self.is_running, f"{self.name} ended while starting:\n{self.tail()}"
            return condition()

        eventually(is_ready, within, lambda: f"{self.name} ready:\n{self.tail()}")

    def tail(self, lines=40):
        """The end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class RedisServer:
    """A private Redis without persistence, which may be stopped and come back empty on its port."""

    def __init__(self, folder: Path, policy="noeviction"):
        self.port = free_port()
        self.password = os.urandom(12).hex()
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self._folder = folder
        self._settings = folder / f"redis-{self.port}.conf"
        # A file, because arguments show in the process list.
        self._settings.touch(mode=0o600)
        self._settings.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {folder}\nrequirepass {self.password}\n"
            f'maxmemory-policy {policy}\nsave ""\nappendonly no\ndaemonize no\n'
        )
        self.process = None
        self.start()

    def start(self):
        program = next(name for name in ("redis-server", "valkey-server") if _is_installed(name))
        log = self._folder / f"redis-{self.port}.log"
        self.process = Process("redis", [program, self._settings], log)
        self.process.await_ready(lambda: answers(self.port))

    def kill(self):
        self.process.kill()


def _is_installed(program):
    return any(os.access(Path(folder) / program, os.X_OK) for folder in os.get_exec_path())
