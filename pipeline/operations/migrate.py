"""`gamemetrics migrate`: applies the numbered SQL of migrations/ under a lock, and makes the day partitions."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from pipeline.config import Settings
from pipeline.errors import UnavailableError
from pipeline.sinks.connection import connect, translated
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
    """What a run did: migrations applied now, partitions made now, and which of the guide's tables exist."""

    applied: list[str]
    partitions: int
    tables: dict[str, bool]


def migrate(settings: Settings) -> Migrated:
    """Bring the schema up to date; each migration is one transaction. Several may run at once: they wait in line.

    Raises ConfigurationError when the database is ahead, UnavailableError when PostgreSQL is away or refuses a
    statement; migrations before the refused one stay applied.
    """
    with translated(), connect(settings, "migrate") as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        connection.execute(_HISTORY)
        done = applied_versions(connection)
        pending = [migration for migration in known_migrations() if migration.version not in done]
        for migration in pending:
            _apply(connection, migration)
        partitions = _make_partitions(connection, settings.partition_days_ahead)
        tables = {table: _exists(connection, table) for table in GUIDE_TABLES}
    check_schema(settings)
    return Migrated([f"{one.version:04}_{one.name}" for one in pending], partitions, tables)


def _apply(connection: psycopg.Connection, migration: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(migration.path.read_bytes())
            connection.execute(
                "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)", (migration.version, migration.name)
            )
    except psycopg.Error as error:
        raise UnavailableError(f"PostgreSQL: {migration.path.name} was undone: {str(error).strip()}") from error


def _make_partitions(connection: psycopg.Connection, ahead: int) -> int:
    """Make them, a few in each transaction, for its locks are kept to its end; returns how many.

    Where somebody is in the way they are left to the consumers: a rollout does not wait for that.
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
