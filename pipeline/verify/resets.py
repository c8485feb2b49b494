"""Watermarks that somebody set back or deleted (`pipeline_resets`): what was booked before, what is booked again."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl
import psycopg

from pipeline.contract.offsets import Watermark


@dataclass(frozen=True, slots=True)
class Resets:
    """Of one group and topic.

    `before`: how many events watermarks had admitted that are deleted. `again`: by partition the offsets [start, stop)
    that are read once more, each as often as it stands here. `deleted`: whether a watermark was.
    """

    before: int = 0
    again: Mapping[int, list[tuple[int, int]]] = field(default_factory=dict)
    deleted: bool = False

    def count(self, places: pl.DataFrame) -> dict[int, int]:
        """Count by partition how often records (partition, offset) are booked again."""
        return {
            partition: sum(
                len(places.filter(partition=partition).filter(pl.col("offset").is_between(start, stop, closed="left")))
                for start, stop in ranges
            )
            for partition, ranges in self.again.items()
        }

    def under_way(self, mark: Watermark) -> bool:
        """Whether a watermark that was set back is not yet again where it stood."""
        return any(mark.next_offset < stop for _, stop in self.again.get(mark.partition, []))


def read_resets(connection: psycopg.Connection, group_id: str, topic: str, marks: Mapping[int, Watermark]) -> Resets:
    """Read what was done to a group's watermarks; what was done before one was deleted it no longer tells of."""
    before, deleted = 0, False
    again: dict[int, list[tuple[int, int]]] = {}
    for partition, topic_id, was, now, admitted in connection.execute(
        "SELECT partition, topic_id, was_offset, next_offset, admitted FROM pipeline_resets"
        " WHERE group_id = %s AND topic = %s ORDER BY id",
        (group_id, topic),
    ):
        if now is None:
            before, deleted = before + admitted, True
            again.pop(partition, None)
        elif partition in marks and marks[partition].topic_id == topic_id:
            again.setdefault(partition, []).append((now, was))
    return Resets(before, again, deleted)
