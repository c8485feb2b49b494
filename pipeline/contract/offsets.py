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
    """Where a group stands in one partition: everything below `next_offset` is done, nothing above it is.

    It began at `first_offset`; what lies between was admitted, found to be duplicates, or dead-lettered.
    """

    partition: int
    topic_id: str
    first_offset: int
    next_offset: int
    admitted: int
    duplicates: int
    dead_lettered: int


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

    def advance(self, stops: dict[int, int]) -> Spans:
        """Cover what lies below the stop of each partition; returns the spans that have a length, by partition."""
        spans = []
        for partition, stop in sorted(stops.items()):
            if self._next[partition] < stop:
                spans.append(Span(partition, self._next[partition], stop))
                self._next[partition] = stop
        return tuple(spans)

    def beyond(self, stops: dict[int, int]) -> dict[int, int]:
        """Return those stops that lie further on than their partitions are read, and are of partitions read here."""
        return {partition: stop for partition, stop in stops.items() if self._next.get(partition, stop) < stop}

    def ahead_of(self, offsets: dict[int, int]) -> list[int]:
        """Return the partitions that are read further on than at these offsets."""
        return [partition for partition, offset in offsets.items() if self._next[partition] > offset]

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions that are read here."""
        return frozenset(self._next)
