"""Housekeeping is no condition of ingestion: beside readers, beside who changes a ledger, and with years of days."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pipeline.engine import consumer as engine
from pipeline.engine import upkeep
from pipeline.errors import HaltError
from pipeline.sinks import postgres
from pipeline.sinks.housekeeping import Housekeeping
from pipeline.sinks.postgres import PostgresSink
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consume_all, consuming, ended
from tests.events import encoded
from tests.place import Place
from tests.real.engine.test_lag import gauge
from tests.waiting import eventually

pytestmark = pytest.mark.real

WHOLE = "SELECT count(*) FROM events"
TODAY = "SELECT count(*) FROM events WHERE event_timestamp >= '{:%Y-%m-%d} 00:00+00'"
DAYS = 400
FEW_LOCKS = 250
"""Of an epoch of today's events: some tables and their indexes. Of all the days it was three for each."""


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do housekeeping all the time."""
    monkeypatch.setattr(upkeep, "EVERY_SECONDS", 0.2)
    monkeypatch.setattr(upkeep, "LONGEST_SECONDS", 0.4)
    monkeypatch.setattr(engine, "REFRESH_SECONDS", 0.2)


@contextmanager
def transaction(place: Place, *statements: str) -> Iterator[psycopg.Connection]:
    """Somebody in a transaction that stays open until the block ends."""
    with place.pg() as other:
        other.execute("BEGIN")
        for statement in statements:
            other.execute(statement.encode())
        yield other
        assert other.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        other.execute("ROLLBACK")


def partitions(place: Place) -> list[str]:
    """The ledger's partitions, the oldest first."""
    with place.pg() as connection:
        rows = connection.execute(
            "SELECT partition::text FROM day_partitions WHERE parent = 'events'::regclass ORDER BY upper_bound"
        ).fetchall()
    return [name for (name,) in rows]


def drop(place: Place, *names: str) -> None:
    with place.pg() as connection:
        for name in names:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))


def failures(chore: str) -> float:
    return gauge("pipeline_housekeeping_failures_total", chore=chore) or 0.0


def feed(place: Place, count: int = 50) -> None:
    """Send events, and wait until they are counted."""
    place.produce([encoded(player_id=f"p{number % 7}") for number in range(count)])
    caught_up(place)


# -- making ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [WHOLE, TODAY], ids=["of the whole", "of today"])
def test_a_reader_at_midnight_holds_up_neither_epochs_nor_days(query: str, place: Place) -> None:
    """A dump or a report in a long transaction, when the day comes for which a partition is due."""
    *_, last = partitions(place)
    drop(place, last)
    with transaction(place, query.format(datetime.now(UTC))), consuming(place):
        feed(place)
        eventually(lambda: last in partitions(place), timeout=30)
        feed(place)
    assert_exact(place)


def test_who_changes_the_ledger_is_in_the_way_of_housekeeping_alone(place: Place) -> None:
    """ANALYZE, VACUUM, or an index that is made: waited for later, counted and told, and events come in meanwhile."""
    *_, last = partitions(place)
    drop(place, last)
    before = failures("make")
    with consuming(place) as consumer:
        with transaction(place, "LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE"):
            eventually(lambda: failures("make") > before + 1, timeout=30)
            feed(place)
            assert last not in partitions(place)
            assert (gauge("pipeline_housekeeping_late_seconds", chore="make") or 0) > 0
            assert consumer.health.ready()[0]
        eventually(lambda: last in partitions(place), timeout=30)
        eventually(lambda: gauge("pipeline_housekeeping_late_seconds", chore="make") == 0, timeout=30)
    assert_exact(place)


COLUMNS = """SELECT attname, atttypid, attcollation, attnotnull, atthasdef FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"""

INDEXES = """SELECT relam, indisprimary, indkey::text, EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = %s::regclass ORDER BY relam"""


def test_a_day_that_is_attached_is_like_the_ledger(place: Place) -> None:
    """The same columns and defaults; its indexes are parts of the ledger's; no bound is checked again for each row."""
    *_, last = partitions(place)
    with place.pg() as connection:
        whole = connection.execute(COLUMNS, ("events",)).fetchall()
        assert len(whole) == 8
        assert connection.execute(COLUMNS, (last,)).fetchall() == whole
        indexes = connection.execute(INDEXES, ("events",)).fetchall()
        assert [attached for *_, attached in indexes] == [False, False]
        assert connection.execute(INDEXES, (last,)).fetchall() == [(*same, True) for *same, _ in indexes]
        checked = "SELECT count(*) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'"
        assert connection.execute(checked, (last,)).fetchone() == (0,)


# -- dropping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [WHOLE, TODAY], ids=["of the whole", "of today"])
def test_days_are_dropped_once_a_reader_has_gone_and_epochs_go_on(query: str, place: Place) -> None:
    before, failed = partitions(place), failures("drop")
    with consuming(place, events_keep_days=3):
        with transaction(place, query.format(datetime.now(UTC))):
            eventually(lambda: failures("drop") > failed + 2, timeout=30)
            feed(place)
            feed(place)
            assert partitions(place)[: len(before)] == before, "nothing was dropped"
        eventually(lambda: before[0] not in partitions(place), timeout=30)
        eventually(lambda: partitions(place)[0] == f"events_{datetime.now(UTC) - timedelta(days=3):%Y%m%d}", timeout=30)
        feed(place)
    assert_exact(place)


def test_who_reads_the_whole_ledger_is_found_before_anybody_has_to_wait(place: Place) -> None:
    """Asking for the ledger itself would have every epoch wait behind that for a moment, again and again."""
    with transaction(place, WHOLE), place.pg() as other:
        with pytest.raises(psycopg.errors.LockNotAvailable, match="events_past"):
            other.execute("SELECT drop_day_partitions('events', 3)")
        other.execute("SET lock_timeout = 0")
        with transaction(place, TODAY.format(datetime.now(UTC))), pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT drop_day_partitions('events', 3)")
    with transaction(place, TODAY.format(datetime.now(UTC))), place.pg() as other:
        other.execute("SET lock_timeout = 0")
        with pytest.raises(psycopg.errors.LockNotAvailable, match="lock timeout"):
            other.execute("SELECT drop_day_partitions('events', 3)")


def test_an_event_of_a_day_that_is_dropped_is_a_dead_letter_by_name(place: Place) -> None:
    with consuming(place, events_keep_days=3):
        feed(place)
        eventually(lambda: partitions(place)[0] == f"events_{datetime.now(UTC) - timedelta(days=3):%Y%m%d}", timeout=30)
        place.produce([encoded(timestamp=f"{datetime.now(UTC) - timedelta(days=5):%Y-%m-%dT%H:%M:%SZ}")])
        caught_up(place)
    with place.pg() as connection:
        assert connection.execute("SELECT code FROM dlq_events").fetchall() == [("uncovered",)]


# -- a year of days ---------------------------------------------------------------------------------------------------


@pytest.fixture
def years(place: Place) -> Place:
    """The place with a day partition for each of DAYS days."""
    drop(place, *partitions(place))
    with place.pg() as connection:
        while connection.execute("SELECT make_day_partitions('events', 7, %s)", (DAYS - 9,)).fetchone() != (0,):
            pass
        assert connection.execute("SHOW max_locks_per_transaction").fetchone() == ("64",)
    assert len(partitions(place)) == DAYS
    return place


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many locks each transaction holds at its end: of epochs, and of housekeeping."""
    counted = list[int]()
    advance, step = PostgresSink.advance, Housekeeping.step

    def count(connection: psycopg.Connection) -> None:
        row = connection.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()").fetchone()
        assert row is not None
        counted.append(row[0])

    def advancing(self: PostgresSink, connection: psycopg.Connection, *arguments: Any) -> None:
        advance(self, connection, *arguments)
        count(connection)

    def stepping(self: Housekeeping, *arguments: Any) -> bool:
        with self._held.use() as connection, connection.transaction():
            more = step(self, *arguments)
            count(connection)
        return more

    monkeypatch.setattr(PostgresSink, "advance", advancing)
    monkeypatch.setattr(Housekeeping, "step", stepping)
    return counted


def test_a_year_of_days_costs_an_epoch_with_duplicates_no_locks(years: Place, locks: list[int]) -> None:
    events = [encoded(player_id=f"p{number % 7}") for number in range(200)]
    past = [encoded(timestamp=f"{datetime.now(UTC) - timedelta(days=back):%Y-%m-%dT%H:%M:%SZ}") for back in (90, 200)]
    years.produce([*events, *past])
    consume_all(years)
    years.produce([*events[:100], *past, encoded()])
    with consuming(years, events_keep_days=DAYS - 60):
        caught_up(years)
        eventually(lambda: len(partitions(years)) == DAYS - 60 + 8, timeout=120)
        feed(years)
    assert max(locks) < FEW_LOCKS
    assert len(locks) > 50, "each day that is dropped is a transaction of its own"
    assert_exact(years)


def test_an_epoch_of_history_is_written_in_parts(years: Place, locks: list[int]) -> None:
    """A studio brings its history in the order of players: each epoch has events of every day there is."""
    back = [*range(DAYS - 10)]
    random.Random(1).shuffle(back)
    moments = [datetime.now(UTC) - timedelta(days=days) for days in back]
    history = [encoded(player_id=f"p{n % 9}", timestamp=f"{at:%Y-%m-%dT%H:%M:%SZ}") for n, at in enumerate(moments)]
    years.produce([*history[:300], b"no event", *history[300:], *history[:50]])
    consume_all(years, batch_max_wait_ms=1_000)
    assert len(history) > 3 * postgres.MOST_PARTITIONS
    assert max(locks) < FEW_LOCKS + 5 * postgres.MOST_PARTITIONS
    assert_exact(years)


def history(*, bad: int, refused: int) -> list[tuple[str, bytes]]:
    """Events of every day there is, and amid them, in one partition, no events and such as PostgreSQL refuses."""
    moments = [datetime.now(UTC) - timedelta(days=days) for days in range(DAYS - 10)]
    good = [
        (f"p{n % 9}", encoded(player_id=f"p{n % 9}", timestamp=f"{at:%Y-%m-%dT%H:%M:%SZ}"))
        for n, at in enumerate(moments)
    ]
    refusable = [encoded(player_id="bot", timestamp=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}") for _ in range(refused)]
    return [*good[:200], *(("bot", one) for one in [b"no event"] * bad + refusable), *good[200:]]


@pytest.mark.parametrize(("bad", "refused"), [(240, 0), (0, 240), (120, 120)])
def test_whether_too_many_are_bad_is_asked_of_an_epoch_and_not_of_its_parts(
    years: Place, bad: int, refused: int
) -> None:
    """They lie together: most of one part, and 38 in a hundred of the whole."""
    with years.pg() as connection:
        connection.execute("ALTER TABLE events ADD CONSTRAINT no_bots CHECK (player_id <> 'bot')")
    sent = history(bad=bad, refused=refused)
    years.produce(sent)
    consume_all(years, batch_max_wait_ms=3_000, dlq_halt_count=100)
    with years.pg() as connection:
        for table, count in (("events", len(sent) - bad - refused), ("dlq_events", bad + refused)):
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (count,)


@pytest.mark.parametrize(("bad", "refused"), [(500, 0), (0, 500), (250, 250)])
def test_an_epoch_in_parts_that_is_mostly_bad_halts(years: Place, bad: int, refused: int) -> None:
    with years.pg() as connection:
        connection.execute("ALTER TABLE events ADD CONSTRAINT no_bots CHECK (player_id <> 'bot')")
    years.produce(history(bad=bad, refused=refused))
    with (
        pytest.raises(HaltError, match=r"\d+ of 890 records are bad"),
        consuming(years, batch_max_wait_ms=3_000, dlq_halt_count=100) as consumer,
    ):
        eventually(lambda: ended(consumer), timeout=60)
