"""The PostgreSQL sink: one transaction an epoch holds its effects, its debts to Redis and its watermark."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString

import polars as pl
import psycopg
from psycopg import sql

from pipeline import metrics
from pipeline.config import Settings
from pipeline.epoch.epoch import Effects, Epoch, Plan, effects_of, rehearsed
from pipeline.epoch.frame import CopyData, encode_copy
from pipeline.epoch.narrowing import Fault, Unforeseen, attempt
from pipeline.epoch.outbox import Call, calls_for
from pipeline.epoch.rejected import Rejected
from pipeline.errors import PipelineError
from pipeline.sinks.admission import Admission
from pipeline.sinks.connection import Held, copy_in, unblocking
from pipeline.sinks.faults import FaultReport

CACHE_LOCK: Final = 0x67616D65
"""Advisory lock: shared by each epoch's transaction, exclusive while Redis is rebuilt or compared."""

_FIRST_TIME: Final = -62_135_510_400_000
_LAST_TIME: Final = 253_402_214_400_000
"""Between them a record's own time, any 64 bits, is kept: days 2 of year 1 and 31 of December 9999, in milliseconds; a
client reads them in every zone."""

SETTLING_LOCK: Final = 0x736574746C
"""Advisory lock: shared by transactions that add to days long past, exclusive while days are settled."""


class RewindError(PipelineError):
    """An epoch starts above its watermark (PostgreSQL was restored, or an epoch before it failed): read again."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction did: records by fate, and the calls Redis is owed.

    `calls` is None when part of the epoch was there already (its commit's answer was lost, or a peer wrote it): what
    Redis is owed then stands in the outbox.
    """

    admitted: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    calls: list[Call] | None = None


class PostgresSink:
    """Writes epochs. One thread at a time; the connection is opened when needed and again after a failure."""

    def __init__(self, settings: Settings, plan: Plan, group_id: str) -> None:
        self._settings = settings
        self._plan = plan
        self._role = role = plan.role
        self._group = group_id
        self._topic = settings.kafka_topic
        self._report = FaultReport()
        self._admission = Admission(role)
        self._held = Held(settings, role.service, self._stage)

    def close(self) -> None:
        """Close the connection; a transaction that was under way is rolled back by the server."""
        self._held.close()

    # -- between epochs ------------------------------------------------------------------------------------------------

    def maintain(self) -> None:
        """Make the day partitions that are due, drop those that retention lets go, and read which days are covered.

        Also settles the days of the boards that have passed, once a day.
        """
        with self._held.use() as connection:
            ahead = (self._settings.partition_days_ahead,)
            ledger = sql.Literal(self._role.ledger)
            connection.execute(sql.SQL("SELECT make_day_partitions({}, %s)").format(ledger), ahead)
            if keep := self._settings.events_keep_days:
                connection.execute(sql.SQL("SELECT drop_day_partitions({}, %s)").format(ledger), (keep,))
            if "leaderboard" in self._role.projections:
                connection.execute("SELECT settle_boards(%s)", (SETTLING_LOCK,))
            row = connection.execute(
                sql.SQL("SELECT min(lower_bound), max(upper_bound) FROM day_partitions WHERE parent = {}::regclass")
                .format(ledger)
            ).fetchone()  # fmt: skip
        if row is not None and row[1] is not None:
            self._admission.cover(row[0].astimezone(UTC), row[1].astimezone(UTC))
            left = row[1] - datetime.now(UTC)
            metrics.partition_days.labels(self._role.ledger).set(left / timedelta(days=1))

    def prune_outbox(self, applied: dict[int, int]) -> None:
        """Forget debts that Redis has paid (`applied`: its watermark per partition) and that are old enough."""
        paid = (list(applied), list(applied.values()))
        before = datetime.now(UTC) - timedelta(seconds=self._settings.outbox_keep_seconds)
        with self._held.use() as connection:
            connection.execute(_PRUNE, (*paid, self._group, self._topic, before))
            row = connection.execute(_COUNT_UNPAID, (*paid, self._group, self._topic)).fetchone()
        metrics.outbox_rows.set(row[0] if row is not None else 0)

    # -- an epoch --------------------------------------------------------------------------------------------------

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
        return self._write(mended)  # raises it where no event is to blame

    def _write(self, epoch: Epoch) -> Written:
        with self._held.use() as connection, unblocking(connection), connection.transaction():
            live = epoch.without(self._lock_watermarks(connection, epoch))
            if not live.spans:
                return Written()
            admitted = self._admission.admit(connection, live)
            bad = [*live.rejected, *admitted.refused]
            self._plan.bad_ratio.check(bad, len(live.events) + len(live.rejected))
            effects = live.effects if admitted.events is live.events else None
            effects = effects or effects_of(admitted.events, self._plan)
            self._add(connection, effects)
            self._bury(connection, bad)
            calls = self._owe(connection, calls_for(live.spans, effects.chunks)) if self._role.uses_redis else []
            written = self._advance(connection, live, admitted.events, bad)
        return Written(*written, calls if live is epoch else None)

    def _lock_watermarks(self, connection: psycopg.Connection, epoch: Epoch) -> dict[int, int]:
        """Lock the epoch's watermarks, in order of partition.

        This is the fence: whoever wrote an epoch moved the mark with it, so a process that was paused or cut off finds
        the mark ahead of its epoch and writes nothing, and one whose predecessor failed finds it behind.
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

    def _add(self, connection: psycopg.Connection, effects: Effects) -> None:
        if effects.counts is not None:
            _merge(connection, "added_counts", effects.counts, _MERGE_COUNTS)
        if effects.days is not None:
            _merge(connection, "added_days", effects.days, _MERGE_DAYS)
            connection.execute(_HOLD_OFF_SETTLING, (SETTLING_LOCK,))
            connection.execute(_MERGE_SETTLED)

    def _bury(self, connection: psycopg.Connection, bad: list[Rejected]) -> None:
        if not bad:
            return
        columns = zip(
            *(
                (
                    readable(one.value),
                    one.reason,
                    one.code,
                    one.partition,
                    one.offset,
                    min(max(one.timestamp, _FIRST_TIME), _LAST_TIME),
                    one.key,
                    one.value,
                )
                for one in bad
            ),
            strict=True,
        )
        connection.execute(_BURY, (self._role.service, self._topic, *map(list, columns)))

    def _owe(self, connection: psycopg.Connection, calls: list[Call]) -> list[Call]:
        """Write the calls that Redis is owed to the outbox."""
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
        return calls

    def _advance(
        self, connection: psycopg.Connection, live: Epoch, admitted: pl.DataFrame, bad: list[Rejected]
    ) -> tuple[int, int, int]:
        """Move the watermarks, and count what became of the records; returns those counts over all partitions."""
        seen = _count(live.events)
        for one in live.rejected:
            seen[one.partition] = seen.get(one.partition, 0) + 1
        new = _count(admitted)
        dead: dict[int, int] = {}
        for one in bad:
            dead[one.partition] = dead.get(one.partition, 0) + 1
        rows = []
        for span in live.spans:
            fates = (new.get(span.partition, 0), dead.get(span.partition, 0))
            rows.append((span.partition, span.stop, fates[0], seen.get(span.partition, 0) - sum(fates), fates[1]))
        connection.execute(_ADVANCE, (*map(list, zip(*rows, strict=True)), self._group, self._topic))
        return sum(row[2] for row in rows), sum(row[3] for row in rows), sum(row[4] for row in rows)

    def _stage(self, connection: psycopg.Connection) -> None:
        connection.execute(_STAGING)
        self._admission.stage(connection)


def readable(value: bytes | None) -> str:
    """Show a record's value as text that PostgreSQL stores: what does not decode, and NUL, is replaced."""
    return (value or b"").decode("utf-8", "replace").replace("\0", "\ufffd")


def _merge(connection: psycopg.Connection, stage: LiteralString, encoded: CopyData, statement: LiteralString) -> None:
    copy_in(connection, sql.Identifier(stage), encoded)
    connection.execute(statement)


def _count(events: pl.DataFrame) -> dict[int, int]:
    return dict(events.group_by("partition").len().iter_rows())


# One statement for many rows, never executemany: psycopg makes a pipeline of that, whose last message disarms
# PostgreSQL's idle_in_transaction_session_timeout (seen), and a consumer frozen then would keep its peers waiting.
_BURY: Final = """
INSERT INTO dlq_events (consumer_service, topic, original_event, error_message, code, partition, record_offset,
                        record_timestamp, record_key, record_value)
SELECT %s, %s, bad.event, bad.reason, bad.code, bad.partition, bad.record_offset,
       to_timestamp(bad.milliseconds / 1000.0), bad.record_key, bad.record_value
FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bytea[], %s::bytea[])
     AS bad(event, reason, code, partition, record_offset, milliseconds, record_key, record_value)
ON CONFLICT DO NOTHING
"""

_ADVANCE: Final = """
UPDATE pipeline_watermarks AS mark
SET next_offset = span.stop, admitted = mark.admitted + span.admitted,
    duplicates = mark.duplicates + span.duplicates, dead_lettered = mark.dead_lettered + span.dead, updated_at = now()
FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
     AS span(partition, stop, admitted, duplicates, dead)
WHERE mark.partition = span.partition AND mark.group_id = %s AND mark.topic = %s
"""

_PRUNE: Final = """
DELETE FROM pipeline_outbox AS owed
USING unnest(%s::int[], %s::bigint[]) AS paid(partition, mark)
WHERE owed.partition = paid.partition AND owed.next_offset <= paid.mark
  AND owed.group_id = %s AND owed.topic = %s AND owed.created_at < %s
"""

_COUNT_UNPAID: Final = """
SELECT count(*) FROM pipeline_outbox AS owed, unnest(%s::int[], %s::bigint[]) AS paid(partition, mark)
WHERE owed.partition = paid.partition AND owed.next_offset > paid.mark AND owed.group_id = %s AND owed.topic = %s
"""

# Deltas go through temporary tables that are emptied at commit, then MERGE in the order of their keys. MERGE, because
# it updates a matched row without locking it first: 15 % less CPU than ON CONFLICT DO UPDATE, measured. Where another
# session inserts the same key at the same moment it raises unique_violation, and the epoch is written again.
_STAGING: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS added_counts
    (player_id text COLLATE "C", event_type text COLLATE "C", events bigint, last_event timestamptz)
    ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS added_days
    (game_id text COLLATE "C", day date, player_id text COLLATE "C", score numeric) ON COMMIT DELETE ROWS;
"""

_MERGE_COUNTS: Final = """
MERGE INTO player_event_counts AS kept USING added_counts AS added
   ON kept.player_id = added.player_id AND kept.event_type = added.event_type
WHEN MATCHED THEN UPDATE SET events = kept.events + added.events,
                             last_event = greatest(kept.last_event, added.last_event)
WHEN NOT MATCHED THEN INSERT (player_id, event_type, events, last_event)
                      VALUES (added.player_id, added.event_type, added.events, added.last_event)
"""

_MERGE_DAYS: Final = """
MERGE INTO leaderboard_daily AS kept USING added_days AS added
   ON kept.game_id = added.game_id AND kept.day = added.day AND kept.player_id = added.player_id
WHEN MATCHED THEN UPDATE SET score = kept.score + added.score, updated_at = now()
WHEN NOT MATCHED THEN INSERT (game_id, day, player_id, score, updated_at)
                      VALUES (added.game_id, added.day, added.player_id, added.score, now())
"""

# The scores of settled days are part of the all-time board, where a late event must be added too.
_HOLD_OFF_SETTLING: Final = """
SELECT pg_advisory_xact_lock_shared(%s) WHERE EXISTS (SELECT FROM added_days WHERE day < current_date - 1)
"""

_MERGE_SETTLED: Final = """
MERGE INTO leaderboard_settled AS kept
USING (SELECT game_id, player_id, sum(score) AS score FROM added_days
       WHERE day < (SELECT settled_before FROM leaderboard_horizon) GROUP BY 1, 2 ORDER BY 1, 2) AS added
   ON kept.game_id = added.game_id AND kept.player_id = added.player_id
WHEN MATCHED THEN UPDATE SET score = kept.score + added.score, updated_at = now()
WHEN NOT MATCHED THEN INSERT (game_id, player_id, score, updated_at)
                      VALUES (added.game_id, added.player_id, added.score, now())
"""
