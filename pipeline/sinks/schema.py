"""The schema's version: which migrations a database has, against those this package brings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import psycopg

from pipeline.config import Settings
from pipeline.epoch.roles import Role
from pipeline.errors import ConfigurationError, RefusedError
from pipeline.sinks.connection import connect, translated

MIGRATIONS: Final = files("pipeline") / "migrations"
"""The numbered SQL: in a checkout a link to the folder at its top, in an installation a folder of the package."""

_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True, order=True)
class Migration:
    """One numbered file of SQL."""

    version: int
    name: str
    path: Traversable


def known_migrations() -> list[Migration]:
    """Return this package's migrations in order."""
    matches = [(match, path) for path in MIGRATIONS.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(Migration(int(match[1]), match[2], path) for match, path in matches)


def applied_versions(connection: psycopg.Connection) -> set[int]:
    """Return the versions a database has; none if it was never migrated."""
    row = connection.execute("SELECT to_regclass('schema_migrations')").fetchone()
    if row is None or row[0] is None:
        return set()
    return {row[0] for row in connection.execute("SELECT version FROM schema_migrations")}


def check_schema(settings: Settings) -> None:
    """Raise ConfigurationError when the database's schema is behind or ahead of this package."""
    with translated(), connect(settings, "schema-check") as connection:
        versions = applied_versions(connection)
    known = {migration.version for migration in known_migrations()}
    where = f"DB_NAME: the schema of {settings.db_name!r}"
    if missing := known - versions:
        raise ConfigurationError(f"{where} is behind: it lacks {_list(missing)}; run gamemetrics migrate")
    if extra := versions - known:
        raise ConfigurationError(f"{where} is ahead: it has {_list(extra)}, which this version does not know")


def check_rights(settings: Settings, role: Role) -> None:
    """Raise RefusedError naming what the account lacks of the rights that a consumer of this role needs."""
    needed = [one for owner, rights in _RIGHTS.items() if owner in {"", *role.projections} for one in rights]
    needed += [(role.ledger, "SELECT"), (role.ledger, "INSERT")]
    with translated(), connect(settings, "schema-check") as connection:
        rows = connection.execute(_LACKING, ([name for name, _ in needed], [right for _, right in needed])).fetchall()
    if rows:
        lacking = ", ".join(row[0] for row in rows)
        raise RefusedError(f"DB_USER: PostgreSQL denies the account {settings.db_user!r}: {lacking}")


_RIGHTS: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "": (
        ("schema_migrations", "SELECT"),
        ("pipeline_owners", "SELECT"),
        ("pipeline_owners", "INSERT"),
        ("pipeline_owners", "UPDATE"),
        ("pipeline_watermarks", "SELECT"),
        ("pipeline_watermarks", "INSERT"),
        ("pipeline_watermarks", "UPDATE"),
        ("pipeline_outbox", "SELECT"),
        ("pipeline_outbox", "INSERT"),
        ("pipeline_outbox", "DELETE"),
        ("dlq_events", "INSERT"),
        ("day_partitions", "SELECT"),
    ),
    "stats": (
        ("player_event_counts", "SELECT"),
        ("player_event_counts", "INSERT"),
        ("player_event_counts", "UPDATE"),
        ("player_statistics", "SELECT"),
    ),
    "leaderboard": (
        ("leaderboard_daily", "SELECT"),
        ("leaderboard_daily", "INSERT"),
        ("leaderboard_daily", "UPDATE"),
        ("leaderboard_settled", "SELECT"),
        ("leaderboard_settled", "INSERT"),
        ("leaderboard_settled", "UPDATE"),
        ("leaderboard_horizon", "SELECT"),
        ("leaderboard_alltime", "SELECT"),
    ),
}
"""By projection, "" for all of them: what a consumer does to which table."""

_LACKING: Final = (
    "SELECT needed.what || ' on ' || needed.name FROM unnest(%s::text[], %s::text[]) AS needed(name, what)"
    " WHERE NOT has_table_privilege(needed.name, needed.what)"
    " UNION ALL SELECT 'TEMPORARY on database ' || current_database()"
    " WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')"
)


def _list(versions: set[int]) -> str:
    return ", ".join(f"{version:04}" for version in sorted(versions))
