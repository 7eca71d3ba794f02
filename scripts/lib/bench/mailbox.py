"""Reads a large inbox over one connection and prints how long its pages and searches take: mailbox.py URL INBOX.

Lines of a series and its figure, parted by a tab. The key is in BENCH_KEY. Times are those of a client on the same machine, HTTP
and all; `floor` is a request that reads one row, for what of them is the machine's.
"""

import http.client
import itertools
import json
import os
import statistics
import sys
import time
from urllib.parse import urlencode, urlsplit

WARM = 30
EDGE = 500
REPEATED = 100


class API:
    """One connection that stays open."""

    def __init__(self, url):
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._headers = {"Authorization": f"Bearer {os.environ['BENCH_KEY']}"}

    def get(self, path, **parameters):
        """The answer's body, and the milliseconds that it took."""
        begun = time.perf_counter()
        self._connection.request("GET", f"{path}?{urlencode(parameters)}", headers=self._headers)
        response = self._connection.getresponse()
        content = response.read()
        took = (time.perf_counter() - begun) * 1000
        if response.status != 200:
            raise SystemExit(f"{path} {parameters}: {response.status} {content[:300]}")
        return json.loads(content), took


def p99(times):
    return sorted(times)[max(0, len(times) * 99 // 100 - 1)]


def tell(series, value):
    print(f"{series}\t{value:.2f}", flush=True)


def walk(api, path, inbox):
    """Every page of a list; the times, in order."""
    times, seen, cursor = [], set(), {}
    while True:
        page, took = api.get(path, inbox_id=inbox, limit=100, **cursor)
        times.append(took)
        name = "message_id" if path == "/v1/messages" else "thread_id"
        before = len(seen)
        seen.update(row[name] for row in page["data"])
        if len(seen) != before + len(page["data"]):
            raise SystemExit(f"{path}: a row came twice")
        if not page["has_more"]:
            return times
        cursor = {"cursor": page["next_cursor"]}


def lists(api, inbox):
    for name in ("threads", "messages"):
        path = f"/v1/{name}"
        for _ in range(WARM):
            api.get(path, inbox_id=inbox, limit=100)
        times = walk(api, path, inbox)
        tell(f"{name} p99", p99(times))
        tell(f"{name} first p99", p99(times[:EDGE]))
        tell(f"{name} last p99", p99(times[-EDGE:]))
        tell(f"{name} p50", statistics.median(times))
        tell(f"{name} last to first", statistics.median(times[-EDGE:]) / statistics.median(times[:EDGE]))


def floor(api, inbox):
    times = [api.get(f"/v1/inboxes/{inbox}")[1] for _ in range(EDGE + WARM)][WARM:]
    tell("floor p50", statistics.median(times))
    tell("floor p99", p99(times))


def filters(api, inbox):
    """The first page by each set of filters, also those that fit nothing: p99 of all, and the median of the slowest set."""
    domain = api.get(f"/v1/inboxes/{inbox}")[0]["data"]["domain_id"]
    middle, late = (
        api.get("/v1/messages", inbox_id=inbox, limit=1, order=order)[0]["data"][0]["created_at"] for order in ("asc", "desc")
    )
    nowhere = "00000000-0000-7000-8000-000000000000"
    places = [{"inbox_id": inbox}, {"domain_id": domain}, {"inbox_id": inbox, "domain_id": domain},
              {"inbox_id": inbox, "domain_id": nowhere}, {}]
    senders = [{}, {"sender": "sender7@x.test"}, {"sender": "elsewhere@x.test"}, {"sender": "nobody@x.test"}]
    times_of = [{}, {"before": late}, {"after": middle}, {"before": late, "after": middle}, {"after": late}]
    worst, everything = 0, []
    cases = [("/v1/messages", {**a, **b, **c}) for a, b, c in itertools.product(places, senders, times_of) if a or b]
    cases += [("/v1/threads", a) for a in places if a]
    for (path, case), order in itertools.product(cases, ("asc", "desc")):
        times = [api.get(path, **case, order=order)[1] for _ in range(REPEATED // 2)][3:]
        everything += times
        taken = statistics.median(times)
        if taken > worst:
            worst = taken
            print(f"slowest so far: {path} {case} {order}: {taken:.2f} ms", file=sys.stderr)
    tell("filters p99", p99(everything))
    tell("filters slowest", worst)


def search(api, inbox):
    kinds = {
        "rare": [f"rare{n}" for n in range(10)],
        "common": ["everywhere", "w0", "w1", "w5"],
        "old": [f"old{n}" for n in range(10)],
        "frequent-then": ["then0", "then1"],
        "none": [f"nowhere{n}" for n in range(10)],
        "two": ["then0 w7", "everywhere rare1", "w3 w4", "old1 everywhere"],
    }
    for kind, words in kinds.items():
        for word in words:
            api.get("/v1/search/threads", q=word, inbox_id=inbox)
        times = [
            api.get("/v1/search/threads", q=word, inbox_id=inbox)[1]
            for word in itertools.islice(itertools.cycle(words), REPEATED)
        ]
        tell(f"search {kind} p99", p99(times))


def main():
    url, inbox = sys.argv[1:]
    api = API(url)
    floor(api, inbox)
    lists(api, inbox)
    filters(api, inbox)
    search(api, inbox)


main()
