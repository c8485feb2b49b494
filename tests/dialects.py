"""The ways to add sums to tables. A plain PostgreSQL takes both, so what a distributed one needs is run on it too."""

import pytest
from psycopg import sql

from pipeline.sinks.dialect import DIALECTS, OVERRIDE

IN_BOTH_DIALECTS = pytest.mark.parametrize("dialect", DIALECTS)
"""A test's places, or a module's: once with each."""


def override(database: str, dialect: str) -> sql.Composed:
    """Return the statement that names a database's dialect for its next sessions."""
    return sql.SQL("ALTER DATABASE {} SET {} = {}").format(
        sql.Identifier(database), sql.SQL(OVERRIDE), sql.Literal(dialect)
    )
