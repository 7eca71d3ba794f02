"""Mail from outside: raw SMTP conversations, whole messages, and what became of them."""

import smtplib
import socket
import ssl
import uuid
from email.message import EmailMessage

OUTSIDER = "outsider@elsewhere.test"


class Line:
    """A raw SMTP conversation: what is sent is exactly what is given."""

    def __init__(self, port, timeout=15, first=b""):
        """`first` is sent before the greeting has come."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._file = self._socket.makefile("rb")
        self.send(first)
        self.greeting = self.reply()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def fileno(self):
        """For `select`."""
        return self._socket.fileno()

    def send(self, data):
        self._socket.sendall(data)

    def reply(self):
        """The next reply, its lines joined; empty when the server has closed."""
        lines = []
        while line := self._file.readline():
            lines.append(line.decode())
            if line[3:4] != b"-":
                break
        return "".join(lines)

    def say(self, command):
        self.send(command.encode() + b"\r\n")
        return self.reply()

    def hello(self):
        """Up to where MAIL may come."""
        assert self.say("EHLO client.elsewhere.test").startswith("250")
        return self

    def remainder(self):
        """All that the server says until it closes the connection."""
        try:
            return self._file.read()
        except ConnectionError:
            return b""

    def start_tls(self):
        """STARTTLS and its handshake; the certificate that was shown, in DER."""
        assert self.say("STARTTLS").startswith("220 2.0.0 ")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._file.close()
        self._socket = context.wrap_socket(self._socket)
        self._file = self._socket.makefile("rb")
        return self._socket.getpeercert(binary_form=True)

    def open_data(self, recipient):
        """Up to the 354."""
        self.hello()
        assert self.say(f"MAIL FROM:<{OUTSIDER}>").startswith("250")
        assert self.say(f"RCPT TO:<{recipient}>").startswith("250")
        assert self.say("DATA").startswith("354")

    def rest(self):
        """Every reply until the server has closed or has said nothing for a while after QUIT."""
        replies = []
        try:
            while reply := self.reply():
                replies.append(reply)
                if reply.startswith("221"):
                    break
        except ConnectionError:
            pass
        return replies


def mail(to, subject="Hello", text="Words.\n", **fields):
    """A message from outside with a Message-ID of its own."""
    message = EmailMessage()
    message["From"] = f"Out Sider <{OUTSIDER}>"
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = f"<{uuid.uuid4()}@elsewhere.test>"
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message


def deliver(platform, message, *recipients):
    """Hands a message over as any mail client would."""
    with smtplib.SMTP("127.0.0.1", platform.smtp_port, "client.elsewhere.test", timeout=15) as client:
        return client.send_message(message, OUTSIDER, recipients)


def received(platform, inbox, key=None):
    """The inbound messages of an inbox, as the API lists them."""
    messages = platform.get(f"/v1/messages?inbox_id={inbox['id']}&limit=100", key=key)
    return [message for message in messages if message["direction"] == "inbound"]


def stored_mails(platform):
    """Raw mails that were committed."""
    return platform.database.query("SELECT count(*) AS n FROM received_mail")[0]["n"]
