"""The schema's version: which migrations a database has, against those this package brings."""

import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import psycopg

from pipeline.config import Settings
from pipeline.errors import ConfigurationError
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
    """Return the versions a database has; none where it was never migrated."""
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


def _list(versions: set[int]) -> str:
    return ", ".join(f"{version:04}" for version in sorted(versions))
