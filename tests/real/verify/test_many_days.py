"""A ledger of more days than one transaction may lock: proven a hundred days at a time, and as strictly."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from pipeline.errors import UnavailableError
from pipeline.verify.beside import Beside
from tests.consuming import consume_all
from tests.events import encoded
from tests.place import Place
from tests.real.verify.test_steps import a_round, found_in, go_on
from tests.real.verify.test_verify import NONE, TODAY

pytestmark = pytest.mark.real

DAYS = 350
NAMES = ["\\N", "\\.", "a\\tb", "%s", "'; --", '"', "Zoë 🎮", "مرحبا", "\u200d", "NULL", "{}", "a b"]
"""What a COPY in text, a statement or a log could take for something else."""
MOST = 500
"""Of a hundred days, their two indexes each, and what else is read."""


@pytest.fixture
def years(place: Place) -> Place:
    """A place whose ledger has a partition for each of many days past, with events in all of them, some twice."""
    with place.pg() as connection:
        # As who brings history in: the one partition for all that is past makes room for days.
        connection.execute("DROP TABLE events_past")
        for day in range(DAYS, 0, -1):
            start, stop = (TODAY - timedelta(days=ago) for ago in (day + 7, day + 6))
            since = "2000-01-01 00:00+00" if day == DAYS else f"{start:%Y-%m-%d} 00:00+00"
            connection.execute(
                f"CREATE TABLE events_history_{day} PARTITION OF events"
                f" FOR VALUES FROM ('{since}') TO ('{stop:%Y-%m-%d} 00:00+00')".encode()
            )
    chance = random.Random(8)
    load = [
        (player, encoded(player_id=player, game_id="g", timestamp=f"{TODAY - timedelta(days=day):%Y-%m-%dT%H:%M:%SZ}"))
        for day in range(DAYS)
        for player in chance.choices(NAMES, k=2)
    ]
    place.produce([*load, *chance.sample(load, 60)])
    consume_all(place)
    return place


@contextmanager
def locks(place: Place) -> Iterator[list[int]]:
    """See how many locks a verifier's connection has, again and again; the most are the last of the list."""
    most, over = [0], threading.Event()

    def look() -> None:
        with place.pg() as connection:
            while not over.is_set():
                rows = connection.execute(
                    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
                    " WHERE application_name = 'gamemetrics-verify' AND datname = current_database() GROUP BY pid"
                ).fetchall()
                most.append(max([most[-1], *(row[0] for row in rows)]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def test_years_of_days_are_proven_and_few_are_locked(years: Place) -> None:
    with locks(years) as seen:
        report = go_on(years)
        assert (found_in(report), report.compared["events"], report.not_recounted) == (NONE, 2 * DAYS, [])
        assert found_in(go_on(years, full=True)) == NONE
        a_round(years)
        assert found_in(go_on(years)) == NONE
    assert 100 < seen[-1] < MOST


def test_a_second_connection_that_is_cut_costs_the_run_and_no_more(
    years: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at each of its hundreds of days, by an administrator or a server that ends: nothing is proven by halves."""
    copy, cuts = Beside.copy, iter(range(100))

    def cut(self: Beside, *given: Any) -> None:
        copy(self, *given)
        if next(cuts) % 3 == 1:
            with years.pg() as connection:
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", [self.connection.info.backend_pid])

    monkeypatch.setattr(Beside, "copy", cut)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            go_on(years, full=True)
    monkeypatch.setattr(Beside, "copy", copy)
    report = go_on(years)
    assert (found_in(report), report.compared["events"]) == (NONE, 2 * DAYS)


def test_an_alteration_of_any_day_is_found(years: Place) -> None:
    altered = {
        3: "UPDATE events SET data = data || '{\"note\": 1}' WHERE event_timestamp::date = %s",
        170: "DELETE FROM events WHERE event_timestamp::date = %s",
        340: "UPDATE leaderboard_daily SET score = score + 1 WHERE day = %s",
    }
    assert found_in(go_on(years)) == NONE
    with years.pg() as connection:
        for days, alteration in altered.items():
            connection.execute(alteration.encode(), [(TODAY - timedelta(days=days)).date()])
    a_round(years)
    for full in (False, True):
        _, kinds, keys = found_in(go_on(years, full=full))
        assert {"event", "board"} <= kinds
        for days in altered:
            assert f"{TODAY - timedelta(days=days):%Y-%m-%d}" in keys, (days, full)
