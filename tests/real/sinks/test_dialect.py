"""The dialects on a plain PostgreSQL: which is taken, that both add alike, and what a server without Citus is told."""

import json
import re
import threading
from typing import Any

import psycopg
import pytest

from pipeline.errors import ConfigurationError
from pipeline.sinks.dialect import DIALECTS, DISTRIBUTED, OVERRIDE, PLAIN, Dialect, await_workers, dialect_of
from tests.commanding import gamemetrics, told
from tests.consuming import consume_all
from tests.dialects import IN_BOTH_DIALECTS, override
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

STAGE = (
    'CREATE TEMPORARY TABLE added_counts (player_id text COLLATE "C", event_type text COLLATE "C", events bigint,'
    " last_event timestamptz);"
    'CREATE TEMPORARY TABLE added_days (game_id text COLLATE "C", day date, player_id text COLLATE "C", score numeric)'
)

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def kept(connection: psycopg.Connection[Any]) -> list[list[tuple[Any, ...]]]:
    """Whatever the three statements write, with `updated_at` as whether it is that of this transaction."""
    return [
        connection.execute("SELECT *, last_event::text FROM player_event_counts ORDER BY 1, 2").fetchall(),
        connection.execute(
            "SELECT game_id, day, player_id, score, updated_at = now() FROM leaderboard_daily ORDER BY 1, 2, 3"
        ).fetchall(),
        connection.execute(
            "SELECT game_id, player_id, score, updated_at = now() FROM leaderboard_settled ORDER BY 1, 2"
        ).fetchall(),
    ]


def add(connection: psycopg.Connection[Any], dialect: Dialect, times: int) -> None:
    connection.execute(
        "TRUNCATE added_counts, added_days; INSERT INTO added_counts"
        f" VALUES ('p', 'login', {times}, '2026-01-0{times}'), ('q{times}', 'login', 1, '2026-01-05');"
        " INSERT INTO added_days VALUES ('g', '2026-01-01', 'p', 5), ('g', '2026-01-02', 'p', 7),"
        f" ('g', '2026-02-01', 'p', 9), ('g', '2026-01-01', 'q{times}', -3)".encode()
    )
    for statement in (dialect.counts, dialect.days, dialect.settled):
        connection.execute(statement)


def test_both_dialects_leave_the_same_rows(place: Place) -> None:
    found = {}
    for dialect in DIALECTS.values():
        with place.pg() as connection, connection.transaction(force_rollback=True):
            connection.execute("UPDATE leaderboard_horizon SET settled_before = '2026-01-31'")
            connection.execute(STAGE)
            for times in (2, 1, 3):
                add(connection, dialect, times)
            found[dialect.name] = kept(connection)
    assert found["plain"] == found["distributed"]
    counts, days, settled = found["plain"]
    assert [row[2] for row in counts] == [6, 1, 1, 1]
    assert counts[0][4].startswith("2026-01-03")
    assert ("g", "p", 36, True) in settled, "both days before the horizon, three times"
    assert len(days) == 6


def test_the_distributed_one_does_not_trip_over_another_session(place: Place) -> None:
    """MERGE raises unique_violation, for which the epoch is written again."""
    with place.pg() as one, place.pg() as other:
        for connection in (one, other):
            connection.execute(STAGE)
            connection.execute("INSERT INTO added_counts VALUES ('p', 'login', 1, now())")
        raised = list[Exception]()

        def second() -> None:
            try:
                other.execute(DISTRIBUTED.counts)
            except psycopg.Error as error:
                raised.append(error)

        thread = threading.Thread(target=second)
        with one.transaction():
            one.execute(DISTRIBUTED.counts)
            thread.start()
            with place.pg() as watching:
                eventually(lambda: watching.execute(WAITING).fetchone() == (1,))
        thread.join(30)
        assert not raised
        assert one.execute("SELECT events FROM player_event_counts").fetchall() == [(2,)]


@pytest.mark.parametrize("statement", [DISTRIBUTED.counts, DISTRIBUTED.days, DISTRIBUTED.settled])
def test_nothing_of_the_moment_is_set_in_the_distributed_one(statement: str) -> None:
    head, _, settings = statement.partition("DO UPDATE")
    assert head.lstrip().startswith("INSERT INTO")
    assert set(re.findall(r"(\w+)\(", settings)) <= {"greatest"}


def test_a_plain_server_is_told_by_itself_and_the_database_may_say_otherwise(place: Place) -> None:
    with place.pg() as connection:
        assert dialect_of(connection) is PLAIN
        await_workers(connection)
        override(place.stack, place.settings.db_name, "distributed")
    with place.pg() as connection:
        assert dialect_of(connection) is DISTRIBUTED
        override(place.stack, place.settings.db_name, "spread")
    with place.pg() as connection, pytest.raises(ConfigurationError, match=rf"{OVERRIDE} .* is 'spread'; it is one of"):
        dialect_of(connection)


@IN_BOTH_DIALECTS
def test_the_sink_uses_the_dialect_of_its_connection(place: Place, dialect: str) -> None:
    """ON CONFLICT DO UPDATE fires BEFORE INSERT for a row that is there already; MERGE does not."""
    place.produce([encoded(player_id="p")], partition=0)
    consume_all(place)
    with place.pg() as connection:
        connection.execute(
            "CREATE TABLE fired (); CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
            " 'BEGIN INSERT INTO fired DEFAULT VALUES; RETURN NEW; END';"
            " CREATE TRIGGER fire BEFORE INSERT ON player_event_counts FOR EACH ROW EXECUTE FUNCTION fire();"
            " CREATE TRIGGER fire BEFORE INSERT ON leaderboard_daily FOR EACH ROW EXECUTE FUNCTION fire()"
        )
        place.produce([encoded(player_id="p")], partition=0)
        consume_all(place)
        fired = connection.execute("SELECT count(*) FROM fired").fetchone()
    assert fired == ({"plain": 0, "distributed": 2}[dialect],)


def test_a_server_without_citus_is_not_distributed_and_says_what_to_do(place: Place) -> None:
    with place.pg() as connection:
        connection.execute("DELETE FROM schema_migrations WHERE name = 'distributed'")
        refused = gamemetrics(place, "migrate", "--distribute")
        assert refused.returncode == 2
        assert "has no Citus" in refused.stderr
        assert "without --distribute" in refused.stderr
        left = connection.execute("SELECT count(*) FROM schema_migrations WHERE name = 'distributed'").fetchone()
        assert left == (0,), "nothing is done before that is known"
    code, done = told(place, "migrate")
    assert code == 0
    assert [name.partition("_")[2] for name in done["applied"]] == ["distributed"]
    assert "distributed" not in done, json.dumps(done)
