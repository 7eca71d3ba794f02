"""Runs Postfix' smtp-sink and notes when how many messages had arrived: `sink.py PORT FILE`.

FILE gets lines of milliseconds since 1970 and the count, at most one each ten milliseconds, the first message and the
latest always among them.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time

COUNTER = re.compile(rb"mesg=(\d+)")


def main(port, path):
    sink = subprocess.Popen(
        ["smtp-sink", "-u", "nobody", "-4", "-c", "-m", "1000", f"127.0.0.1:{port}", "1024"], stdout=subprocess.PIPE
    )
    signal.signal(signal.SIGTERM, lambda *_: sink.terminate())
    written, count, rest = 0, 0, b""
    with open(path, "w", buffering=1) as file:
        while True:
            ready, _, _ = select.select([sink.stdout], [], [], 0.01)
            if ready:
                chunk = os.read(sink.stdout.fileno(), 1 << 16)
                if not chunk:
                    break
                # A counter may be cut in two by the end of a read.
                *whole, rest = re.split(rb"[\r\n]", rest + chunk)
                counts = COUNTER.findall(b"\n".join(whole))
                count = int(counts[-1]) if counts else count
                at = time.time_ns() // 1_000_000
            if count > written:
                file.write(f"{at} {count}\n")
                written = count
                time.sleep(0.005)
    sink.wait()


main(int(sys.argv[1]), sys.argv[2])
