"""An SMTP server that records everything, and misbehaves as it is told.

It runs on an event loop in a thread of its own. A message is recorded when its final dot has come, before it is
answered: what the sink has seen is what a recipient would have got.
"""

import asyncio
import re
import threading
import time
from dataclasses import dataclass, field
from email import message_from_bytes

ADDRESS = re.compile(r"<([^>]*)>")


@dataclass
class Delivery:
    """One DATA whose final dot has come."""

    sender: str
    recipients: list[str]
    content: bytes
    at: float = field(default_factory=time.monotonic)
    #: Whether 250 was written.
    is_accepted: bool = False
    #: When the final dot was answered; None while it is not.
    answered_at: float | None = None

    @property
    def message_id(self):
        return message_from_bytes(self.content)["Message-ID"]


class SMTPSink:
    """The server. All switches may be changed while it runs."""

    def __init__(self):
        self.deliveries: list[Delivery] = []
        #: Addresses that a RCPT came for.
        self.asked: set[str] = set()
        #: address -> replies to its RCPT, one a try; then 250.
        self.recipient_replies: dict[str, list[str]] = {}
        #: address -> replies to the final dot of a message for it, one a try; then 250.
        #: "drop" closes the connection in place of an answer.
        self.final_replies: dict[str, list[str]] = {}
        #: Addresses whose RCPT is not answered while they are in here.
        self.silent_at_recipient: set[str] = set()
        #: Addresses for whom a final dot is not answered while they are in here.
        self.silent_at_final_dot: set[str] = set()
        #: Seconds between the final dot and its answer.
        self.delay = 0.0
        self.port = None
        self._answers = None
        self._loop = asyncio.new_event_loop()
        self._writers = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._open())

    def close(self):
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # What tests ask ---------------------------------------------------------------------------------------------

    def seen(self):
        """address -> how many messages for it came up to their final dot."""
        return self._count(self.deliveries)

    def accepted(self):
        """address -> how many messages for it were answered with 250."""
        return self._count(d for d in self.deliveries if d.is_accepted)

    def of(self, address):
        """The deliveries for an address."""
        return [d for d in list(self.deliveries) if address in d.recipients]

    @staticmethod
    def _count(deliveries):
        counts = {}
        for delivery in list(deliveries):
            for address in delivery.recipients:
                counts[address] = counts.get(address, 0) + 1
        return counts

    # What tests say ---------------------------------------------------------------------------------------------

    def hold(self):
        """From now on final dots are not answered until released."""
        self._on_loop(self._set_answers, asyncio.Semaphore(0))

    def release(self, count=None):
        """Answers some of the final dots that are held, or all and those to come."""
        if count is None:
            self._on_loop(self._let_all_go)
        else:
            self._on_loop(lambda: [self._answers.release() for _ in range(count)])

    def reset(self):
        """Forgets what was recorded and how to misbehave."""
        self.release()
        self.deliveries.clear()
        self.recipient_replies.clear()
        self.final_replies.clear()
        self.silent_at_recipient.clear()
        self.silent_at_final_dot.clear()
        self.asked.clear()
        self.delay = 0.0

    # The server -------------------------------------------------------------------------------------------------

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _on_loop(self, function, *arguments):
        async def call():
            return function(*arguments)

        return self._call(call())

    def _set_answers(self, semaphore):
        self._answers = semaphore

    def _let_all_go(self):
        held, self._answers = self._answers, None
        if held is not None:
            for _ in range(100_000):
                held.release()

    async def _open(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 << 20, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self):
        self._let_all_go()
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side went away, which some tests are about
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _talk(self, reader, writer):
        async def say(*lines):
            writer.write("".join(f"{line}\r\n" for line in lines).encode())
            await writer.drain()

        await say("220 sink.test ESMTP")
        sender, recipients = "", []
        while line := await reader.readline():
            verb, text = line[:4].upper(), line.decode(errors="replace")
            if verb == b"EHLO":
                await say("250-sink.test", "250-PIPELINING", "250-8BITMIME", "250-SMTPUTF8", "250 SIZE 50000000")
            elif verb == b"MAIL":
                sender, recipients = ADDRESS.search(text)[1], []
                await say("250 2.1.0 OK")
            elif verb == b"RCPT":
                address = ADDRESS.search(text)[1]
                self.asked.add(address)
                await self._end_of_silence(self.silent_at_recipient, [address])
                reply = self._next(self.recipient_replies, [address])
                if reply.startswith("2"):
                    recipients.append(address)
                await say(reply)
            elif verb == b"DATA":
                if not recipients:
                    await say("503 5.5.1 no recipients")
                    continue
                await say("354 go on")
                content = await reader.readuntil(b"\r\n.\r\n")
                if not await self._accept(Delivery(sender, recipients, _unstuffed(content)), say):
                    return
            elif verb == b"QUIT":
                await say("221 2.0.0 bye")
                return
            else:
                await say("250 2.0.0 OK")

    async def _accept(self, delivery, say):
        """Records and answers; false when the connection shall be dropped."""
        self.deliveries.append(delivery)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self._answers is not None:
            await self._answers.acquire()
        await self._end_of_silence(self.silent_at_final_dot, delivery.recipients)
        reply = self._next(self.final_replies, delivery.recipients)
        if reply == "drop":
            return False
        # Before it is written: once it is, the worker may go on at any moment.
        delivery.answered_at = time.monotonic()
        await say(reply)
        delivery.is_accepted = reply.startswith("2")
        return True

    @staticmethod
    async def _end_of_silence(silent, addresses):
        while silent.intersection(addresses):
            await asyncio.sleep(0.02)  # tests change the set from their own thread

    @staticmethod
    def _next(replies, addresses):
        for address in addresses:
            if replies.get(address):
                return replies[address].pop(0)
        return "250 2.0.0 OK"


def _unstuffed(content):
    """The message between DATA and its end, as it was before dots were doubled."""
    return re.sub(rb"(?m)^\.", b"", content[: -len(b".\r\n")])
