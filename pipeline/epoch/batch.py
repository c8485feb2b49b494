"""The batcher: records in, an epoch's worth of them out when it is full or old enough.

An epoch is due at BATCH_MAX_EVENTS records, at BATCH_MAX_BYTES of keys and values, or BATCH_MAX_WAIT_MS after its first
record; the clock is armed by that record and not by a poll that found nothing, so an idle topic costs nothing and the
first event after a pause waits no longer than the rest.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl

Trigger = Literal["events", "bytes", "wait"]

RECORD_COLUMNS: Final = pl.Schema(
    {"partition": pl.Int32, "offset": pl.Int64, "timestamp": pl.Int64, "key": pl.Binary, "value": pl.Binary}
)
"""A Kafka record; `timestamp` in milliseconds since 1970, -1 if it has none."""


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When an epoch is due: at `max_events` records, at `max_bytes` of keys and values, or after `max_wait_seconds`."""

    max_events: int
    max_bytes: int
    max_wait_seconds: float


@dataclass(frozen=True, slots=True)
class Records:
    """Kafka records (columns of RECORD_COLUMNS), in order within their partition.

    `ends` are the ends of partitions that were reached. No record need lie right before one: what does may be a
    transaction's marker, or was compacted away. `header_bytes` they held while they were polled, and hold no more.
    `trigger` is what made them an epoch, once they are one.
    """

    frame: pl.DataFrame = field(default_factory=RECORD_COLUMNS.to_frame)
    ends: dict[int, int] = field(default_factory=dict)
    header_bytes: int = 0
    trigger: Trigger | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def without(self, partitions: frozenset[int]) -> "Records":
        """Return the records of other partitions."""
        ends = {partition: end for partition, end in self.ends.items() if partition not in partitions}
        return Records(self.frame.filter(~pl.col("partition").is_in(list(partitions))), ends)

    def stops(self) -> dict[int, int]:
        """Return up to where each partition was read."""
        last = self.frame.group_by("partition").agg(pl.col("offset").last())
        stops = {partition: offset + 1 for partition, offset in last.iter_rows()}
        return stops | {partition: max(end, stops.get(partition, end)) for partition, end in self.ends.items()}


def joined(parts: Iterable[Records]) -> Records:
    """Put records that were read one after the other together."""
    frames, ends = [RECORD_COLUMNS.to_frame()], dict[int, int]()
    for part in parts:
        frames.append(part.frame)
        ends |= part.ends
    return Records(pl.concat(frames), ends)


class Batcher:
    """Collects records until they are due. `now` is a monotonic time in seconds, given by the caller."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._mean_bytes = 1.0
        self.clear()

    def clear(self) -> None:
        """Forget every record."""
        self._parts: list[Records] = []
        self._count = self._bytes = 0
        self._armed_at: float | None = None

    def add(self, records: Records, now: float) -> None:
        """Take records in."""
        if not (records or records.ends):
            return
        if self._armed_at is None:
            self._armed_at = now
        self._parts.append(records)
        size = sum(int(records.frame[part].bin.size().sum()) for part in ("key", "value"))
        self._count += len(records)
        self._bytes += size
        if records:
            self._mean_bytes = max(1.0, (size + records.header_bytes) / len(records))

    def due(self, now: float) -> Trigger | None:
        """Say why the epoch is due, or None while it may grow."""
        if self._armed_at is None:
            return None
        if self._count >= self._policy.max_events:
            return "events"
        if self._bytes >= self._policy.max_bytes:
            return "bytes"
        return "wait" if now - self._armed_at >= self._policy.max_wait_seconds else None

    @property
    def armed(self) -> bool:
        """Whether a record waits in it."""
        return self._armed_at is not None

    def room(self, max_bytes: int | None = None) -> int:
        """Return how many more records the epoch takes, of the size of the last ones, headers and all; none once full.

        With `max_bytes`, how many of them make so many bytes at most.
        """
        left = self._policy.max_bytes - self._bytes
        if left <= 0:
            return 0
        fitting = math.ceil(min(left, max_bytes or left) / self._mean_bytes)
        return max(0, min(self._policy.max_events - self._count, fitting))

    def remaining(self, now: float) -> float:
        """Return the seconds until the epoch is due by age; the whole wait while it is empty."""
        if self._armed_at is None:
            return self._policy.max_wait_seconds
        return max(0.0, self._armed_at + self._policy.max_wait_seconds - now)

    def drop(self, partitions: frozenset[int]) -> None:
        """Forget the records of partitions that another consumer reads now."""
        kept = joined(self._parts).without(partitions)
        armed_at, mean_bytes = self._armed_at, self._mean_bytes
        self.clear()
        if armed_at is not None:
            self.add(kept, armed_at)
        self._mean_bytes = mean_bytes

    def take(self) -> Records:
        """Give the epoch's records away."""
        records = joined(self._parts)
        self.clear()
        return records
