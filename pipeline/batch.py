"""The batcher: records in, an epoch's worth of them out when it is full or old enough.

An epoch is due at BATCH_MAX_EVENTS records, at BATCH_MAX_BYTES of values, or BATCH_MAX_WAIT_MS after its first record;
the clock is armed by that record and not by a poll that found nothing, so an idle topic costs nothing and the first
event after a pause waits no longer than the rest.
"""

from dataclasses import dataclass, field
from typing import Literal

Trigger = Literal["events", "bytes", "wait"]


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When an epoch is due: `max_events` records, `max_bytes` of values, or `max_wait` seconds."""

    max_events: int
    max_bytes: int
    max_wait: float


@dataclass(slots=True)
class Records:
    """Kafka records as columns of equal length; `timestamps` in milliseconds since 1970, -1 where a record has none.

    `ends` are the ends of partitions that were reached. No record need lie right before one: what does may be a
    transaction's marker, or was compacted away.
    """

    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets)

    def pop(self, count: int) -> "Records":
        """Take the first `count` records out, or all where there are fewer."""
        taken = Records(
            self.partitions[:count],
            self.offsets[:count],
            self.timestamps[:count],
            self.keys[:count],
            self.values[:count],
        )
        for column in (self.partitions, self.offsets, self.timestamps, self.keys, self.values):
            del column[:count]
        return taken

    def extend(self, other: "Records") -> None:
        """Append the records of another."""
        self.partitions += other.partitions
        self.offsets += other.offsets
        self.timestamps += other.timestamps
        self.keys += other.keys
        self.values += other.values
        self.ends |= other.ends

    def without(self, partitions: frozenset[int]) -> "Records":
        """Return the records of other partitions."""
        rows = [row for row, partition in enumerate(self.partitions) if partition not in partitions]
        return Records(
            [self.partitions[row] for row in rows],
            [self.offsets[row] for row in rows],
            [self.timestamps[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.values[row] for row in rows],
            {partition: end for partition, end in self.ends.items() if partition not in partitions},
        )

    def stops(self) -> dict[int, int]:
        """Return up to where each partition was read; its records are in order, so the last one wins."""
        last = dict(zip(self.partitions, self.offsets, strict=True))
        stops = {partition: offset + 1 for partition, offset in last.items()}
        return stops | {partition: max(end, stops.get(partition, end)) for partition, end in self.ends.items()}


class Batcher:
    """Collects records until they are due. `now` is a monotonic time in seconds, given by the caller."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._clear()

    def _clear(self) -> None:
        self._records = Records()
        self._bytes = 0
        self._armed_at: float | None = None

    def add(self, records: Records, now: float) -> None:
        """Take records in."""
        if not (records or records.ends):
            return
        if self._armed_at is None:
            self._armed_at = now
        self._records.extend(records)
        self._bytes += sum(len(value) for value in records.values if value is not None)

    def due(self, now: float) -> Trigger | None:
        """Say why the epoch is due, or None while it may grow."""
        if self._armed_at is None:
            return None
        if len(self._records) >= self._policy.max_events:
            return "events"
        if self._bytes >= self._policy.max_bytes:
            return "bytes"
        return "wait" if now - self._armed_at >= self._policy.max_wait else None

    @property
    def armed(self) -> bool:
        """Whether a record waits in it."""
        return self._armed_at is not None

    def room(self) -> int:
        """Return how many more records the epoch takes; none once its bytes are full."""
        if self._bytes >= self._policy.max_bytes:
            return 0
        return max(0, self._policy.max_events - len(self._records))

    def remaining(self, now: float) -> float:
        """Return the seconds until the epoch is due by age; the whole wait while it is empty."""
        if self._armed_at is None:
            return self._policy.max_wait
        return max(0.0, self._armed_at + self._policy.max_wait - now)

    def drop(self, partitions: frozenset[int]) -> None:
        """Forget the records of partitions that another consumer reads now."""
        kept = self._records.without(partitions)
        armed_at = self._armed_at
        self._clear()
        if armed_at is not None:
            self.add(kept, armed_at)

    def take(self) -> Records:
        """Give the records away and start empty."""
        records = self._records
        self._clear()
        return records
