"""A database of the check's own on a coordinator and its workers, and a place whose PostgreSQL that is."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pipeline.config import Settings, load_settings
from pipeline.sinks.session import address
from tests.place import Place


@dataclass(frozen=True, slots=True)
class Cluster:
    """A coordinator with its workers, and the database of this check at each."""

    settings: Settings
    workers: tuple[tuple[str, int], ...]

    @property
    def nodes(self) -> list[tuple[str, int]]:
        return [(self.settings.db_host, self.settings.db_port), *self.workers]

    def at(self, node: tuple[str, int], database: str = "") -> "psycopg.Connection[psycopg.rows.TupleRow]":
        """Return a connection to a node, in autocommit."""
        host, port = node
        named = {"host": host, "port": port} | ({"dbname": database} if database else {})
        return psycopg.connect(make_conninfo(**{**address(self.settings), **named}), autocommit=True)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """The cluster of DB_HOST with a new database; it fails, and is not skipped, where there is none.

    The coordinator's knows no workers yet.
    """
    if "DB_HOST" not in os.environ:
        pytest.fail("DB_HOST: set it to a coordinator of Citus; see tests/citus/__init__.py")
    settings = load_settings({} if "DB_NAME" in os.environ else {"DB_NAME": "postgres"})
    with psycopg.connect(make_conninfo(**address(settings))) as connection:
        found = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'citus'").fetchone()
        assert found is not None, f"no Citus in the database {settings.db_name!r} at {settings.db_host}"
        workers = connection.execute(
            "SELECT nodename, nodeport FROM pg_dist_node WHERE isactive AND shouldhaveshards AND groupid <> 0"
        ).fetchall()
    assert workers, "the coordinator knows no workers"
    name = f"gamemetrics_check_{secrets.token_hex(4)}"
    named = settings.model_copy(update={"db_name": name})
    made = Cluster(named, tuple((host, port) for host, port in workers))
    try:
        for node in made.nodes:
            with made.at(node, settings.db_name) as connection:
                connection.execute("SET client_min_messages = error")  # it is told that workers have no such database
                connection.execute(_database("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", name))
            with made.at(node) as connection:
                connection.execute("CREATE EXTENSION citus")
        yield made
    finally:
        for node in made.nodes:
            with made.at(node, settings.db_name) as connection:
                connection.execute(_database("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))


@pytest.fixture
def place(place: Place, cluster: Cluster) -> Place:
    """The test's place, its PostgreSQL the coordinator."""
    changes = {name: getattr(cluster.settings, name) for name in Settings.model_fields if name.startswith("db_")}
    return replace(place, settings=place.settings.model_copy(update=changes))


def _database(statement: str, name: str) -> sql.Composed:
    return sql.SQL(statement).format(sql.Identifier(name))
