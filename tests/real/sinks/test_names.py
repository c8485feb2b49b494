"""Names and periods on the servers: the view, the function and a refill say of every day what the contract says."""

import uuid
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from psycopg import sql

from pipeline.contract.boards import (
    ALLTIME,
    BOARD_KEYS,
    DAILY,
    PERIODS,
    STATS_KEYS,
    WEEKLY,
    Expiry,
    board_key,
    stats_fields,
    stats_key,
)
from pipeline.contract.offsets import Span
from pipeline.epoch.aggregate import aggregate, chunk
from pipeline.epoch.epoch import Plan
from pipeline.epoch.frame import EVENT_SCHEMA, sort_by_identity
from pipeline.epoch.outbox import calls_for
from pipeline.epoch.rejected import BadRatio
from pipeline.epoch.roles import ROLES
from pipeline.sinks.connection import connect
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.refill import Target, refill, refill_key
from tests.place import Place

pytestmark = pytest.mark.real

# Sixty years have every way in which a year and its weeks can begin and end.
FIRST, LAST = date(1999, 12, 20), date(2060, 1, 12)
ALL_DAYS = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
EXPIRY = Expiry(daily_days=100_000, weekly_days=200_000)
PLAN = Plan(ROLES["all"], EXPIRY, BadRatio(1.0, 1))
GAME = "g:daily:é"


def days_stored(place: Place) -> None:
    """Give each day one score."""
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO leaderboard_daily SELECT %s, day, 'p', 1, now() FROM unnest(%s::date[]) AS day",
            (GAME, ALL_DAYS),
        )


def boards(place: Place) -> dict[str, tuple[float | None, int]]:
    """By key: the player's score, and when the board expires (-1: never)."""
    with place.redis() as client:
        keys = sorted(client.scan_iter(BOARD_KEYS, count=5_000))
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.zscore(key, "p")
            pipe.expiretime(key)
        found: list[Any] = pipe.execute()
        return {key.decode(): pair for key, pair in zip(keys, zip(found[::2], found[1::2], strict=True), strict=True)}


def expected_boards() -> dict[str, tuple[float | None, int]]:
    found: dict[str, tuple[float | None, int]] = {board_key(GAME, ALLTIME.name): (len(ALL_DAYS), -1)}
    for period in (DAILY, WEEKLY):
        for day in ALL_DAYS:
            key = board_key(GAME, period.label(day))
            score = found.get(key, (0, 0))[0] or 0
            found[key] = (score + 1, period.expires_at(day, EXPIRY.of(period)))
    return found


def test_the_view_and_sqls_first_days_are_the_contracts(place: Place) -> None:
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO leaderboard_daily SELECT day::text, day, 'p', 1, now() FROM unnest(%s::date[]) AS day",
            (ALL_DAYS,),
        )
        named = connection.execute("SELECT game_id, period FROM leaderboards").fetchall()
        assert set(named) == {(str(day), period.label(day)) for day in ALL_DAYS for period in PERIODS.values()}
        for period in (DAILY, WEEKLY):
            statement = sql.SQL("SELECT day, {} FROM leaderboard_daily").format(sql.SQL(period.sql_first_day))
            assert dict(connection.execute(statement).fetchall()) == {day: period.first_day(day) for day in ALL_DAYS}


def test_the_function_and_a_refill_write_the_boards_that_the_contract_names(place: Place) -> None:
    rows = [
        {
            "partition": 0, "offset": 0, "row": 0, "event_id": uuid.uuid4().bytes, "event_type": "player_score",
            "player_id": "p", "game_id": GAME, "event_timestamp": datetime(day.year, day.month, day.day, tzinfo=UTC),
            "ingested_at": datetime(2026, 1, 1, tzinfo=UTC), "data": "{}", "score": 1,
        }
        for day in ALL_DAYS
    ]  # fmt: skip
    deltas = aggregate(sort_by_identity(pl.DataFrame(rows, schema=EVENT_SCHEMA)))
    last = datetime(LAST.year, LAST.month, LAST.day, tzinfo=UTC)
    expected = expected_boards()
    hashed = {
        name.encode(): value.encode()
        for name, value in stats_fields(len(ALL_DAYS), {"player_score": len(ALL_DAYS)}, last).items()
    }
    days_stored(place)
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO player_event_counts VALUES ('p', 'player_score', %s, %s)", (len(ALL_DAYS), last)
        )
    with (
        closing(RedisSink(place.settings, place.group)) as sink,
        connect(place.settings, "test") as connection,
        place.redis() as client,
    ):
        sink.open()
        sink.start(0, 0)
        assert sink.apply(calls_for((Span(0, 0, 1),), chunk(deltas, EXPIRY))).verdict == "applied"
        assert boards(place) == expected
        assert client.hgetall(stats_key("p")) == hashed

        client.set(stats_key("gone"), "x")
        marks = {0: 1}
        token = sink.forget(marks)
        refill(connection, Target(sink.client, lambda: sink.while_held(marks, token), sink.boards), PLAN)
        sink.restore(marks, token)
        assert boards(place) == expected
        assert client.hgetall(stats_key("p")) == hashed
        assert list(client.scan_iter(STATS_KEYS)) == [stats_key("p").encode()]

        for key in (*list(expected)[::997], stats_key("p")):
            client.set(key, "of another type")
            refill_key(connection, sink.client, key, PLAN, sink.boards)
        assert boards(place) == expected
        assert client.hgetall(stats_key("p")) == hashed
