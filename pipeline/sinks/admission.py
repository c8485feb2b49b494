"""Admission: copies events into the ledger and learns which of them are new.

The ledger's primary key is the identity of an event. Nearly every epoch is all new, so it is copied straight in, under
a savepoint; the key's refusal is how a duplicate is met. Only then is it asked which identities are known, and the rest
copied again.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
import psycopg
from psycopg import errors, sql

from pipeline.epoch.epoch import Epoch, encode_ledger, reject
from pipeline.epoch.frame import IDENTITY, encode_copy
from pipeline.epoch.rejected import Rejected
from pipeline.epoch.roles import Role
from pipeline.errors import UnavailableError
from pipeline.sinks.connection import copy_in

_MAX_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Admitted:
    """The events that are new, those PostgreSQL would not take, and whether all of the epoch's events are new."""

    events: pl.DataFrame
    refused: list[Rejected]
    all_new: bool


class Admission:
    """Admits the events of one role's ledger. Between epochs it remembers only whether duplicates are about."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._expect_duplicates = False
        self._from: datetime | None = None
        self._until: datetime | None = None
        columns = sql.SQL(", ").join(map(sql.Identifier, role.ledger_columns))
        self._target = sql.SQL("{} ({})").format(sql.Identifier(role.ledger), columns)
        self._known = sql.SQL(
            "SELECT row FROM asked_identities AS asked WHERE EXISTS (SELECT FROM {} AS kept"
            " WHERE kept.player_id = asked.player_id AND kept.event_timestamp = asked.event_timestamp"
            " AND kept.event_id = asked.event_id)"
        ).format(sql.Identifier(role.ledger))

    def cover(self, start: datetime | None, end: datetime | None) -> None:
        """Set the days that the ledger has partitions for, as [start, end)."""
        self._from, self._until = start, end

    def stage(self, connection: psycopg.Connection) -> None:
        """Make the temporary table of a new connection."""
        connection.execute(
            'CREATE TEMPORARY TABLE IF NOT EXISTS asked_identities (row bigint, player_id text COLLATE "C",'
            " event_timestamp timestamptz, event_id uuid) ON COMMIT DELETE ROWS"
        )

    def admit(self, connection: psycopg.Connection, epoch: Epoch) -> Admitted:
        """Copy the epoch's new events into the ledger, within the caller's transaction."""
        inside, refused = self._within_days(epoch.events, epoch.records)
        events, others = inside, list[Rejected]()
        if len(inside):
            events, others = self._attempt(connection, inside, epoch.records)
            self._expect_duplicates = len(events) + len(others) < len(inside)
        return Admitted(events, refused + others, all_new=len(events) == len(epoch.events))

    def _within_days(self, events: pl.DataFrame, records: pl.DataFrame) -> tuple[pl.DataFrame, list[Rejected]]:
        """Set aside events of days that have no partition: dropped by retention, or further ahead than is made."""
        if self._from is None or self._until is None:
            return events, []
        inside = pl.col("event_timestamp").is_between(self._from, self._until, closed="left")
        outside = events.filter(~inside)
        if not len(outside):
            return events, []
        reason = f"timestamp: no partition holds it; the ledger covers {self._from:%Y-%m-%d} to {self._until:%Y-%m-%d}"
        return events.filter(inside), reject(outside, records, reason, "uncovered")

    def _attempt(
        self, connection: psycopg.Connection, events: pl.DataFrame, records: pl.DataFrame
    ) -> tuple[pl.DataFrame, list[Rejected]]:
        """Copy, dropping known identities when the key refuses and halving when a row is; returns new and refused."""
        remaining = self._drop_known(connection, events) if self._expect_duplicates else events
        for _ in range(_MAX_ATTEMPTS):
            if not len(remaining):
                return remaining, []
            try:
                self._copy_in(connection, remaining)
            except errors.UniqueViolation:
                remaining = self._drop_known(connection, remaining)
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                return self._halve(connection, remaining, records, error)
            else:
                return remaining, []
        # Each round another session committed one of our identities first; let it finish.
        raise UnavailableError("PostgreSQL: identities are being admitted elsewhere at the same time")

    def _copy_in(self, connection: psycopg.Connection, events: pl.DataFrame) -> None:
        with connection.transaction():
            copy_in(connection, self._target, encode_ledger(events, self._role))

    def _drop_known(self, connection: psycopg.Connection, events: pl.DataFrame) -> pl.DataFrame:
        """Keep the first of each identity, less the identities that the ledger holds."""
        distinct = _in_order(events).unique(IDENTITY, keep="first", maintain_order=True)
        asked = distinct.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), *IDENTITY)
        connection.execute("TRUNCATE asked_identities")
        copy_in(connection, sql.Identifier("asked_identities"), encode_copy(asked))
        known = connection.execute(self._known).fetchall()
        if not known:
            return distinct if len(distinct) < len(events) else events
        rows = pl.Series([row[0] for row in known], dtype=pl.Int64)
        return distinct.filter(~pl.int_range(pl.len(), dtype=pl.Int64).is_in(rows.implode()))

    def _halve(
        self, connection: psycopg.Connection, events: pl.DataFrame, records: pl.DataFrame, error: psycopg.Error
    ) -> tuple[pl.DataFrame, list[Rejected]]:
        """Find the rows PostgreSQL refuses by copying ever smaller halves; all others are admitted."""
        if len(events) == 1:
            detail = error.diag.message_primary or str(error)
            return events.clear(), reject(events, records, f"PostgreSQL refused the event: {detail}", "refused")
        events = _in_order(events)
        middle = len(events) // 2
        left, refused_left = self._attempt(connection, events[:middle], records)
        right, refused_right = self._attempt(connection, events[middle:], records)
        return pl.concat([left, right]), refused_left + refused_right


def _in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Order copies of one identity as they came.

    An epoch is sorted by identity alone, which leaves it to chance which of two copies comes first; where their
    contents differ, groups that keep different projections would count different ones, and so would a replay.
    """
    return events.sort(*IDENTITY, "partition", "offset")
