"""An epoch: the records of one flight through the pipeline, decoded, with all that is to be added for them.

What the sinks add up is aggregated and encoded here, before a transaction is open, on the guess that every event is
new. The guess is nearly always right; if admission finds it wrong, the sink does the same with the new events.

An event on which any of this raises is set aside (`epoch.narrowing`), and the others go on.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import polars as pl

from pipeline.config import Settings
from pipeline.contract.boards import Expiry
from pipeline.contract.offsets import Spans
from pipeline.epoch.aggregate import Chunk, aggregate, chunk, per_day, per_player
from pipeline.epoch.batch import Trigger
from pipeline.epoch.decode import Decoded
from pipeline.epoch.frame import encode_copy, sort_by_identity
from pipeline.epoch.narrowing import Fault, Narrowed, narrow
from pipeline.epoch.rejected import BadRatio, Code, Rejected, Tally
from pipeline.epoch.roles import Role

T = TypeVar("T")

_DAY: Final = pl.col("event_timestamp").dt.date()


@dataclass(frozen=True, slots=True)
class Plan:
    """What shapes an epoch's effects: the role's projections, how long dated boards live, when to halt."""

    role: Role
    expiry: Expiry
    bad_ratio: BadRatio


def plan_for(role: Role, settings: Settings) -> Plan:
    """Make the plan of a role as it is set up."""
    expiry = Expiry(settings.board_daily_days, settings.board_weekly_days)
    return Plan(role, expiry, BadRatio(settings.dlq_halt_ratio, settings.dlq_halt_count))


@dataclass(frozen=True, slots=True)
class Effects:
    """What a set of events adds: COPY data per table (None: nothing for this role), and chunks for Redis."""

    counts: list[bytes] | None
    days: list[bytes] | None
    chunks: list[Chunk]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Spans of positions, the events in them (columns of EVENT_SCHEMA, sorted by identity), the rest rejected.

    `records` (timestamp, key, value) are all of them, which the events' `row` counts. `effects` are those of exactly
    these events, or None when they are yet to be prepared. `faults` are what the records rejected as `internal` met.
    `whole` tells that nothing of it was dropped because it is written already, `trigger` what made it due.
    """

    spans: Spans
    events: pl.DataFrame
    rejected: list[Rejected]
    records: pl.DataFrame
    effects: Effects | None
    faults: list[Fault]
    whole: bool = True
    trigger: Trigger | None = None

    def tally(self) -> Tally:
        """Count its records, and those that are bad so far."""
        return Tally(len(self.events) + len(self.rejected), list(self.rejected))

    def without(self, marks: dict[int, int]) -> "Epoch":
        """Drop what lies below the watermark of its partition; it is `whole` no more if something does."""
        if all(marks[span.partition] <= span.start for span in self.spans):
            return self
        spans = tuple(
            replace(span, start=max(span.start, marks[span.partition]))
            for span in self.spans
            if marks[span.partition] < span.stop
        )
        floor = pl.col("partition").replace_strict(marks, default=0, return_dtype=pl.Int64)
        return replace(
            self,
            spans=spans,
            events=self.events.filter(pl.col("offset") >= floor),
            rejected=[one for one in self.rejected if one.offset >= marks[one.partition]],
            effects=None,
            whole=False,
        )


def prepare(spans: Spans, decoded: Decoded, plan: Plan) -> Epoch:
    """Sort, aggregate and encode decoded records. Raises HaltError if most of them meet a fault of ours."""

    def work(events: pl.DataFrame) -> tuple[pl.DataFrame, Effects]:
        ordered = sort_by_identity(events)
        return ordered, effects_of(ordered, plan)

    found = narrow(decoded.events, "row", work, plan.bad_ratio.exceeded)
    rejected = decoded.rejected + internal(found, decoded.records)
    return Epoch(
        spans, found.result[0], rejected, decoded.records, found.result[1], decoded.faults + found.faults("prepare")
    )


def rehearsed(epoch: Epoch, plan: Plan) -> Epoch:
    """Do all that is done to events while they are written, and nothing else: those on which it raises are rejected.

    Raises HaltError if most of them do. `faults` are those of this time only.
    """

    def work(events: pl.DataFrame) -> pl.DataFrame:
        ordered = sort_by_identity(events)
        effects_of(ordered, plan)
        deque(encode_ledger(ordered, plan.role), maxlen=0)
        return ordered

    found = narrow(epoch.events, "row", work, plan.bad_ratio.exceeded)
    rejected = epoch.rejected + internal(found, epoch.records)
    return replace(epoch, events=found.result, rejected=rejected, effects=None, faults=found.faults("write"))


def reject(events: pl.DataFrame, records: pl.DataFrame, reason: str, code: Code) -> list[Rejected]:
    """Turn events (columns of EVENT_SCHEMA) into rejections; `records` are the epoch's, which their `row` counts."""
    columns = events.select("partition", "offset").hstack(records[events["row"]].select("timestamp", "key", "value"))
    return [
        Rejected(partition, offset, moment, key, value, reason, code)
        for partition, offset, moment, key, value in columns.iter_rows()
    ]


def internal(found: Narrowed[T], records: pl.DataFrame) -> list[Rejected]:
    """Turn the culprits of a narrowing into rejections."""
    return [one for event, text in found.culprits for one in reject(event, records, text, "internal")]


def effects_of(events: pl.DataFrame, plan: Plan) -> Effects:
    """Aggregate and encode events that are all to be counted."""
    role = plan.role
    deltas = aggregate(events)
    if "stats" not in role.projections:
        deltas = replace(deltas, counts=deltas.counts.clear())
    if "leaderboard" not in role.projections:
        deltas = replace(deltas, days=deltas.days.clear())
    return Effects(
        counts=list(encode_copy(per_player(deltas))) if len(deltas.counts) else None,
        days=list(encode_copy(per_day(deltas))) if len(deltas.days) else None,
        chunks=chunk(deltas, plan.expiry) if role.uses_redis else [],
    )


def encode_ledger(events: pl.DataFrame, role: Role) -> Iterator[bytes]:
    """Encode events as rows of the role's ledger, day by day: COPY then writes one table at a time, in long runs.

    While they are sent, for kept they would be a third of an epoch's memory.
    """
    rows = events.select(role.ledger_columns).sort(_DAY, maintain_order=True)
    return encode_copy(rows, jsonb=frozenset({"data"}.intersection(role.ledger_columns)))
