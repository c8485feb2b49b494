"""How watermarks are read: PostgreSQL's row and Redis' field, by the consumer, the checks, and the edge.

Text and bytes only, with no polars behind them, for the edge does without it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString

WATERMARKS: Final[LiteralString] = (
    "SELECT group_id, partition, topic_id, first_offset, next_offset, admitted, duplicates, dead_lettered"
    " FROM pipeline_watermarks WHERE topic = %s ORDER BY group_id, partition"
)
"""By topic: the group, and then a `Watermark` in the order of its fields."""

PROGRESS: Final[LiteralString] = (
    "SELECT group_id, partition, first_offset, next_offset, admitted, duplicates, dead_lettered, updated_at,"
    " extract(epoch FROM clock_timestamp() - updated_at)::float8, epoch_events, epoch_trigger"
    " FROM pipeline_watermarks WHERE topic = %s ORDER BY group_id, partition"
)
"""By topic: what a person asks of a mark. Its age is in seconds of PostgreSQL's clock, which dated it."""

_mark: Final = re.compile(rb"([0-9]{1,19}):([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where Redis stands in one partition: below `offset` all is applied, and `done` chunks of the epoch after it."""

    offset: int
    done: int


def read_standings(stored: Mapping[bytes, bytes], topic: str) -> dict[int, Standing]:
    """Read a group's hash in Redis: where it stands in each partition of the topic that it knows."""
    standings = {}
    for name, mark in stored.items():
        named, _, partition = name.rpartition(b":")
        read = _mark.fullmatch(mark)
        if named == topic.encode() and partition.isdigit() and read is not None:
            standings[int(partition)] = Standing(int(read[1]), int(read[2]))
    return standings
