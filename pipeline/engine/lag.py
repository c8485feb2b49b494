"""How far behind the consumer is: in records, and in the age of what both sinks have.

The numbers are this process's, for the partitions it reads now; a partition that went to a peer is no longer told of,
or two processes would disagree about it.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from pipeline import metrics
from pipeline.contract.event import RECORD_TIMES
from pipeline.contract.offsets import Spans
from pipeline.engine.waiting import Deadline
from pipeline.epoch.batch import Records

MEASURE_SECONDS: Final = 2.0

Ends = Callable[[Iterable[int]], Mapping[int, int]]
"""Asks Kafka where the logs of partitions end; a partition may be missing from the answer."""


@dataclass(frozen=True, slots=True)
class Ages:
    """The oldest record of an epoch, and the newest of each of its partitions, in milliseconds since 1970.

    Of the records whose time is one (`event.RECORD_TIMES`); there may be none.
    """

    oldest: int | None
    newest: Mapping[int, int]


class LagMeter:
    """Follows epochs from their departure to their landing. One thread."""

    def __init__(self) -> None:
        self._under_way: dict[Spans, Ages] = {}
        self._written: dict[int, int] = {}
        self._newest: dict[int, int] = {}
        self._measure_at = Deadline(MEASURE_SECONDS)

    def start(self, offsets: Mapping[int, int]) -> None:
        """Note up to where partitions are written."""
        self._written.update(offsets)
        for partition, offset in offsets.items():
            metrics.position.labels(partition).set(offset)

    def stop(self, partitions: Iterable[int]) -> None:
        """Tell no more of partitions that a peer reads now."""
        for partition in partitions:
            if self._written.pop(partition, None) is not None:
                _forget(partition)
            self._newest.pop(partition, None)

    def departed(self, spans: Spans, records: Records) -> None:
        """Note the times of an epoch's records; one that only passes markers has none."""
        if records:
            self._under_way[spans] = ages(records)

    def landed(self, spans: Spans) -> None:
        """Note that both sinks have an epoch."""
        self.start({span.partition: span.stop for span in spans if span.partition in self._written})
        noted = self._under_way.pop(spans, None)
        if noted is not None and noted.oldest is not None:
            metrics.freshness.observe(max(0.0, time.time() - noted.oldest / 1000))
            self._newest.update(noted.newest)

    def abandoned(self) -> None:
        """Forget the epochs under way; they will depart again."""
        self._under_way.clear()

    def measure(self, ends: Ends) -> None:
        """Publish the lag of each partition, unless that was done MEASURE_SECONDS ago at most."""
        if not self._measure_at.passed:
            return
        self._measure_at.set(MEASURE_SECONDS)
        for partition, end in ends(sorted(self._written)).items():
            behind = max(0, end - self._written[partition])
            metrics.log_end.labels(partition).set(end)
            metrics.lag.labels(partition).set(behind)
            if behind == 0:
                metrics.lag_seconds.labels(partition).set(0)
            elif partition in self._newest:
                metrics.lag_seconds.labels(partition).set(max(0.0, time.time() - self._newest[partition] / 1000))


def ages(records: Records) -> Ages:
    """Find the oldest time, and the newest of each partition: its last record's, which is near the end."""
    moment = pl.col("timestamp")
    timed = records.frame.filter(moment.is_between(RECORD_TIMES[0], RECORD_TIMES[-1]))
    found = timed.group_by("partition").agg(oldest=moment.min(), newest=moment.last()).rows()
    oldest = min((oldest for _, oldest, _ in found), default=None)
    return Ages(oldest, {partition: newest for partition, _, newest in found})


def _forget(partition: int) -> None:
    for gauge in (metrics.position, metrics.log_end, metrics.lag, metrics.lag_seconds):
        with contextlib.suppress(KeyError):  # a partition that was never measured
            gauge.remove(partition)
