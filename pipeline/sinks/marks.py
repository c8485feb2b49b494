"""Where groups stand, as PostgreSQL's rows and Redis' fields say it, for who writes and for who only looks.

polars is not imported: the edge reads them, too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.contract.offsets import Watermark

OWNERS: Final = "SELECT projection, group_id FROM pipeline_owners"
_ROW: Final = "partition, topic_id, first_offset, next_offset, admitted, duplicates, dead_lettered"
"""The columns of a `Watermark`, in their order."""
_OF_TOPIC: Final = "FROM pipeline_watermarks WHERE topic = %s ORDER BY group_id, partition"
WATERMARKS: Final = f"SELECT group_id, {_ROW} {_OF_TOPIC}"
_MOVED: Final = "updated_at, extract(epoch FROM clock_timestamp() - updated_at)::float8, epoch_events, epoch_trigger"
PROGRESS: Final = f"SELECT {_MOVED}, group_id, {_ROW} {_OF_TOPIC}"
"""By topic: what a person asks of a mark. Its age is in seconds of PostgreSQL's clock, which dated it."""
OWNED_WATERMARKS: Final = (
    "SELECT owner.projection, owner.group_id, mark.partition, mark.topic_id, mark.next_offset"
    " FROM pipeline_owners AS owner LEFT JOIN pipeline_watermarks AS mark"
    " ON mark.group_id = owner.group_id AND mark.topic = %s"
)
"""Where the owner of each projection stands; a partition that is NULL: nowhere yet."""

_place: Final = re.compile(rb"(.+):([0-9]{1,9})", re.DOTALL)
_mark: Final = re.compile(rb"([0-9]{1,19}):([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Mark:
    """A group's watermark, `idle_seconds` after it was moved last, and what the epoch was that moved it."""

    group: str
    watermark: Watermark
    updated_at: datetime
    idle_seconds: float
    epoch_events: int | None
    epoch_trigger: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where Redis stands in one partition: below `offset` all is applied, and `done` chunks of the epoch after it."""

    offset: int
    done: int


def watermarks_in(rows: Iterable[tuple[Any, ...]]) -> dict[str, dict[int, Watermark]]:
    """Read the rows of WATERMARKS: by group, then by partition in their order."""
    found: dict[str, dict[int, Watermark]] = {}
    for group_id, *values in rows:
        mark = Watermark(*values)
        found.setdefault(group_id, {})[mark.partition] = mark
    return found


def marks_in(rows: Iterable[tuple[Any, ...]]) -> list[Mark]:
    """Read the rows of PROGRESS: by group, then by partition."""
    return [
        Mark(group, Watermark(*values), updated_at, idle, events, trigger)
        for updated_at, idle, events, trigger, group, *values in rows
    ]


def standings_in(stored: Mapping[bytes, bytes], topic: str) -> dict[int, Standing]:
    """Read the hash of a group's watermarks in Redis: those of one topic, by partition."""
    standings = {}
    for name, mark in stored.items():
        place, read = _place.fullmatch(name), _mark.fullmatch(mark)
        if place is not None and place[1] == topic.encode() and read is not None:
            standings[int(place[2])] = Standing(int(read[1]), int(read[2]))
    return standings
