"""Admission: copies events into the ledger and learns which of them are new.

The ledger's primary key is the identity of an event. Nearly every epoch is all new, so it is copied straight in, under
a savepoint; the key's refusal is how a duplicate is met. Only then is it asked which identities are known, and the rest
copied again.

If PostgreSQL refuses a row, all of them are staged as bytes, which it refuses for nothing, and put into the ledger
by one statement that says which it refused: a thousand at a time, and those of a thousand with a bad one among them one
by one. That costs one pass however many there are. To look for them by halving cost two copies of an epoch for one, and
a minute for 4,000 of them, in one transaction: a cost that whoever produces them would choose.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
import psycopg
from psycopg import errors, sql

from pipeline.epoch.epoch import Epoch, encode_ledger, reject
from pipeline.epoch.frame import encode_copy
from pipeline.epoch.rejected import BadRatio, Rejected, Tally
from pipeline.epoch.roles import IDENTITY, Role
from pipeline.errors import UnavailableError
from pipeline.sinks.connection import copy_in
from pipeline.sinks.days import Days

_MAX_ATTEMPTS: Final = 5
_STEP: Final = 1_000
_TEXTS: Final = frozenset({"event_type", "player_id", "game_id", "data"})

_STAGING: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS staged_rows
    (row bigint PRIMARY KEY, event_id uuid, event_type bytea, player_id bytea, game_id bytea,
     event_timestamp timestamptz, ingested_at timestamptz, data bytea) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS row_fates (row bigint, reason text) ON COMMIT DELETE ROWS;
"""

# What is not in row_fates then is admitted; without a reason, it is a duplicate. The conditions are those of a row's
# own COPY (DataError, IntegrityError): whatever else a server in trouble says ends the statement, and is waited for.
# `internal_error` is what a distributed one makes of what a worker says to many rows; a single row keeps the code.
_ADMIT_STAGED: Final = """
DO $admit$
DECLARE
    one     record;
    refused bigint := 0;
    first   bigint := 0;
BEGIN
    WHILE first < {total} LOOP
        BEGIN
            INSERT INTO {target} SELECT {of_rows} FROM staged_rows
            WHERE row >= first AND row < first + {step} ORDER BY row;
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR internal_error THEN
            FOR one IN SELECT * FROM staged_rows WHERE row >= first AND row < first + {step} ORDER BY row LOOP
                BEGIN
                    INSERT INTO {target} VALUES ({of_row});
                EXCEPTION
                    WHEN unique_violation THEN
                        INSERT INTO row_fates VALUES (one.row, NULL);
                    WHEN data_exception OR integrity_constraint_violation THEN
                        INSERT INTO row_fates VALUES (one.row, SQLERRM);
                        refused := refused + 1;
                        IF refused >= {too_many} THEN
                            RETURN;
                        END IF;
                END;
            END LOOP;
        END;
        first := first + {step};
    END LOOP;
END $admit$
"""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The events that are new, those PostgreSQL would not take, and whether all of the epoch's events are new."""

    events: pl.DataFrame
    refused: list[Rejected]
    all_new: bool


class Admission:
    """Admits the events of one role's ledger. Between epochs it remembers only whether duplicates are about."""

    def __init__(self, role: Role, bad_ratio: BadRatio) -> None:
        self._role = role
        self._bad_ratio = bad_ratio
        self._expect_duplicates = False
        self._days: Days | None = None
        columns = sql.SQL(", ").join(map(sql.Identifier, role.ledger_columns))
        self._target = sql.SQL("{} ({})").format(sql.Identifier(role.ledger), columns)
        self._staged = sql.SQL("staged_rows (row, {})").format(columns)

    def cover(self, days: Days) -> None:
        """Set the days that the ledger has partitions for."""
        self._days = days

    def stage(self, connection: psycopg.Connection) -> None:
        """Make the temporary tables of a new connection."""
        connection.execute(_STAGING)
        connection.execute(
            'CREATE TEMPORARY TABLE IF NOT EXISTS asked_identities (row bigint, player_id text COLLATE "C",'
            " event_timestamp timestamptz, event_id uuid) ON COMMIT DELETE ROWS"
        )

    def admit(self, connection: psycopg.Connection, epoch: Epoch, tally: Tally) -> Admitted:
        """Copy the epoch's new events into the ledger, within the caller's transaction.

        `tally` is what the rule for bad records is asked about: of this epoch, or of that of which it is a part.
        """
        inside, refused = self._within_days(epoch.events, epoch.records)
        events, others = inside, list[Rejected]()
        if len(inside):
            place = _Place(epoch.records, Tally(tally.total, [*tally.bad, *refused]))
            events, others = self._attempt(connection, inside, place)
            self._expect_duplicates = len(events) + len(others) < len(inside)
        return Admitted(events, refused + others, all_new=len(events) == len(epoch.events))

    def _within_days(self, events: pl.DataFrame, records: pl.DataFrame) -> tuple[pl.DataFrame, list[Rejected]]:
        """Set aside events of days that have no partition: dropped by retention, or further ahead than is made."""
        if (days := self._days) is None:
            return events, []
        inside = pl.col("event_timestamp").is_between(days.start, days.end, closed="left")
        outside = events.filter(~inside)
        if not len(outside):
            return events, []
        reason = f"timestamp: no partition holds it; the ledger covers {days.start:%Y-%m-%d} to {days.end:%Y-%m-%d}"
        return events.filter(inside), reject(outside, records, reason, "uncovered")

    def _attempt(
        self, connection: psycopg.Connection, events: pl.DataFrame, place: "_Place"
    ) -> tuple[pl.DataFrame, list[Rejected]]:
        """Copy, dropping known identities when the key refuses, one by one when a row is; returns new and refused."""
        remaining = self._drop_known(connection, events) if self._expect_duplicates else events
        for _ in range(_MAX_ATTEMPTS):
            if not len(remaining):
                return remaining, []
            try:
                self._copy_in(connection, remaining)
            except errors.UniqueViolation:
                remaining = self._drop_known(connection, remaining)
            except (psycopg.DataError, psycopg.IntegrityError):
                return self._one_by_one(connection, remaining, place)
            except errors.InternalError_:
                # What a worker of a distributed server refused in a COPY comes without its code: duplicates first.
                asked, remaining = remaining, self._drop_known(connection, remaining)
                if len(remaining) == len(asked):
                    return self._one_by_one(connection, remaining, place)
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
        # Not prepared: its text is of these days, and is seldom met again.
        known = connection.execute(self._known(distinct), prepare=False).fetchall()
        if not known:
            return distinct if len(distinct) < len(events) else events
        rows = pl.Series([row[0] for row in known], dtype=pl.Int64)
        return distinct.filter(~pl.int_range(pl.len(), dtype=pl.Int64).is_in(rows.implode()))

    def _known(self, events: pl.DataFrame) -> sql.Composed:
        """Ask which identities the ledger holds, naming the days in which they lie.

        By constants: what the planner leaves out of a plan it does not lock. Each other partition would be locked, and
        its indexes, to find at run time that nothing is looked for in it: of eight years of days, 9,000 locks.
        A join, which finds one row at most: a distributed server takes no EXISTS after a table of its coordinator's.
        """
        ranges = self._days.ranges(events) if self._days is not None else []
        within = sql.SQL("kept.event_timestamp >= {} AND kept.event_timestamp < {}")
        days: list[sql.Composable] = [within.format(first, stop) for first, stop in ranges]
        return sql.SQL(
            "SELECT row FROM asked_identities AS asked JOIN {} AS kept"
            " ON kept.player_id = asked.player_id AND kept.event_timestamp = asked.event_timestamp"
            " AND kept.event_id = asked.event_id AND ({})"
        ).format(sql.Identifier(self._role.ledger), sql.SQL(" OR ").join(days or [sql.SQL("true")]))

    def _one_by_one(
        self, connection: psycopg.Connection, events: pl.DataFrame, place: "_Place"
    ) -> tuple[pl.DataFrame, list[Rejected]]:
        """Admit what is new and not refused, in one pass. Raises HaltError if most of the epoch is bad."""
        events = _in_order(events)
        rows = pl.int_range(pl.len(), dtype=pl.Int64).alias("row")
        as_bytes = [
            pl.col(name).cast(pl.Binary) if name in _TEXTS else pl.col(name) for name in self._role.ledger_columns
        ]
        connection.execute("TRUNCATE staged_rows, row_fates")
        copy_in(connection, self._staged, encode_copy(events.select(rows, *as_bytes)))
        connection.execute(self._admit_staged(len(events), self._too_many(place)))
        fates = connection.execute("SELECT row, reason FROM row_fates").fetchall()
        reasons = dict(sorted((row, reason) for row, reason in fates if reason is not None))
        bad = reject(events[pl.Series(list(reasons), dtype=pl.UInt32)], place.records, "", "refused")
        refused = [
            replace(one, reason=f"PostgreSQL refused the event: {reason}")
            for one, reason in zip(bad, reasons.values(), strict=True)
        ]
        # If it stopped early, this raises: the rest was not looked at.
        self._bad_ratio.check([*place.tally.bad, *refused], place.tally.total)
        kept = pl.Series([row for row, _ in fates], dtype=pl.Int64)
        return events.filter(~rows.is_in(kept.implode())), refused

    def _too_many(self, place: "_Place") -> int:
        """Return how many refused rows halt the consumer, with what the epoch has rejected already."""
        least = max(self._bad_ratio.count, math.floor(self._bad_ratio.ratio * place.tally.total) + 1)
        return max(1, least - len(place.tally.bad))

    def _admit_staged(self, total: int, too_many: int) -> sql.Composed:
        columns = self._role.ledger_columns
        return sql.SQL(_ADMIT_STAGED).format(
            target=self._target,
            of_rows=_read(columns, sql.SQL("")),
            of_row=_read(columns, sql.SQL("one.")),
            total=sql.Literal(total),
            too_many=sql.Literal(too_many),
            step=sql.Literal(_STEP),
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """The epoch around the events that are admitted: its records, and how many are bad so far."""

    records: pl.DataFrame
    tally: Tally


def _read(columns: Sequence[str], of: sql.SQL) -> sql.Composed:
    """Read columns of staged rows as the ledger has them."""
    read = {"data": sql.SQL("convert_from({}{}, 'UTF8')::jsonb")}
    texts = sql.SQL("convert_from({}{}, 'UTF8')")
    plain = sql.SQL("{}{}")
    return sql.SQL(", ").join(
        [read.get(name, texts if name in _TEXTS else plain).format(of, sql.Identifier(name)) for name in columns]
    )


def _in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Order copies of one identity as they came.

    An epoch is sorted by identity alone, which leaves it to chance which of two copies comes first; if their
    contents differ, groups that keep different projections would count different ones, and so would a replay.
    """
    return events.sort(*IDENTITY, "partition", "offset")
