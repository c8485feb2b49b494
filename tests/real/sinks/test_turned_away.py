"""PostgreSQL turns a connection away, in whatever language: told by the setting, at the start and while running."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from pipeline.errors import ConfigurationError, RefusedError, UnavailableError
from pipeline.sinks.connection import connect
from tests.chaos.proxy import Proxy
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consuming
from tests.debian import pgbouncer
from tests.place import Place
from tests.real.sinks.test_sessions import LEAST, administer, limited, run, send
from tests.waiting import eventually

pytestmark = pytest.mark.real

REFUSALS = {
    "no login": (
        "ALTER ROLE {role} NOLOGIN",
        "DB_USER, DB_PASSWORD: .*not permitted to log in",
        (b"is not permitted to log in", b"darf sich nicht anmelden".ljust(26, b"!")),
    ),
    "another password": (
        "ALTER ROLE {role} PASSWORD 'another'",
        "DB_USER, DB_PASSWORD: .*password authentication failed",
        (b"password authentication failed", "пароль не принят".encode().ljust(30, b"!")),
    ),
    "a database that takes no connections": (
        "ALTER DATABASE {database} ALLOW_CONNECTIONS false",
        "DB_NAME: .*not currently accepting connections",
        (b"is not currently accepting connections", "データベース".encode().ljust(38, b"!")),
    ),
    "no right to connect": (
        "REVOKE CONNECT ON DATABASE {database} FROM {role}",
        "DB_USER, DB_NAME: .*permission denied for database",
        (b"permission denied for database", "droit refusé".encode().ljust(30, b"!")),
    ),
    "another name of the database": (
        "ALTER DATABASE {database} RENAME TO {elsewhere}",
        "DB_NAME: .*does not exist",
        (b"does not exist", b"no existe".ljust(14, b"!")),
    ),
}
"""What is done, what is told, and how servers of other languages say it."""


@contextmanager
def refusing(place: Place, statement: str) -> Iterator[Place]:
    """The place by an account of its own, once a statement has shut it out."""
    database = place.settings.db_name
    elsewhere = f"{database}_elsewhere"
    with limited(place, LEAST) as shut:
        superuser = place.stack.postgres.admin_dsn()
        names = {"role": shut.settings.db_user, "database": database, "elsewhere": elsewhere}
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(**{one: sql.Identifier(name) for one, name in names.items()}))
            try:
                yield shut
            finally:
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (elsewhere,)).fetchone():
                    back = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                    connection.execute(back.format(sql.Identifier(elsewhere), sql.Identifier(database)))
                open_again = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true")
                connection.execute(open_again.format(sql.Identifier(database)))


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_no_waiting_mends_is_told_by_the_setting_in_every_language(refusal: str, place: Place) -> None:
    statement, told, (english, another) = REFUSALS[refusal]
    assert len(english) == len(another)
    with refusing(place, statement) as shut, Proxy(shut.settings.db_port, told=(english, another)) as abroad:
        with pytest.raises(RefusedError, match=told):
            connect(shut.settings, "test")
        setting = told.partition(":")[0]
        with pytest.raises(RefusedError, match=rf"^{setting}: ") as refused:
            connect(shut.settings.model_copy(update={"db_port": abroad.port}), "test")
        assert another.decode() in str(refused.value), "it is told in the server's words"


def test_a_start_ends_for_it(place: Place) -> None:
    with (
        refusing(place, "ALTER ROLE {role} NOLOGIN") as shut,
        pytest.raises(ConfigurationError, match=r"DB_USER, DB_PASSWORD: .*log in"),
    ):
        run(shut)


def test_what_passes_is_waited_for(place: Place) -> None:
    """In no language is it taken for a refusal."""
    full = (b"too many connections for role", b"zu viele Verbindungen".ljust(29, b"!"))
    with (
        refusing(place, "ALTER ROLE {role} CONNECTION LIMIT 0") as shut,
        Proxy(shut.settings.db_port, told=full) as abroad,
    ):
        for port in (shut.settings.db_port, abroad.port):
            with pytest.raises(UnavailableError) as raised:
                connect(shut.settings.model_copy(update={"db_port": port}), "test")
            assert not isinstance(raised.value, RefusedError), raised.value


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"db_name": "nowhere"}, "DB_NAME: .*no such database"),
        ({"db_user": "nobody"}, "DB_USER, DB_PASSWORD: "),
        ({"db_password": SecretStr("wrong")}, "DB_USER, DB_PASSWORD: "),
    ],
)
def test_a_poolers_refusals_are_told_too(changes: dict[str, object], told: str, place: Place) -> None:
    found = place.settings
    account = (found.db_user, found.db_password.get_secret_value())
    with (
        tempfile.TemporaryDirectory(prefix="gamemetrics-pooler-") as directory,
        pgbouncer(Path(directory), found.db_port, account, database=found.db_name) as port,
    ):
        connect(found.model_copy(update={"db_port": port}), "test").close()
        with pytest.raises(RefusedError, match=told):
            connect(found.model_copy(update={"db_port": port, **changes}), "test")


def test_a_right_to_connect_taken_away_while_running_is_told_and_waited_for(place: Place) -> None:
    send(place, 20)
    with limited(place, LEAST) as least, consuming(least) as consumer:
        caught_up(place)
        names = (sql.Identifier(place.settings.db_name), sql.Identifier(least.settings.db_user))
        administer(place, sql.SQL("REVOKE CONNECT ON DATABASE {} FROM {}").format(*names))
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}"
        administer(place, sql.SQL(ended).format(sql.Literal(least.settings.db_user)))
        send(place, 20)
        eventually(lambda: "DB_USER, DB_NAME: " in str(consumer.health.ready()[1]), timeout=30)
        assert not consumer.health.ready()[0]
        assert consumer.health.live()[0]
        administer(place, sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(*names))
        caught_up(place)
        eventually(lambda: consumer.health.ready()[0])
    assert_exact(place)
