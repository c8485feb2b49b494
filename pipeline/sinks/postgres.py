"""The PostgreSQL sink: one transaction an epoch holds its effects, its debts to Redis and its watermark.

The transaction in its order: fence, admit, merge, bury, owe, advance. What is merged and owed was aggregated before,
on the guess that every event is new (`epoch.prepare`); if admission finds otherwise it is aggregated again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, LiteralString

import polars as pl
import psycopg
from psycopg import sql

from pipeline import metrics
from pipeline.config import Settings
from pipeline.contract.offsets import Span, Spans
from pipeline.epoch.epoch import Effects, Epoch, Plan, effects_of, rehearsed
from pipeline.epoch.frame import CopyData, encode_copy
from pipeline.epoch.narrowing import Fault, Unforeseen, attempt
from pipeline.epoch.outbox import Call, calls_for
from pipeline.epoch.parts import parted
from pipeline.epoch.rejected import Rejected, Tally
from pipeline.errors import RewindError, UnavailableError
from pipeline.sinks.admission import Admission
from pipeline.sinks.connection import Held, copy_in, unblocking
from pipeline.sinks.days import Days, read_days
from pipeline.sinks.dialect import PLAIN, dialect_of
from pipeline.sinks.faults import FaultReport
from pipeline.sinks.letters import bury

CACHE_LOCK: Final = 0x67616D65
"""Advisory lock: shared by each epoch's transaction, exclusive while Redis is rebuilt or compared."""

SETTLING_LOCK: Final = 0x736574746C
"""Advisory lock: shared by transactions that add to days long past, exclusive while days are settled."""

MOST_PARTITIONS: Final = 100
"""How many day partitions one transaction touches. It keeps a lock on each, and on each of their indexes, to its end,
and the server has room for 64 a session (max_locks_per_transaction), all sessions' together."""

_A_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the records of one span: how many are new, how many were known, how many are dead letters."""

    span: Span
    admitted: int
    duplicates: int
    dead_lettered: int


@dataclass(frozen=True, slots=True)
class Written:
    """What became of an epoch: `spans` are all of its own, below whose stops everything is written now.

    `fates` and `calls` (what Redis is owed) are of this transaction. It is not `complete` if part of the epoch was
    there already, because its commit's answer was lost or a peer wrote it: the rest of the calls is in the outbox.
    """

    spans: Spans
    fates: tuple[Fates, ...] = ()
    calls: list[Call] = field(default_factory=list)
    complete: bool = False


class PostgresSink:
    """Writes epochs. One thread; the connection is opened when needed and again after a failure."""

    def __init__(self, settings: Settings, plan: Plan, group_id: str) -> None:
        self._settings = settings
        self._plan = plan
        self._role = role = plan.role
        self._group = group_id
        self._topic = settings.kafka_topic
        self._report = FaultReport()
        self._admission = Admission(role, plan.bad_ratio)
        self._held = Held(settings, role.service, self._stage)
        self._dialect = PLAIN
        self._days: Days | None = None

    def close(self) -> None:
        """Close the connection; a transaction that was under way is rolled back by the server."""
        self._held.close()

    # -- between epochs ------------------------------------------------------------------------------------------------

    def read_days(self) -> Days:
        """Read which days have partitions, and where they are missing, if PostgreSQL's clock is not ours."""
        with self._held.use() as connection:
            days = self._days = read_days(connection, self._role, self._settings.events_keep_days)
        self._admission.cover(days)
        metrics.partition_days.labels(self._role.ledger).set(days.left / _A_DAY)
        return days

    def prune_outbox(self, applied: Mapping[int, int]) -> None:
        """Forget debts that Redis has paid (`applied`: its watermark per partition) and that are old enough.

        Their age is PostgreSQL's to tell, which dated them: a clock of ours that is ahead would forget them at once.
        """
        paid = (list(applied), list(applied.values()))
        keep = self._settings.outbox_keep_seconds
        with self._held.use() as connection:
            connection.execute(_PRUNE, (*paid, self._group, self._topic, keep, keep))
            row = connection.execute(_COUNT_UNPAID, (*paid, self._group, self._topic)).fetchone()
        metrics.outbox_rows.set(row[0] if row is not None else 0)

    # -- an epoch ----------------------------------------------------------------------------------------------------

    def write(self, epoch: Epoch) -> Written:
        """Write what of the epoch is not there yet, in one transaction.

        Raises UnavailableError (nothing is known to be written: write the same epoch again, the watermark tells what
        became of it), RewindError and HaltError (nothing is written).

        What an event raises that nobody foresaw, in the middle of a COPY perhaps, undoes the transaction. The event is
        then looked for with none open, for nobody may wait for that, and the epoch written again without it.
        """
        found = attempt(self._write, epoch)
        if not isinstance(found, Unforeseen):
            return found
        mended = rehearsed(epoch, self._plan)
        self._report.of_records(mended.faults or [Fault("write", found, 0)])
        return self._write(mended)  # raises it if no event is to blame

    def _write(self, epoch: Epoch) -> Written:
        """Write an epoch, in more than one transaction if its events lie in too many partitions for one.

        Whether too many of it are bad is asked of the whole: bad records lie together, and would be most of one part.
        """
        days = self._place()
        if days.few(epoch.events, MOST_PARTITIONS):
            return self._write_at_once(epoch)
        tally = epoch.tally()
        self._plan.bad_ratio.check(tally.bad, tally.total)
        cut = parted(epoch, days.numbers(epoch.events), MOST_PARTITIONS)
        parts = [self._write_at_once(part, tally) for part in cut]
        return Written(
            epoch.spans,
            tuple(fates for part in parts for fates in part.fates),
            [call for part in parts for call in part.calls],
            all(part.complete for part in parts),
        )

    def _place(self) -> Days:
        """Return the days that have partitions. Raises UnavailableError if today's events could meet none."""
        days = self._days
        if days is None or days.lacking:
            days = self.read_days()
        if lacking := days.lacking:
            raise UnavailableError(f"PostgreSQL: {lacking}")
        return days

    def _write_at_once(self, epoch: Epoch, of_whole: Tally | None = None) -> Written:
        with self._held.use() as connection, unblocking(connection), connection.transaction():
            live = epoch.without(self.fence(connection, epoch))
            if not live.spans:
                return Written(epoch.spans)
            tally = of_whole or live.tally()
            admitted = self._admission.admit(connection, live, tally)
            tally.bad.extend(admitted.refused)
            self._plan.bad_ratio.check(tally.bad, tally.total)
            bad = [*live.rejected, *admitted.refused]
            guessed = live.effects if admitted.all_new else None
            effects = guessed or effects_of(admitted.events, self._plan)
            self.merge(connection, effects)
            self.bury(connection, bad)
            calls = calls_for(live.spans, effects.chunks) if self._role.uses_redis else []
            self.owe(connection, calls)
            fates = _fates(live, admitted.events, bad)
            self.advance(connection, fates, epoch)
        return Written(epoch.spans, fates, calls, live.whole)

    def fence(self, connection: psycopg.Connection, epoch: Epoch) -> dict[int, int]:
        """Lock the epoch's watermarks, in order of partition, and return them. Raises RewindError.

        Whoever wrote an epoch moved the mark with it, so a process that was paused or cut off finds the mark ahead of
        its epoch and writes nothing, and one whose predecessor failed finds it behind.
        """
        connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (CACHE_LOCK,))
        rows = connection.execute(
            "SELECT partition, next_offset FROM pipeline_watermarks WHERE group_id = %s AND topic = %s"
            " AND partition = ANY(%s) ORDER BY partition FOR UPDATE",
            (self._group, self._topic, [span.partition for span in epoch.spans]),
        ).fetchall()
        marks: dict[int, int] = dict(rows)
        for span in epoch.spans:
            mark = marks.setdefault(span.partition, -1)
            if mark < span.start:
                raise RewindError(f"partition {span.partition} starts at {span.start}, its watermark is {mark}")
        return marks

    def merge(self, connection: psycopg.Connection, effects: Effects) -> None:
        """Add what the events add up to."""
        if effects.counts is not None:
            merge_table(connection, "added_counts", effects.counts, self._dialect.counts)
        if effects.days is not None:
            merge_table(connection, "added_days", effects.days, self._dialect.days)
            connection.execute(_HOLD_OFF_SETTLING, (SETTLING_LOCK,))
            connection.execute(self._dialect.settled)

    def bury(self, connection: psycopg.Connection, bad: Sequence[Rejected]) -> None:
        """Keep what is not counted as dead letters."""
        bury(connection, self._role.service, self._topic, bad)

    def owe(self, connection: psycopg.Connection, calls: Sequence[Call]) -> None:
        """Write the calls that Redis is owed to the outbox."""
        if not calls:
            return
        rows = pl.DataFrame(
            {
                "group_id": pl.Series([self._group] * len(calls), dtype=pl.String),
                "topic": pl.Series([self._topic] * len(calls), dtype=pl.String),
                "partition": pl.Series([call.partition for call in calls], dtype=pl.Int32),
                "from_offset": pl.Series([call.from_offset for call in calls], dtype=pl.Int64),
                "next_offset": pl.Series([call.next_offset for call in calls], dtype=pl.Int64),
                "chunk": pl.Series([call.chunk for call in calls], dtype=pl.Int32),
                "chunks": pl.Series([call.chunks for call in calls], dtype=pl.Int32),
                "payload": pl.Series([call.payload for call in calls], dtype=pl.Binary),
            }
        )
        columns: LiteralString = "group_id, topic, partition, from_offset, next_offset, chunk, chunks, payload"
        copy_in(connection, sql.SQL("pipeline_outbox ({})").format(sql.SQL(columns)), encode_copy(rows))

    def advance(self, connection: psycopg.Connection, fates: Sequence[Fates], epoch: Epoch) -> None:
        """Move the watermarks to the stops of their spans, and book what became of the records of which epoch."""
        rows = [(one.span.partition, one.span.stop, one.admitted, one.duplicates, one.dead_lettered) for one in fates]
        columns = map(list, zip(*rows, strict=True))
        connection.execute(_ADVANCE, (len(epoch.records), epoch.trigger, *columns, self._group, self._topic))

    def _stage(self, connection: psycopg.Connection) -> None:
        # Of this connection: a server may be another now, or have been distributed since the last one.
        self._dialect = dialect_of(connection)
        connection.execute(_STAGING)
        self._admission.stage(connection)


def merge_table(
    connection: psycopg.Connection, stage: LiteralString, encoded: CopyData, statement: LiteralString
) -> None:
    """Copy deltas into their temporary table, and from there into the table that they are added to."""
    copy_in(connection, sql.Identifier(stage), encoded)
    connection.execute(statement)


def _fates(epoch: Epoch, admitted: pl.DataFrame, bad: Sequence[Rejected]) -> tuple[Fates, ...]:
    """Count what became of an epoch's records, of which `admitted` are new and `bad` dead letters."""
    new, dead = _count(admitted), Counter(one.partition for one in bad)
    known = _count(epoch.events) + Counter(one.partition for one in epoch.rejected) - new - dead
    return tuple(Fates(span, new[span.partition], known[span.partition], dead[span.partition]) for span in epoch.spans)


def _count(events: pl.DataFrame) -> Counter[int]:
    return Counter(dict(events.group_by("partition").len().iter_rows()))


_ADVANCE: Final = """
UPDATE pipeline_watermarks AS mark
SET next_offset = span.stop, admitted = mark.admitted + span.admitted,
    duplicates = mark.duplicates + span.duplicates, dead_lettered = mark.dead_lettered + span.dead, updated_at = now(),
    epoch_events = %s, epoch_trigger = %s
FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
     AS span(partition, stop, admitted, duplicates, dead)
WHERE mark.partition = span.partition AND mark.group_id = %s AND mark.topic = %s
"""

_PRUNE: Final = """
DELETE FROM pipeline_outbox AS owed
USING unnest(%s::int[], %s::bigint[]) AS paid(partition, mark)
WHERE owed.partition = paid.partition AND owed.next_offset <= paid.mark
  AND owed.group_id = %s AND owed.topic = %s
  AND owed.created_at NOT BETWEEN now() - make_interval(secs => %s) AND now() + make_interval(secs => %s)
"""

_COUNT_UNPAID: Final = """
SELECT count(*) FROM pipeline_outbox AS owed, unnest(%s::int[], %s::bigint[]) AS paid(partition, mark)
WHERE owed.partition = paid.partition AND owed.next_offset > paid.mark AND owed.group_id = %s AND owed.topic = %s
"""

# Deltas go through temporary tables that are emptied at commit, and from there on in the order of their keys.
_STAGING: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS added_counts
    (player_id text COLLATE "C", event_type text COLLATE "C", events bigint, last_event timestamptz)
    ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS added_days
    (game_id text COLLATE "C", day date, player_id text COLLATE "C", score numeric) ON COMMIT DELETE ROWS;
"""

# The scores of settled days are part of the all-time board, where a late event must be added too.
_HOLD_OFF_SETTLING: Final = """
SELECT pg_advisory_xact_lock_shared(%s) WHERE EXISTS (SELECT FROM added_days WHERE day < current_date - 1)
"""
