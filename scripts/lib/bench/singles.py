"""Sends single messages and waits for each to arrive: `singles.py API INBOX TO PORT COUNT`, the key in BENCH_KEY.

Listens on PORT as the recipient's mail server. Prints the median and the worst time in milliseconds from the start of
a request to the end of the message's data.
"""

import json
import os
import queue
import socketserver
import statistics
import sys
import threading
import time
import urllib.request

WAIT_SECONDS = 60
arrivals = queue.Queue()


class MailServer(socketserver.StreamRequestHandler):
    def handle(self):
        self.say("220 quiet.test ESMTP")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say("354 go on")
                while self.rfile.readline() not in (b".\r\n", b""):
                    pass
                arrivals.put(time.monotonic())
            self.say("221 bye" if verb == b"QUIT" else "250 OK")
            if verb == b"QUIT":
                return

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")


def main(api, inbox, to, port, count):
    server = socketserver.ThreadingTCPServer(("127.0.0.1", int(port)), MailServer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = json.dumps({"inboxId": inbox, "to": to, "subject": "Single", "text": "Am I kept waiting?"}).encode()
    headers = {"Authorization": "Bearer " + os.environ["BENCH_KEY"], "Content-Type": "application/json"}
    delays = []
    for _ in range(int(count)):
        begun = time.monotonic()
        request = urllib.request.Request(api + "/v1/messages/send", data=body, headers=headers)
        with opener.open(request, timeout=WAIT_SECONDS):
            pass
        delays.append((arrivals.get(timeout=WAIT_SECONDS) - begun) * 1000)
        time.sleep(0.2)
    print(f"median {statistics.median(delays):.1f}")
    print(f"worst {max(delays):.1f}")


main(*sys.argv[1:])
