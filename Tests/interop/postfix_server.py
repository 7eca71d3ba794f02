"""A Postfix of our own: Debian's programs, everything else in a temporary folder, on a free port of the loopback."""

import grp
import mailbox
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from polling import eventually
from processes import answers, free_port

# What Debian's master.cf runs, without chroot and without what only local submission needs.
SERVICES = """
{port}     inet  n - n - - smtpd
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 300 1 qmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
verify     unix  - - n - 1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n - - proxymap
error      unix  - - n - - error
retry      unix  - - n - - error
virtual    unix  - n n - - virtual
anvil      unix  - - n - 1 anvil
postlog    unix-dgram n - n - 1 postlogd
"""


class PostfixServer:
    """Takes mail for any address of its domain into one Maildir."""

    def __init__(self, domain):
        self.port = free_port()
        # Under /var: there Postfix may log, and its users can enter.
        self._folder = Path(tempfile.mkdtemp(prefix="commune-postfix-", dir="/var/tmp"))
        self._folder.chmod(0o755)
        self._settings = self._folder / "etc"
        user, group = pwd.getpwnam("postfix"), grp.getgrnam("postfix")
        for name in ("etc", "spool"):
            (self._folder / name).mkdir(mode=0o755)
        for name in ("data", "mail"):
            (self._folder / name).mkdir(mode=0o700)
            os.chown(self._folder / name, user.pw_uid, group.gr_gid)
        (self._settings / "master.cf").write_text(SERVICES.format(port=f"127.0.0.1:{self.port}"))
        (self._settings / "main.cf").write_text(
            "\n".join(
                (
                    "compatibility_level = 3.6",
                    f"queue_directory = {self._folder}/spool",
                    f"data_directory = {self._folder}/data",
                    f"maillog_file = {self._folder}/postfix.log",
                    f"myhostname = mx.{domain}",
                    "mydestination =",
                    "mynetworks =",
                    "smtpd_relay_restrictions = reject_unauth_destination",
                    "inet_interfaces = 127.0.0.1",
                    "inet_protocols = ipv4",
                    "alias_maps =",
                    "alias_database =",
                    # What comes is stored as it came.
                    "local_header_rewrite_clients =",
                    f"virtual_mailbox_domains = {domain}",
                    f"virtual_mailbox_base = {self._folder}/mail",
                    "virtual_mailbox_maps = static:all/",
                    f"virtual_uid_maps = static:{user.pw_uid}",
                    f"virtual_gid_maps = static:{group.gr_gid}",
                    "virtual_minimum_uid = 1",
                    "virtual_mailbox_limit = 0",
                    "",
                )
            )
        )
        self._control("start")
        eventually(lambda: answers(self.port), 20, lambda: f"Postfix answers:\n{self.log()}")

    def _control(self, verb, check=True):
        result = subprocess.run(
            ["postfix", "-c", self._settings, verb],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if check and result.returncode:
            raise AssertionError(f"postfix {verb}:\n{result.stderr}\n{self.log()}")

    def log(self):
        log = self._folder / "postfix.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def await_message(self, message_id, within=20):
        """The bytes of the one message with this Message-ID, as Postfix stored them."""

        def find():
            return [m for m in self.stored() if f"Message-ID: {message_id}".encode() in m]

        found = eventually(find, within, lambda: f"{message_id} arrived:\n{self.log()[-3000:]}")
        assert len(found) == 1
        return found[0]

    def stored(self):
        folder = self._folder / "mail" / "all"
        if not (folder / "cur").exists():  # made last, at the first delivery
            return []
        box = mailbox.Maildir(folder, create=False)
        return [box.get_bytes(key) for key in box.keys()]

    def close(self):
        self._control("abort", check=False)
        pid_file = self._folder / "spool" / "pid" / "master.pid"
        pid = pid_file.read_text().strip() if pid_file.exists() else ""
        if pid:
            eventually(lambda: not Path(f"/proc/{pid}").exists(), 15, "Postfix ended")
        shutil.rmtree(self._folder, ignore_errors=True)
