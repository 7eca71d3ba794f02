"""`kill -9` of a worker: nothing is lost, and what was recorded is not done twice."""

from polling import eventually


def test_50_messages_in_flight_survive_their_worker(platform, sink):
    """Killed with 50 messages past their final dot and unanswered, all 50 come again; what was recorded before, never."""
    platform.start_api()
    worker = platform.start_worker()
    inbox = platform.inbox()
    recorded = [f"recorded{n}@killed.test" for n in range(10)]
    in_flight = [f"flight{n}@killed.test" for n in range(50)]
    platform.send_to_each(inbox, recorded)
    platform.await_delivered(recorded)

    sink.hold()
    platform.send_to_each(inbox, in_flight)
    eventually(lambda: set(in_flight) <= sink.seen().keys(), 30, lambda: f"50 in flight, {len(sink.seen()) - 10} are")
    worker.kill()
    sink.release()
    assert set(platform.states(in_flight).values()) == {"queued"}

    platform.start_worker()
    platform.await_delivered(in_flight)
    seen = sink.seen()
    assert [seen[a] for a in recorded] == [1] * 10
    # Once unanswered, once again: the price of losing none.
    assert [seen[a] for a in in_flight] == [2] * 50
    ids = {address: {d.message_id for d in sink.of(address)} for address in in_flight}
    assert all(len(of_one) == 1 for of_one in ids.values()), "a second try has another Message-ID"
    platform.assert_settled()


def test_only_unrecorded_answers_are_asked_for_again(platform, sink):
    """Killed while answers come in: exactly those recipients are sent to again that PostgreSQL had not as delivered."""
    platform.start_api()
    worker = platform.start_worker()
    inbox = platform.inbox()
    addresses = [f"race{n}@killed.test" for n in range(50)]
    sink.hold()
    platform.send_to_each(inbox, addresses)
    eventually(lambda: set(addresses) <= sink.seen().keys(), 30, lambda: f"50 in flight, {len(sink.seen())} are")

    sink.release(25)
    eventually(lambda: "delivered" in platform.states(addresses).values(), 10, "the first answers recorded")
    worker.kill()
    sink.release()
    recorded = {a for a, state in platform.states(addresses).items() if state == "delivered"}
    assert 1 <= len(recorded) <= 25

    platform.start_worker()
    platform.await_delivered(addresses)
    assert sink.seen() == {address: 1 if address in recorded else 2 for address in addresses}
    crashes = platform.database.query("SELECT DISTINCT crash_count FROM jobs WHERE attempt > 1")
    assert [row["crash_count"] for row in crashes] == [1]
    platform.assert_settled()
