"""Places in Kafka's log: which records an epoch covers, and where a sink stands.

Offsets have gaps (transactions, compaction), so a span is the half-open interval of positions that was read, not the
offsets that were found in it: the next span starts exactly where this one stops, whatever lies between.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The positions [start, stop) of one partition."""

    partition: int
    start: int
    stop: int


Spans = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Watermark:
    """Where a group stands in one partition: everything below `next_offset` is done, nothing above it is."""

    partition: int
    next_offset: int
    topic_id: str
    first_offset: int


class Positions:
    """The next position to read of each assigned partition, turned into spans as records arrive."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def assign(self, partition: int, offset: int) -> None:
        """Start (or start again) a partition at an offset."""
        self._next[partition] = offset

    def revoke(self, partitions: Iterable[int]) -> None:
        """Forget partitions that another consumer reads now."""
        for partition in partitions:
            self._next.pop(partition, None)

    def advance(self, last_offsets: dict[int, int]) -> Spans:
        """Cover the records up to and with the last offset of each partition; returns the spans, by partition."""
        spans = []
        for partition, last in sorted(last_offsets.items()):
            spans.append(Span(partition, self._next[partition], last + 1))
            self._next[partition] = last + 1
        return tuple(spans)

    def ahead_of(self, offsets: dict[int, int]) -> list[int]:
        """Return the partitions that are read further on than at these offsets."""
        return [partition for partition, offset in offsets.items() if self._next[partition] > offset]

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions that are read here."""
        return frozenset(self._next)
