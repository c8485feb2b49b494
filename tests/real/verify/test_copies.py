"""One identity with different contents: the copy that was read first counts, in every projection."""

import uuid

import pytest

from pipeline.verify.verify import verify
from tests.consuming import consume_all
from tests.events import encoded, now
from tests.place import Place

pytestmark = pytest.mark.real


def test_of_copies_in_one_epoch_the_first_counts(place: Place) -> None:
    expected = 0
    for player in range(40):
        identity = {"player_id": f"p{player}", "event_id": str(uuid.uuid4()), "timestamp": now()}
        # An escape sends a record through the slow lane, whose rows come last in the frame.
        first = encoded(**identity, data={"score": player + 1, "note": "é" if player % 2 else "e"})
        second = encoded(**identity, data={"score": 1_000})
        place.produce([(f"p{player}", first), (f"p{player}", second)])
        expected += player + 1
    consume_all(place, batch_max_wait_ms=2_000)
    with place.pg() as connection:
        assert connection.execute("SELECT sum(score) FROM leaderboard_alltime").fetchone() == (expected,)
    assert verify(place.settings, lambda _what, _done, _total: None, full=True).differences.kept == []


def test_of_copies_in_two_partitions_either_may_have_counted(place: Place) -> None:
    identity = {"player_id": "p", "event_id": str(uuid.uuid4()), "timestamp": now()}
    place.produce([("p", encoded(**identity, data={"score": 7}))], partition=1)
    consume_all(place)
    # Which of two partitions was read first the log does not say: here it was not the one with the lower number.
    place.produce([("p", encoded(**identity, data={"score": 7, "note": "later"}))], partition=0)
    consume_all(place)
    with place.pg() as connection:
        assert connection.execute("SELECT data FROM events").fetchall() == [({"score": 7},)]
        assert verify(place.settings, lambda _what, _done, _total: None, full=True).differences.kept == []
        connection.execute("""UPDATE events SET data = '{"score": 7, "note": "neither"}'""")
        connection.execute("UPDATE player_event_counts SET events = 2")
        connection.execute("UPDATE leaderboard_daily SET score = 8")
    kinds = verify(place.settings, lambda _what, _done, _total: None, full=True).differences.totals
    assert {"event", "statistics", "board"} <= set(kinds), "it is like neither copy, and no sum depends on the note"
