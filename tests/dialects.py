"""The ways to add sums to tables. A plain PostgreSQL takes both, so what a distributed one needs is run on it too."""

import psycopg
import pytest
from psycopg import sql

from pipeline.local.stack import Stack
from pipeline.sinks.dialect import DIALECTS, OVERRIDE

IN_BOTH_DIALECTS = pytest.mark.parametrize("dialect", DIALECTS)
"""A test's places, or a module's: once with each."""


def override(stack: Stack, database: str, dialect: str) -> None:
    """Name a database's dialect for its next sessions, of which process whatsoever."""
    with psycopg.connect(stack.postgres.admin_dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(database), sql.SQL(OVERRIDE), sql.Literal(dialect)
            )
        )
