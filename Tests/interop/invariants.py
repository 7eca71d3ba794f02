"""What must hold when all work is done, whatever died on the way: queue.md, "Checks"."""

from collections import Counter
from email import message_from_bytes

#: The events that tell a recipient's end.
ENDS = ["email.delivered", "email.bounced", "email.failed"]


def assert_nothing_lost(platform, may_repeat=(), given_up=(), dead=0, within=30):
    """Waits until all jobs have ended, and then asks for every invariant.

    - Every message that the API accepted has an end for each recipient, told once: `delivered`, or another one for
      those of `given_up`.
    - Its jobs are in PostgreSQL, one a domain, and succeeded once, except `dead` ones.
    - Redis counts nothing any more and keeps no key.
    - Every delivered message came to the sink, under one Message-ID, and more than once only for `may_repeat`.
    - The sink saw nothing that was not accepted; of what was accepted without the caller having heard of it, all the
      same holds.
    """
    platform.assert_settled(within, expecting_jobs=dead)
    seen = _seen(platform.sink)
    recipients = _recipients(platform, {message_id for message_id, _ in seen})
    stored = {row["message"] for row in recipients}
    assert stored >= set(platform.accepted), "accepted messages are not in PostgreSQL"
    known = {(row["message_id"], row["address"]) for row in recipients}
    assert not (strangers := seen.keys() - known), f"nobody sent {sorted(strangers)[:5]}"

    for row in recipients:
        address, times = row["address"], seen[row["message_id"], row["address"]]
        story = f"{row}, seen {times} times"
        assert row["ends"] == 1, f"not one end: {story}"
        if address in given_up:
            assert row["state"] in ("bounced", "failed"), f"given up: {story}"
        else:
            assert row["state"] == "delivered" and times >= 1, f"not delivered: {story}"
            assert times == 1 or address in may_repeat, f"sent again without need: {story}"
            # A message of several domains is told of as sent once, by the first of its jobs.
            assert row["sent"] == 1, f"not told as sent once: {story}"
    _assert_jobs(platform, stored, dead)


def _seen(sink):
    """(Message-ID, address) -> how often it came up to its final dot."""
    seen = Counter()
    for delivery in list(sink.deliveries):
        message_id = message_from_bytes(delivery.content)["Message-ID"]
        seen.update((message_id, address) for address in delivery.recipients)
    return seen


def _recipients(platform, message_ids):
    """Those of all messages that were accepted, or came to the sink, and what has been told of each."""
    return platform.database.query(
        """
        SELECT r.message_id::text AS message, m.rfc_message_id AS message_id, r.address, r.state,
            (SELECT count(*) FROM delivery_events e WHERE e.org_id = r.org_id AND e.message_id = r.message_id
                AND e.recipient = r.address AND e.event_type = ANY (%s)) AS ends,
            (SELECT count(*) FROM delivery_events e WHERE e.org_id = r.org_id AND e.message_id = r.message_id
                AND e.event_type = 'email.sent') AS sent
        FROM messages m JOIN recipients r ON r.org_id = m.org_id AND r.message_id = m.id
        WHERE m.id = ANY (%s::uuid[]) OR m.rfc_message_id = ANY (%s)
        """,
        ENDS,
        list(platform.accepted),
        list(message_ids),
    )


def _assert_jobs(platform, messages, dead):
    """One job a message and domain, each with one success; only `dead` ones, which fail their recipients, have none."""
    rows = platform.database.query("SELECT state::text, count(*) AS n FROM jobs WHERE queue = 'send' GROUP BY 1")
    jobs = Counter({row["state"]: row["n"] for row in rows})
    domains = platform.database.query(
        """
        SELECT count(DISTINCT (message_id, domain)) AS n FROM recipients
        WHERE message_id = ANY (%s::uuid[]) AND state <> 'failed'
        """,
        list(messages),
    )[0]["n"]
    assert jobs == Counter(succeeded=domains, dead=dead), f"{domains} successes are due: {dict(jobs)}"
