"""`gamemetrics migrate`: applies the numbered SQL of migrations/ under a lock, and makes the day partitions.

On a server with Citus it also spreads the tables over its workers, when asked to.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.sinks.connection import connect, translated
from pipeline.sinks.dialect import SHARD_KEY, SHARDED, spread
from pipeline.sinks.schema import Migration, applied_versions, check_schema, known_migrations

MIGRATION_LOCK: Final = 0x6D696772
GUIDE_TABLES: Final = ("events", "player_statistics", "leaderboards", "dlq_events")
LEDGERS: Final = ("events", "stats_ledger", "leaderboard_ledger")

_HISTORY: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations"
    " (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
)


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a run did: migrations applied, partitions made, tables distributed now, and which of the guide's exist."""

    applied: list[str]
    partitions: int
    tables: dict[str, bool]
    distributed: list[str]


def migrate(settings: Settings, *, distribute: bool = False) -> Migrated:
    """Bring the schema up to date; each migration is one transaction. Several may run at once: they wait in line.

    Raises ConfigurationError when the database is ahead, or is to be distributed and cannot be (then nothing is done);
    UnavailableError when PostgreSQL is away or refuses a statement; what was done before that stays done.
    """
    with translated(), connect(settings, "migrate") as connection:
        if distribute:
            _require_workers(connection, settings)
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        connection.execute(_HISTORY)
        done = applied_versions(connection)
        pending = [migration for migration in known_migrations() if migration.version not in done]
        for migration in pending:
            _apply(connection, migration)
        # Before the partitions are made, so that these are made where they belong.
        distributed = _distribute(connection) if distribute else []
        partitions = _make_partitions(connection, settings.partition_days_ahead)
        tables = {table: _exists(connection, table) for table in GUIDE_TABLES}
    check_schema(settings)
    return Migrated([f"{one.version:04}_{one.name}" for one in pending], partitions, tables, distributed)


def _apply(connection: psycopg.Connection, migration: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(migration.path.read_bytes())
            connection.execute(
                "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)", (migration.version, migration.name)
            )
    except psycopg.Error as error:
        raise UnavailableError(f"PostgreSQL: {migration.path.name} was undone: {str(error).strip()}") from error


def _require_workers(connection: psycopg.Connection, settings: Settings) -> None:
    """Raise ConfigurationError that says what the server lacks for its tables to be distributed."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'),"
        " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citus')"
    ).fetchone()
    made, available = row if row is not None else (False, False)
    if not available:
        raise ConfigurationError(
            f"DB_HOST: PostgreSQL at {settings.db_host}:{settings.db_port} has no Citus, so its tables cannot be "
            f"distributed. Install Citus on it and on its workers (shared_preload_libraries = 'citus'), or migrate "
            f"without --distribute: one PostgreSQL needs it for nothing"
        )
    if not made:
        raise ConfigurationError(
            f"DB_NAME: the database {settings.db_name!r} has no extension citus: as a superuser, CREATE EXTENSION "
            f"citus in it here, and in the database of that name on each worker; then SELECT "
            f"citus_add_node('<worker>', 5432) for each"
        )
    row = connection.execute("SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards").fetchone()
    if row is None or not row[0]:
        raise ConfigurationError(
            f"DB_NAME: the database {settings.db_name!r} has no workers to distribute to: as a superuser, "
            f"SELECT citus_add_node('<worker>', 5432) for each"
        )


def _distribute(connection: psycopg.Connection) -> list[str]:
    """Spread the tables that are not yet, with the rows in them; returns which.

    Each is a transaction: if one fails, those before it are distributed, and the next run goes on.
    """
    done = set(spread(connection))
    first, *others = SHARDED
    for table in SHARDED:
        if table in done:
            continue
        beside = first if table in others else "none"
        with connection.transaction():
            connection.execute(
                "SELECT create_distributed_table(%s::regclass, %s, colocate_with => %s)", (table, SHARD_KEY, beside)
            )
            # The rows were copied, and those here are neither read nor freed.
            connection.execute("SELECT truncate_local_data_after_distributing_table(%s::regclass)", (table,))
    return [table for table in SHARDED if table not in done]


def _make_partitions(connection: psycopg.Connection, ahead: int) -> int:
    """Make them, a few in each transaction, for its locks are kept to its end; returns how many.

    If somebody is in the way they are left to the consumers: a rollout does not wait for that.
    """
    made = 0
    for ledger in LEDGERS:
        statement = sql.SQL("SELECT make_day_partitions({}, %s)").format(sql.Literal(ledger))
        with suppress(psycopg.errors.LockNotAvailable):
            while (row := connection.execute(statement, (ahead,)).fetchone()) is not None and row[0]:
                made += row[0]
    return made


def _exists(connection: psycopg.Connection, table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return row is not None and bool(row[0])
