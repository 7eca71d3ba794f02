"""Tables of a run of scripts/bench: `report.py FOLDER [--page FILE]`.

Reads raw.tsv, rows.tsv and machine.tsv of FOLDER (scripts/lib/bench/results.sh writes them), prints the tables, and
writes the page. Status 2 when a limit does not hold.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path

HEAD = """# Benchmarks

Written by `scripts/bench`; do not edit. Every figure of this page comes from one run on one machine. Compare the two
sides of a row with each other, not with figures of another machine.

How to read it:

- *ours* and *peer* are medians of the rounds, which take turns: ours, peer, ours, peer. *ratio* is the one by the
  other. *limit* is what Commune promises; where it does not hold, the row says so.
- Load generators run on the same cores as what they load, for both sides alike.
- PostgreSQL runs with fsync and its default durability, and lies on the same disk as Postfix' queue. Sidekiq keeps
  nothing durably.
- Messages carry a text of 2 KiB. Ours are signed twice (RSA-2048 and Ed25519), OpenDKIM signs once (RSA-2048).

What each benchmark does is in `scripts/bench.d`, one file each.
"""


def read(path):
    return [line.split("\t") for line in path.read_text().splitlines() if line]


def number(value):
    """Three significant digits or all that are before the point; thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table(lines):
    """Markdown that is aligned for reading as it is."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


class Run:
    def __init__(self, folder):
        self.values = defaultdict(list)
        for benchmark, series, _, value in read(folder / "raw.tsv"):
            self.values[benchmark, series].append(float(value))
        self.rows = read(folder / "rows.tsv")
        self.machine = read(folder / "machine.tsv")
        self.holds = True

    def median(self, benchmark, series):
        return statistics.median(self.values[benchmark, series])

    def results(self):
        lines = [("benchmark", "what", "ours", "peer", "peer's", "ratio", "limit", "holds")]
        for kind, benchmark, what, unit, ours, *rest in self.rows:
            mine = self.median(benchmark, ours)
            told = f"{number(mine)} {unit}"
            if kind == "compare":
                peer, limit, name = rest
                theirs = self.median(benchmark, peer)
                ratio = mine / theirs
                holds = ratio >= float(limit)
                lines.append(
                    (benchmark, what, told, name, f"{number(theirs)} {unit}", f"{ratio:.2f}", f"≥ {limit}", self.mark(holds))
                )
            elif kind == "bound":
                holds = mine < float(rest[0])
                lines.append((benchmark, what, told, "", "", "", f"< {rest[0]} {unit}", self.mark(holds)))
            else:
                lines.append((benchmark, what, told, "", "", "", "", ""))
        return table(lines)

    def mark(self, holds):
        self.holds = self.holds and holds
        return "yes" if holds else "**no**"

    def rounds(self):
        lines = [("benchmark", "series", "rounds")]
        for (benchmark, series), values in self.values.items():
            lines.append((benchmark, series, " ".join(number(value) for value in values)))
        return table(lines)

    def facts(self):
        return table([("what", "which"), *((name, value) for name, value in self.machine)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    run = Run(arguments.folder)
    results = run.results()
    print(results)
    if arguments.page:
        parts = [HEAD, "## Result\n", results, "\n## Machine and versions\n", run.facts(), "\n## Every round\n"]
        arguments.page.write_text("\n".join([*parts, run.rounds(), ""]))
        print(f"\nWritten: {arguments.page}")
    sys.exit(0 if run.holds else 2)


main()
