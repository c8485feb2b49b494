"""An epoch: the records of one flight through the pipeline, decoded, with all that is to be added for them.

What the sinks add up is encoded here, before a transaction is open, from the guess that every event is new. The guess
is nearly always right; where it is not, the sink prepares the remaining events again with the same function.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from pipeline.aggregate import Chunk, Expiry, aggregate, chunk, per_day, per_player
from pipeline.config import Settings
from pipeline.decode import Decoded, Rejected
from pipeline.frame import encode_copy, sort_by_identity
from pipeline.offsets import Spans
from pipeline.roles import Role

_DAY: Final = pl.col("event_timestamp").dt.date()


@dataclass(frozen=True, slots=True)
class Plan:
    """What shapes an epoch's effects: the role's projections, and how long dated boards live in Redis."""

    role: Role
    expiry: Expiry


def plan_for(role: Role, settings: Settings) -> Plan:
    """Make the plan of a role as it is set up."""
    return Plan(role, Expiry(settings.board_daily_days, settings.board_weekly_days))


@dataclass(frozen=True, slots=True)
class Effects:
    """What a set of events adds: COPY data per table (None: nothing for this role), and chunks for Redis."""

    counts: list[bytes] | None
    days: list[bytes] | None
    chunks: list[Chunk]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Spans of positions, the events in them (columns of EVENT_SCHEMA, sorted by identity), the rest rejected.

    `values` (Binary) are the records' own, which the events' `row` counts. `effects` are those of exactly these events,
    or None when they are yet to be prepared.
    """

    spans: Spans
    events: pl.DataFrame
    rejected: list[Rejected]
    values: pl.Series
    effects: Effects | None

    def without(self, marks: dict[int, int]) -> "Epoch":
        """Drop what lies below the watermark of its partition; the same object where nothing does."""
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
        )


def prepare(spans: Spans, decoded: Decoded, plan: Plan) -> Epoch:
    """Sort, aggregate and encode decoded records."""
    events = sort_by_identity(decoded.events)
    return Epoch(spans, events, decoded.rejected, decoded.values, effects_of(events, plan))


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
