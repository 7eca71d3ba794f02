"""A DNS of our own."""

from processes import Process, answers, free_port


class NameServer:
    """An unbound that knows some records and no network; every other name does not exist."""

    def __init__(self, folder):
        self.port = free_port()
        self._folder = folder
        self._process = None

    def publish(self, lines):
        """Starts it anew with these records."""
        self.stop()
        settings = self._folder / "unbound.conf"
        records = "".join(f"  local-data: '{line}'\n" for line in lines)
        settings.write_text(
            f"server:\n  directory: {self._folder}\n  interface: 127.0.0.1\n  port: {self.port}\n  do-daemonize: no\n"
            '  use-syslog: no\n  logfile: ""\n  username: ""\n  chroot: ""\n  pidfile: ""\n  num-threads: 1\n'
            f'  module-config: "iterator"\n  local-zone: "." static\n{records}remote-control:\n  control-enable: no\n'
        )
        log = self._folder / "unbound.log"
        self._process = Process("unbound", ["/usr/sbin/unbound", "-d", "-p", "-c", settings], log)
        self._process.await_ready(lambda: answers(self.port))

    def stop(self):
        if self._process:
            self._process.kill()


def lines(records):
    """A zone's lines for the records that the API asks for, long texts in pieces."""
    for record in records:
        if record["type"] == "MX":
            yield f"{record['fqdn']}. 60 IN MX {record['priority']} {record['value']}."
        else:
            value = record["value"]
            pieces = " ".join(f'"{value[start:start + 200]}"' for start in range(0, len(value), 200))
            yield f"{record['fqdn']}. 60 IN TXT {pieces}"
