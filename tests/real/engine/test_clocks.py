"""Clocks that leap: PostgreSQL's against the consumer's. What goes by one of them is not done while they differ."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest

from pipeline.engine import upkeep
from pipeline.epoch.epoch import plan_for
from pipeline.epoch.roles import ROLES
from pipeline.errors import UnavailableError
from pipeline.sinks import days as days_of_ledger
from pipeline.sinks import refill
from pipeline.sinks.housekeeping import Housekeeping
from pipeline.sinks.level import Cache
from pipeline.sinks.postgres import PostgresSink
from pipeline.sinks.redis import RedisSink
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consume_all, consuming
from tests.events import encoded, now
from tests.place import Place
from tests.waiting import eventually

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


@contextmanager
def housekeeping_at(place: Place, **changes: Any) -> Iterator[Housekeeping]:
    with closing(Housekeeping(place.settings.model_copy(update=changes), ROLES["all"])) as housekeeping:
        yield housekeeping


def all_chores(housekeeping: Housekeeping) -> None:
    """Do all that is due."""
    for chore in housekeeping.chores:
        while housekeeping.step(chore):
            pass


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
    with housekeeping_at(place, events_keep_days=3) as housekeeping, place.pg() as connection:
        connection.execute("SELECT make_day_partitions('events', 3, 20)")
        connection.execute("UPDATE leaderboard_horizon SET settled_before = '2000-01-11', settled_at = '2000-01-11'")
        before = days(place)
        assert housekeeping.chores == ("make", "drop", "settle")
        with monkeypatch.context() as patch:
            patch.setattr(days_of_ledger, "datetime", shifted(shift))
            for chore in housekeeping.chores:
                with pytest.raises(UnavailableError, match="PostgreSQL's clock is"):
                    housekeeping.step(chore)
        assert days(place) == before, "20 days back and 3 ahead, 10 settled"
        all_chores(housekeeping)
        assert days(place)[0] < before[0], "with clocks that agree, what is older than three days goes"
        assert days(place)[1] > before[1], "and boards are settled"


@pytest.mark.parametrize("shift", [timedelta(days=-400), timedelta(hours=2)])
def test_no_day_is_taken_for_dropped_while_clocks_differ(
    place: Place, monkeypatch: pytest.MonkeyPatch, shift: timedelta
) -> None:
    """A day that retention seems to be about to drop still takes events."""
    with sink_at(place, events_keep_days=3) as sink:
        assert sink.read_days().start.year > 2000, "what is about to be dropped takes no more"
        monkeypatch.setattr(days_of_ledger, "datetime", shifted(shift))
        found = sink.read_days()
        assert found.start.year == 2000
        assert "they may differ by" in found.apart


def test_without_a_partition_for_today_events_wait(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would all be dead letters else: of a day that no partition holds."""
    with sink_at(place) as sink, housekeeping_at(place) as housekeeping, place.pg() as connection:
        ahead = connection.execute(
            "SELECT partition::text FROM day_partitions WHERE parent = 'events'::regclass AND upper_bound > now()"
        ).fetchall()
        for (name,) in ahead:
            connection.execute(f"DROP TABLE {name}".encode())
        with monkeypatch.context() as patch:
            patch.setattr(days_of_ledger, "datetime", shifted(timedelta(hours=-3)))
            assert "ahead of the consumer's" in sink.read_days().lacking
        assert "no partition holds today's events" in sink.read_days().lacking
        before = days(place)[0]
        all_chores(housekeeping)
        assert days(place)[0] >= before + 7
        assert not sink.read_days().lacking


def test_events_of_today_wait_for_their_partition_and_are_no_dead_letters(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is in the way of making it, and there is none ahead any more."""
    monkeypatch.setattr(upkeep, "EVERY_SECONDS", 0.2)
    with place.pg() as connection, place.pg() as other:
        connection.execute("TRUNCATE events")
        for (name,) in connection.execute(
            "SELECT partition::text FROM day_partitions WHERE parent = 'events'::regclass AND upper_bound > now()"
        ).fetchall():
            connection.execute(f"DROP TABLE {name}".encode())
        place.produce([encoded() for _ in range(10)])
        other.execute("BEGIN")
        other.execute("LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE")  # as ANALYZE does
        with consuming(place) as consumer:
            eventually(lambda: "no partition holds today's events" in str(consumer.health.ready()[1]), timeout=30)
            assert consumer.health.live()[0]
            other.execute("ROLLBACK")
            caught_up(place)
    assert_exact(place)


def test_a_debt_is_kept_by_the_clock_that_dated_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.produce([encoded() for _ in range(10)], partition=0)
    consume_all(place)
    with sink_at(place) as sink, place.pg() as connection:
        monkeypatch.setattr(days_of_ledger, "datetime", shifted(timedelta(days=2)))
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
