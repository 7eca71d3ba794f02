"""Resident memory of processes: `memory.py watch NAME=PID…` prints a line a second, `memory.py summary NAME FILE`
tells of one of them its peak, its growth, and what it had at the end, in MB.

Growth is over the second half of the time in which the process worked: the median of that half's last quarter less
the median of its first. What a program takes once, for its caches and pools, it has taken by then.
"""

import statistics
import sys
import time


def status(pid, field):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def processor_ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def watch(*processes):
    named = [process.split("=") for process in processes]
    while True:
        for name, pid in named:
            print(name, processor_ticks(pid), status(pid, "VmRSS"), status(pid, "VmHWM"), flush=True)
        time.sleep(1)


def summary(name, path):
    samples = []
    with open(path) as file:
        for line in file:
            fields = line.split()
            if len(fields) == 4 and fields[0] == name:
                samples.append(tuple(map(int, fields[1:])))
    # Idle seconds would make anything look flat.
    working = [after[1] for before, after in zip(samples, samples[1:]) if after[0] - before[0] >= 5] or [samples[-1][1]]
    half = working[len(working) // 2 :]
    quarter = max(1, len(half) // 4)
    growth = statistics.median(half[-quarter:]) - statistics.median(half[:quarter])
    print(f"peak {samples[-1][2] / 1024:.1f}")
    print(f"growth {max(0.0, growth / 1024):.1f}")
    print(f"end {samples[-1][1] / 1024:.1f}")


{"watch": watch, "summary": summary}[sys.argv[1]](*sys.argv[2:])
