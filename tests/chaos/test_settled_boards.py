"""The all-time board: days that are settled, the days since, and late events between the two."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pipeline.sinks.postgres import SETTLING_LOCK, PostgresSink
from tests.chaos.truth import assert_exact
from tests.consuming import consume_all
from tests.dialects import IN_BOTH_DIALECTS
from tests.place import Place

pytestmark = [pytest.mark.real, pytest.mark.chaos, IN_BOTH_DIALECTS]


def scores(*days_ago: int) -> list[bytes]:
    """Two players' scores on each of some days."""
    events = []
    for ago in days_ago:
        moment = (datetime.now(UTC) - timedelta(days=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for player in ("p1", "p2"):
            event = {"event_type": "player_score", "player_id": player, "game_id": "g", "data": {"score": 10 + ago}}
            events.append(json.dumps(event | {"event_id": str(uuid.uuid4()), "timestamp": moment}).encode())
    return events


def settle(connection: psycopg.Connection) -> list[int]:
    """Settle as if a day had passed since the schema was made; return the scores of each day, one a call."""
    connection.execute("UPDATE leaderboard_horizon SET settled_at = settled_at - interval '1 day'")
    found = list[int]()
    while row := connection.execute("SELECT settle_boards(%s)", (SETTLING_LOCK,)).fetchone():
        if not row[0]:
            break
        found.append(int(row[0]))
    return found


def settled(place: Place) -> dict[str, int]:
    with place.pg() as connection:
        return dict(connection.execute("SELECT player_id, score::bigint FROM leaderboard_settled").fetchall())


def test_days_are_settled_once_and_the_board_stays_the_same(place: Place) -> None:
    place.produce(scores(0, 1, 2, 3, 5, 40), partition=0)
    consume_all(place)
    assert settled(place) == {}, "in the first hours of a database nothing is settled"
    with place.pg() as connection:
        assert settle(connection) == [2, 2, 2]
        assert settle(connection) == []
        horizon = connection.execute("SELECT settled_before FROM leaderboard_horizon").fetchone()
    assert horizon == ((datetime.now(UTC) - timedelta(days=2)).date(),)
    assert settled(place) == {"p1": 13 + 15 + 50, "p2": 13 + 15 + 50}
    assert_exact(place)


def test_a_late_event_is_added_to_what_is_settled(place: Place) -> None:
    place.produce(scores(5), partition=0)
    consume_all(place)
    with place.pg() as connection:
        settle(connection)
    place.produce(scores(0, 2, 5, 60), partition=1)
    consume_all(place)
    assert settled(place) == {"p1": 15 + 15 + 70, "p2": 15 + 15 + 70}
    assert_exact(place)


def test_a_day_is_not_settled_while_an_epoch_adds_to_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settling comes between an epoch's scores and its commit, when it cannot see them yet."""
    original, refused = PostgresSink.advance, list[psycopg.errors.LockNotAvailable]()

    def advance(self: PostgresSink, *arguments: Any) -> None:
        with place.pg() as other:
            other.execute("SET lock_timeout = '500ms'")
            try:
                if not refused:
                    settle(other)
            except psycopg.errors.LockNotAvailable as error:
                refused.append(error)
        original(self, *arguments)

    monkeypatch.setattr(PostgresSink, "advance", advance)
    place.produce(scores(0, 5), partition=0)
    consume_all(place, batch_max_events=4, batch_max_wait_ms=5_000)  # in one epoch
    assert_exact(place)
    with place.pg() as connection:
        assert settle(connection) == [2]
    assert_exact(place)
    assert refused
