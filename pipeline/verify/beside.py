"""A ledger read a hundred days at a time, so that no transaction of the verifier locks every day partition there is.

What a transaction has locked it keeps until its end. So a second connection reads: of the moment that the first one's
transaction sees, if it must, and each hundred days in a transaction of their own.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import Final, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from pipeline.config import Settings
from pipeline.sinks.connection import connect
from pipeline.verify.by_keys import go_by_keys

DAYS_AT_ONCE: Final = 100
_KNOWN_SECONDS: Final = 60.0


class Run(NamedTuple):
    """The time of some day partitions that follow each other, [start, stop); None: as far as there are any."""

    start: datetime | None
    stop: datetime | None

    def has(self, column: LiteralString) -> sql.Composed:
        """Say in SQL that a time lies in it."""
        name = sql.SQL(column)
        bounds = [sql.SQL("{} >= {}").format(name, sql.Literal(self.start))] if self.start is not None else []
        if self.stop is not None:
            bounds.append(sql.SQL("{} < {}").format(name, sql.Literal(self.stop)))
        return sql.SQL(" AND ").join(bounds) if bounds else sql.Composed([sql.SQL("true")])


class Beside:
    """The second connection, made when first needed. Close it."""

    def __init__(self, settings: Settings, connection: psycopg.Connection, ledger: str) -> None:
        self._settings = settings
        self._first = connection
        self._ledger = ledger
        self._second: psycopg.Connection | None = None
        self._runs: list[Run] = []
        self._known_until = 0.0

    def close(self) -> None:
        """Close the connection."""
        if self._second is not None:
            self._second.close()

    def runs(self) -> list[Run]:
        """Return the runs into which the ledger's days fall; one if there are few.

        The first and the last are open, so that a day made meanwhile is in one.
        """
        if monotonic() > self._known_until:
            rows = self._first.execute(
                "SELECT lower_bound FROM day_partitions WHERE parent = %s::regclass ORDER BY lower_bound",
                (self._ledger,),
            ).fetchall()
            cuts = [None, *(row[0] for row in rows[DAYS_AT_ONCE::DAYS_AT_ONCE]), None]
            self._runs = [Run(start, stop) for start, stop in itertools.pairwise(cuts)]
            self._known_until = monotonic() + _KNOWN_SECONDS
        return self._runs

    @property
    def connection(self) -> psycopg.Connection:
        """The second connection, in no transaction. Raises what `connect` raises."""
        if self._second is None or self._second.closed:
            self._second = connect(self._settings, "gamemetrics-verify")
            go_by_keys(self._second)
        return self._second

    @contextmanager
    def moment(self) -> Iterator[psycopg.Connection]:
        """Have the second connection in a transaction that sees what the first one's, REPEATABLE READ, sees."""
        (name,) = self._first.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
            yield self.connection

    def copy(self, statement: sql.Composed, table: LiteralString) -> None:
        """Put what a query finds, at the first connection's moment, into a temporary table of the first connection."""
        into = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
        with self.moment() as second:
            pipe(second, sql.SQL("COPY ({}) TO STDOUT").format(statement), self._first, into)


def pipe(
    source: psycopg.Connection, out: sql.SQL | sql.Composed, target: psycopg.Connection, into: sql.SQL | sql.Composed
) -> None:
    """Have one connection's COPY ... TO STDOUT be another's COPY ... FROM STDIN."""
    with (
        source.cursor() as reading,
        target.cursor() as writing,
        reading.copy(out) as found,
        writing.copy(into) as put,
    ):
        for block in found:
            put.write(block)
