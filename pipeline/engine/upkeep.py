"""Upkeep: the housekeeping of the tables, now and again, beside the epochs, and waited for by nobody."""

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from pipeline import metrics
from pipeline.config import Settings
from pipeline.engine.waiting import STOPPING_SECONDS, Backoff, Deadline
from pipeline.engine.worker import Worker
from pipeline.epoch.roles import Role
from pipeline.errors import UnavailableError
from pipeline.sinks.housekeeping import Chore, Housekeeping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

EVERY_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 300.0
"""The longest pause before what was put off is tried again; days are made a week ahead."""

log = structlog.get_logger()


class Upkeep:
    """Does the chores in a thread of its own. `turn` and `close` are the loop's."""

    def __init__(self, settings: Settings, role: Role, stop: threading.Event) -> None:
        self._housekeeping = Housekeeping(settings, role)
        self._schedule = {chore: _Schedule(chore) for chore in self._housekeeping.chores}
        self._stop = stop
        self._worker = Worker("housekeeping")
        self._round: Future[None] | None = None

    def turn(self) -> None:
        """Have the chores done that are due, unless that is under way. Raises what nobody foresaw of the last round."""
        if self._round is not None and self._round.done():
            done, self._round = self._round, None
            done.result()
        if self._round is None and any(one.due for one in self._schedule.values()):
            self._round = self._worker.submit(self._do_all)

    def close(self) -> None:
        """End the thread and close the connection, unless it hangs with the server: then it is left to that."""
        if self._worker.close(STOPPING_SECONDS):
            self._housekeeping.close()

    def _do_all(self) -> None:
        for chore, schedule in self._schedule.items():
            if schedule.due:
                try:
                    while not self._stop.is_set() and self._housekeeping.step(chore):
                        pass
                except UnavailableError as error:
                    schedule.put_off(error)
                else:
                    schedule.done()


class _Schedule:
    """When a chore is due: at once, every EVERY_SECONDS, and at growing intervals while it cannot be done."""

    def __init__(self, chore: Chore) -> None:
        self._chore = chore
        self._at = Deadline(0)
        self._waits: Iterator[float] = iter(())
        self._since: float | None = None
        metrics.housekeeping_failures.labels(chore)
        metrics.housekeeping_late.labels(chore).set(0)

    @property
    def due(self) -> bool:
        """Whether it is to be done now."""
        return self._at.passed

    def done(self) -> None:
        """Note that nothing of it is left to do."""
        if self._since is not None:
            log.info("housekeeping done", chore=self._chore, late_seconds=round(monotonic() - self._since))
        self._since = None
        metrics.housekeeping_late.labels(self._chore).set(0)
        self._at.set(EVERY_SECONDS)

    def put_off(self, error: UnavailableError) -> None:
        """Note that it could not be done, and why."""
        if self._since is None:
            self._since = monotonic()
            self._waits = Backoff(EVERY_SECONDS, LONGEST_SECONDS).waits()
        log.warning("housekeeping put off", chore=self._chore, error=str(error))
        metrics.housekeeping_failures.labels(self._chore).inc()
        metrics.housekeeping_late.labels(self._chore).set(monotonic() - self._since)
        self._at.set(next(self._waits))
