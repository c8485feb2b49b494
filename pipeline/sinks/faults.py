"""Faults of ours made known: each counted, each kind of each stage logged at once and then rarely."""

import traceback
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

import structlog

from pipeline import metrics
from pipeline.epoch.narrowing import Fault

QUIET_SECONDS: Final = 300.0
"""How long a kind of fault, once logged, is only counted: a lane that raises does so for every slice of records."""

_TRACE_CHARACTERS: Final = 4_000

log = structlog.get_logger()


class FaultReport:
    """Tells of faults. One thread; `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._told_at: dict[tuple[str, str], float] = {}
        self._untold: dict[tuple[str, str], int] = {}

    def of_lanes(self, faults: Iterable[Fault]) -> None:
        """Tell of lanes that raised: it cost time and no record."""
        for fault in faults:
            metrics.lane_faults.labels(fault.stage).inc()
            self._tell("a lane raised; its records went on to the next", fault)

    def of_records(self, faults: Iterable[Fault]) -> None:
        """Tell of records that are dead-lettered for a fault of ours."""
        for fault in faults:
            metrics.internal_faults.labels(fault.stage).inc(max(1, fault.records))
            self._tell("a fault of ours; its records are dead letters with the code internal", fault)

    def _tell(self, what: str, fault: Fault) -> None:
        kind, now = (fault.stage, fault.first.kind), self._clock()
        if kind in self._told_at and now - self._told_at[kind] < QUIET_SECONDS:
            self._untold[kind] = self._untold.get(kind, 0) + 1
            return
        self._told_at[kind] = now
        error = fault.first.error
        log.error(
            what,
            stage=fault.stage,
            error=fault.first.text,
            records=fault.records,
            untold=self._untold.pop(kind, 0),
            trace="".join(traceback.format_exception(error))[-_TRACE_CHARACTERS:],
        )
