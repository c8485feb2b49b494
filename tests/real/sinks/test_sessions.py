"""PostgreSQL as others run it: settings of roles and databases, poolers, standbys, encodings, missing rights."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.roles import ROLES
from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.sinks import level, refill, session
from pipeline.sinks.connection import Held, connect
from tests.chaos.proxy import Proxy
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consume_all, consuming, settings_of
from tests.debian import pgbouncer
from tests.edges import EVENT, EdgeUnderTest, running_edge
from tests.events import encoded
from tests.place import Place
from tests.standby import standby
from tests.waiting import eventually

pytestmark = pytest.mark.real

HOSTILE = {
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "extra_float_digits": "-5",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "2s",
    "idle_session_timeout": "2s",
    "transaction_timeout": "2s",
    "lock_timeout": "2s",
    "client_min_messages": "error",
}
"""What a database may say that a session of its begins with."""

LEAST = {
    "schema_migrations": "SELECT",
    "pipeline_owners": "SELECT, INSERT, UPDATE",
    "pipeline_watermarks": "SELECT, INSERT, UPDATE",
    "pipeline_outbox": "SELECT, INSERT, DELETE",
    "dlq_events": "INSERT",
    "day_partitions": "SELECT",
    "events": "SELECT, INSERT",
    "player_event_counts": "SELECT, INSERT, UPDATE",
    "player_statistics": "SELECT",
    "leaderboard_daily": "SELECT, INSERT, UPDATE",
    "leaderboard_settled": "SELECT, INSERT, UPDATE",
    "leaderboard_horizon": "SELECT",
    "leaderboard_alltime": "SELECT",
}
"""What docs/deploy.md says the account of a consumer needs, beside TEMPORARY on the database."""

READS = {"api_keys": "SELECT", "player_statistics": "SELECT", "leaderboards": "SELECT"}
"""And the API's."""


def send(place: Place, count: int) -> None:
    place.produce([(f"Zoë{n % 5}", encoded(player_id=f"Zoë{n % 5}", data={"score": n})) for n in range(count)])
    place.produce([b"no event", (None, b"\xff")])


def administer(place: Place, statement: sql.Composed) -> None:
    with psycopg.connect(place.stack.postgres.admin_dsn(place.settings.db_name), autocommit=True) as connection:
        connection.execute(statement)


@contextmanager
def hostile(place: Place) -> Iterator[None]:
    """Have each new session of the place's database begin with these settings until the block ends."""
    name = sql.Identifier(place.settings.db_name)
    with psycopg.connect(place.stack.postgres.admin_dsn(), autocommit=True) as connection:
        for setting, value in HOSTILE.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value))
            )
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))


@contextmanager
def pooled(place: Place, **settings: str) -> Iterator[Place]:
    """Put a pooler between the pipeline and the place's database."""
    found = place.settings
    with tempfile.TemporaryDirectory(prefix="gamemetrics-pooler-") as directory:
        account = (found.db_user, found.db_password.get_secret_value())
        with pgbouncer(Path(directory), found.db_port, account, **settings) as port:
            yield replace(place, settings=found.model_copy(update={"db_port": port}))


@contextmanager
def limited(place: Place, rights: dict[str, str]) -> Iterator[Place]:
    """The place with an account of PostgreSQL that has these rights to tables, and TEMPORARY, and no others."""
    name, password = f"limited_{secrets.token_hex(4)}", secrets.token_hex(8)
    role, database = sql.Identifier(name), sql.Identifier(place.settings.db_name)
    administer(place, sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
    administer(place, sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    administer(place, sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, role))
    for table, granted in rights.items():
        administer(place, sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(granted), sql.Identifier(table), role))
    changes = {"db_user": name, "db_password": SecretStr(password)}
    try:
        yield replace(place, settings=place.settings.model_copy(update=changes))
    finally:
        administer(place, sql.SQL("DROP OWNED BY {}").format(role))
        administer(place, sql.SQL("DROP ROLE {}").format(role))


def run(place: Place) -> None:
    EventConsumer(settings_of(place), ROLES["all"]).run()


def edge_at(place: Place) -> dict[str, str]:
    """The environment by which the edge finds the place's PostgreSQL."""
    found = place.settings
    return {
        "DB_PORT": str(found.db_port),
        "DB_NAME": found.db_name,
        "DB_USER": found.db_user,
        "DB_PASSWORD": found.db_password.get_secret_value(),
    }


@contextmanager
def reading(place: Place) -> Iterator[EdgeUnderTest]:
    """An edge at the place's PostgreSQL that has no Redis."""
    found = edge_at(place)
    with running_edge(place, REDIS_PORT="1", DB_USER=found["DB_USER"], DB_PASSWORD=found["DB_PASSWORD"]) as edge:
        yield edge


# -- settings of the session -------------------------------------------------------------------------------------------


def test_no_setting_of_the_database_changes_what_is_counted_or_read(place: Place) -> None:
    send(place, 30)
    with hostile(place):
        with connect(place.settings, "test") as connection:
            assert connection.info.timezone.utcoffset(None) is not None
            found: dict[str, str] = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
        for name, value in {**session.MEANING, "transaction_timeout": "0"}.items():
            assert found[name] == value, name
        consume_all(place)
        with running_edge(place, REDIS_PORT="1") as edge:  # read from PostgreSQL
            last = edge.get("/api/v1/players/Zo%C3%AB0/stats").json()["last_event"]
    assert_exact(place)
    with place.redis() as client:
        kept = client.hget("player_stats:Zoë0", "last_event")
    assert isinstance(kept, bytes)
    assert last == kept.decode()


@pytest.mark.parametrize("ignored", ["", "options"])
def test_a_pooler_of_sessions_may_stand_before_it(ignored: str, place: Place) -> None:
    """By default it refuses a connection with `options`; told to ignore them it drops what they ask for."""
    send(place, 30)
    ignoring = {"ignore_startup_parameters": ignored} if ignored else {}
    with hostile(place), pooled(place, **ignoring) as behind:
        consume_all(behind)
        with running_edge(place, DB_PORT=str(behind.settings.db_port)) as edge:
            assert edge.send(EVENT).status == 200
    consume_all(place)  # what the edge took
    assert_exact(place)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_does_not_hold_every_text_is_refused_by_name(encoding: str, place: Place) -> None:
    name = f"{place.settings.db_name}_{encoding.lower()}"
    administer(place, sql.SQL(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LOCALE_PROVIDER libc LOCALE 'C'"
    ).format(sql.Identifier(name), sql.Identifier(place.settings.db_user), sql.Literal(encoding)))  # fmt: skip
    elsewhere = replace(place, settings=place.settings.model_copy(update={"db_name": name}))
    try:
        with pytest.raises(ConfigurationError, match=rf"DB_NAME: .*{encoding}.*ENCODING 'UTF8'"):
            run(elsewhere)
        code, said = EdgeUnderTest(place, **edge_at(elsewhere)).refused()
        assert (code, encoding in said) == (2, True), said
    finally:
        administer(place, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


# -- rights ------------------------------------------------------------------------------------------------------------


def test_the_least_rights_are_enough(place: Place) -> None:
    send(place, 30)
    with limited(place, LEAST) as least:
        consume_all(least)
        with place.redis() as client:
            client.flushdb()
        consume_all(least)
    assert_exact(place)
    with limited(place, READS) as least, reading(least) as edge:
        assert edge.send(EVENT).status == 200
        assert edge.get("/api/v1/players/Zo%C3%AB0/stats").status == 200
        assert edge.get("/api/v1/leaderboards/game-1").status in {200, 404}


@pytest.mark.parametrize("table", sorted(LEAST))
def test_a_missing_right_stops_the_start_by_name(table: str, place: Place) -> None:
    others = {name: rights for name, rights in LEAST.items() if name != table}
    with limited(place, others) as least, pytest.raises(ConfigurationError, match=rf"DB_USER: .*{table}"):
        run(least)


def test_the_api_says_at_the_start_that_it_may_not_read_the_keys(place: Place) -> None:
    with limited(place, {}) as least:
        code, said = EdgeUnderTest(place, **edge_at(least)).refused()
    assert code == 2
    assert "DB_USER" in said
    assert "api_keys" in said


def test_a_right_taken_away_while_running_is_told_and_waited_for(place: Place) -> None:
    send(place, 20)
    owner = sql.Identifier(place.settings.db_user)
    with consuming(place) as consumer:
        caught_up(place)
        administer(place, sql.SQL("REVOKE INSERT ON events FROM {}").format(owner))
        send(place, 20)
        eventually(lambda: "permission denied for table events" in str(consumer.health.ready()[1]), timeout=30)
        assert not consumer.health.ready()[0]
        assert consumer.health.live()[0]
        administer(place, sql.SQL("GRANT INSERT ON events TO {}").format(owner))
        caught_up(place)
        eventually(lambda: consumer.health.ready()[0])
    assert_exact(place)


# -- wrong servers -----------------------------------------------------------------------------------------------------


def test_a_standby_is_no_place_to_write_or_to_lock(place: Place) -> None:
    """And the consumer that a name leads to one for a while goes on once it leads to the primary again."""
    send(place, 20)
    with tempfile.TemporaryDirectory(prefix="gamemetrics-standby-") as directory, Proxy(place.settings.db_port) as name:
        Path(directory).chmod(0o711)
        behind = replace(place, settings=place.settings.model_copy(update={"db_port": name.port}))
        with standby(place.stack, Path(directory)) as port, consuming(behind) as consumer:
            with pytest.raises(UnavailableError, match="standby"):
                connect(place.settings.model_copy(update={"db_port": port}), "test")
            caught_up(place)
            name.redirect(port)
            name.reset()
            send(place, 20)
            eventually(lambda: "standby" in str(consumer.health.ready()[1]), timeout=30)
            assert consumer.health.live()[0]
            name.redirect(place.settings.db_port)
            caught_up(place)
    assert_exact(place)


def test_whatever_a_server_says_to_a_statement_costs_the_connection(place: Place) -> None:
    """A connection that stands may lead to a server that is read only now, and an error is how one learns it."""
    with closing(Held(place.settings, "test")) as held:
        with held.use() as connection:
            first = connection.info.backend_pid
            connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(UnavailableError, match="read-only"), held.use() as connection:
            connection.execute("CREATE TABLE made ()")
        with held.use() as connection:
            assert connection.info.backend_pid != first
            connection.execute("CREATE TABLE made ()")


def test_marks_and_counters_of_a_refill_are_of_one_moment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch written in the middle of one is paid once, whatever became of the lock: at a standby it holds nobody."""
    monkeypatch.setattr(level, "CACHE_LOCK", 1)
    original, met = refill.refill, list[bool]()

    def meanwhile(connection: Any, client: Any, plan: Any) -> int:
        if not met:
            met.append(True)
            before = written(place)
            send(place, 20)
            eventually(lambda: written(place) > before, timeout=30)
        return original(connection, client, plan)

    with consuming(place):
        send(place, 20)
        caught_up(place)
        monkeypatch.setattr(level, "refill", meanwhile)
        with place.redis() as client:
            client.flushdb()
        place.produce([encoded()])  # one epoch, so that what is written while it is mended has events
        eventually(lambda: met, timeout=40)
        caught_up(place)
    assert_exact(place)


def written(place: Place) -> int:
    with place.pg() as connection:
        row = connection.execute("SELECT sum(next_offset) FROM pipeline_watermarks").fetchone()
    assert row is not None
    return int(row[0])
