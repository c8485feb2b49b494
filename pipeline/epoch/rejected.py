"""Records that are not counted: why, under which code, and when there are too many of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import HaltError

Code = Literal["invalid", "uncovered", "refused", "internal"]
"""Why a record is a dead letter, for programs: it breaks the contract; no partition holds its day; PostgreSQL refused
its row; a fault of the pipeline's own met it, and it may well be an event."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One record that is not counted, with what a person needs to mend it and a redrive to send it again.

    `timestamp` is the record's own in milliseconds since 1970, as Kafka has it: any 64 bits.
    """

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    reason: str
    code: Code


@dataclass(frozen=True, slots=True)
class Tally:
    """Of an epoch: how many records it has, and the bad ones so far: if it is written in parts, more with each."""

    total: int
    bad: list[Rejected]


@dataclass(frozen=True, slots=True)
class BadRatio:
    """When bad records are no longer the records' fault: more than `ratio` of an epoch, and at least `count`."""

    ratio: float
    count: int

    def exceeded(self, bad: int, total: int) -> bool:
        """Say whether so many of so many are too many."""
        return bad >= self.count and bad > self.ratio * total

    def check(self, bad: Sequence[Rejected], total: int) -> None:
        """Raise HaltError when most of an epoch would be dead-lettered: more likely a bug of ours or of a producer."""
        if self.exceeded(len(bad), total):
            first = bad[0]
            raise HaltError(
                f"{len(bad)} of {total} records are bad; the first is partition {first.partition} offset "
                f"{first.offset}: {first.reason}. They are not written. Mend the producer or the consumer, or "
                f"raise DLQ_HALT_RATIO to dead-letter them all"
            )
