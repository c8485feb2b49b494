"""Clocks that leap: PostgreSQL's against the consumer's. What goes by one of them is not done while they differ."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest

from pipeline.epoch.epoch import plan_for
from pipeline.epoch.roles import ROLES
from pipeline.errors import UnavailableError
from pipeline.sinks import postgres, refill
from pipeline.sinks.level import Cache
from pipeline.sinks.postgres import PostgresSink
from pipeline.sinks.redis import RedisSink
from tests.consuming import consume_all
from tests.events import encoded, now
from tests.place import Place

pytestmark = pytest.mark.real


def shifted(shift: timedelta) -> type[datetime]:
    """The consumer's clock beside PostgreSQL's: what the latter shows when it has leapt the other way."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Self:
            return cls.fromtimestamp((datetime.now(UTC) + shift).timestamp(), tz)

    return Shifted


@contextmanager
def sink_at(place: Place, **changes: Any) -> Iterator[PostgresSink]:
    settings = place.settings.model_copy(update=changes)
    with closing(PostgresSink(settings, plan_for(ROLES["all"], settings), place.group)) as sink:
        yield sink


def days(place: Place) -> tuple[int, int]:
    """How many day partitions there are, and how many days of boards are settled since 2000."""
    with place.pg() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM day_partitions WHERE parent = 'events'::regclass),"
            " coalesce(nullif(settled_before, '-infinity') - date '2000-01-01', 0) FROM leaderboard_horizon"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("shift", [timedelta(days=-400), timedelta(hours=-2), timedelta(hours=2), timedelta(days=400)])
def test_no_day_is_made_dropped_or_settled_while_clocks_differ(
    place: Place, monkeypatch: pytest.MonkeyPatch, shift: timedelta
) -> None:
    with sink_at(place, events_keep_days=3) as sink, place.pg() as connection:
        connection.execute("SELECT make_day_partitions('events', 3, 20)")
        connection.execute("UPDATE leaderboard_horizon SET settled_before = '2000-01-11', settled_at = '2000-01-11'")
        before = days(place)
        with monkeypatch.context() as patch:
            patch.setattr(postgres, "datetime", shifted(shift))
            if shift < timedelta(days=3):
                sink.maintain()
            else:
                with pytest.raises(UnavailableError, match="clock is 400 days"):
                    sink.maintain()
        assert days(place) == before, "20 days back and 3 ahead, 10 settled"
        sink.maintain()
        assert days(place)[0] < before[0], "with clocks that agree, what is older than three days goes"
        assert days(place)[1] > before[1], "and boards are settled"


def test_without_a_partition_for_today_events_wait_for_the_clocks(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would all be dead letters else: of a day that no partition holds."""
    with sink_at(place) as sink, place.pg() as connection:
        ahead = connection.execute(
            "SELECT partition::text FROM day_partitions WHERE parent = 'events'::regclass AND upper_bound > now()"
        ).fetchall()
        for (name,) in ahead:
            connection.execute(f"DROP TABLE {name}".encode())
        with monkeypatch.context() as patch:
            patch.setattr(postgres, "datetime", shifted(timedelta(hours=-3)))
            with pytest.raises(UnavailableError, match="ahead of the consumer's"):
                sink.maintain()
        before = days(place)[0]
        sink.maintain()
        assert days(place)[0] >= before + 7


def test_a_debt_is_kept_by_the_clock_that_dated_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.produce([encoded() for _ in range(10)], partition=0)
    consume_all(place)
    with sink_at(place) as sink, place.pg() as connection:
        monkeypatch.setattr(postgres, "datetime", shifted(timedelta(days=2)))
        sink.prune_outbox({0: 10})
        assert connection.execute("SELECT count(*) > 0 FROM pipeline_outbox").fetchone() == (True,)
        connection.execute("UPDATE pipeline_outbox SET created_at = now() + interval '2 days'")
        sink.prune_outbox({0: 10})
        assert connection.execute("SELECT count(*) FROM pipeline_outbox").fetchone() == (0,), "dated by a wrong clock"


@pytest.mark.parametrize("shift", [timedelta(days=-400), timedelta(days=400)])
def test_a_refill_by_a_clock_that_leapt_leaves_no_board_out(
    place: Place, monkeypatch: pytest.MonkeyPatch, shift: timedelta
) -> None:
    """A dated board that is left out would be made anew by the next event, with nothing but that in it."""
    place.produce([encoded(game_id="g") for _ in range(10)])
    consume_all(place)
    monkeypatch.setattr(refill, "datetime", shifted(shift))
    with closing(RedisSink(place.settings, place.group)) as sink:
        with closing(Cache(place.settings, plan_for(ROLES["all"], place.settings), place.group, sink)) as cache:
            cache.rebuild()
        assert sink.client.zcard(f"leaderboard:g:daily:{now()[:10]}") == 1
