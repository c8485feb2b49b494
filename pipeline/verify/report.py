"""What a verification found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pipeline.verify.differences import Differences

Advance = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is (0: unknown)."""


KINDS: Final = (
    "watermark",
    "checkpoint",
    "records",
    "dead-lettered",
    "dead letter",
    "rows in dlq_events",
    "internal dead letter",
    "admitted",
    "judge",
    "event",
    "statistics",
    "board",
    "weekly view",
    "players not looked at yet",
    "undecided",
    "Redis watermark",
    "Redis statistics",
    "Redis board",
)
"""The kinds of differences that a proof in steps finds."""


@dataclass(frozen=True, slots=True)
class PartitionLine:
    """One partition's account: records = admitted + duplicates + dead_lettered, and how far the log goes on."""

    partition: int
    records: int
    admitted: int
    duplicates: int
    dead_lettered: int
    lag: int


@dataclass(slots=True)
class Report:
    """What was compared, what differs, and what could not be recounted.

    `seed` chose the `judged_twice` records that both judges saw.
    """

    seed: int = 0
    judged_twice: int = 0
    groups: dict[str, list[PartitionLine]] = field(default_factory=dict)
    compared: dict[str, int] = field(default_factory=dict)
    not_recounted: list[str] = field(default_factory=list)
    differences: Differences = field(default_factory=Differences)

    def compare(self, what: str, number: int) -> None:
        """Note that so many keys were compared."""
        self.compared[what] = self.compared.get(what, 0) + number

    def skip(self, what: str) -> None:
        """Note that something could not be recounted."""
        if what not in self.not_recounted:
            self.not_recounted.append(what)
