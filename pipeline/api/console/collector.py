"""The collector: one for the process, however many watch. It composes, remembers a quarter of an hour, and sends."""

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from typing import Final

from pipeline.api.console.overview import Composer
from pipeline.api.console.schemas import History, Overview, Series
from pipeline.api.console.sources import IDLE_SECONDS, Pace
from pipeline.api.console.watchers import Watchers, event
from pipeline.tasks import cancel, watched

STEP_SECONDS: Final = int(IDLE_SECONDS)
_FIRST_SECONDS: Final = 0.1
"""How soon it is composed again until each server was asked once: what is shown first must not say that all is down."""
_VALUES: Final = 15 * 60 // STEP_SECONDS

Values = tuple[float | None, float | None, float | None, float | None, float | None]


class Collector:
    """Runs the sources and the composer, at the pace of whether somebody watches."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._pace = Pace()
        self._values: deque[Values] = deque(maxlen=_VALUES)
        self._newest: Overview | None = None
        self.watchers = Watchers(lambda count: self._pace.watch(watched=count > 0))

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin, until the stack ends."""
        composer = self._composer
        for source in (composer.bounds, composer.marks, composer.standings, composer.letters, composer.proof):
            stack.push_async_callback(cancel, watched(source.keep_asking(self._pace)))
        stack.push_async_callback(cancel, watched(self._keep_composing()))

    @property
    def overview(self) -> Overview:
        """The newest overview."""
        if self._newest is None:
            self._newest = self._composer.compose(asyncio.get_running_loop().time())
        return self._newest

    def history(self) -> History:
        """Return the series of the last quarter of an hour."""
        accepted, counted, lags, ages, letters = ([values[place] for values in self._values] for place in range(5))
        return History(STEP_SECONDS, Series(accepted, counted, lags, ages, letters))

    def first_events(self) -> bytes:
        """Return what a new watcher is sent at once."""
        return event("history", self.history()) + event("overview", self.overview)

    async def _keep_composing(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            began = loop.time()
            self._newest = self._composer.compose(began)
            if began >= due:
                due = max(due + STEP_SECONDS, began)
                self._values.append(_values(self._newest))
            if len(self.watchers):
                self.watchers.publish(event("overview", self._newest))
            if self._composer.complete:
                await self._pace.rest(began)
            else:
                await asyncio.sleep(_FIRST_SECONDS)


def _values(overview: Overview) -> Values:
    """Take the values of the series: of several groups the fastest, and the furthest behind."""
    counted = [one.records_per_second for one in overview.groups if one.records_per_second is not None]
    lags = [one.lag_records for one in overview.groups if one.lag_records is not None]
    ages = [one.freshness_seconds for one in overview.groups if one.freshness_seconds is not None]
    return (
        overview.edge.accepted_per_second,
        max(counted, default=None),
        max(lags, default=None),
        max(ages, default=None),
        overview.dead_letters.waiting,
    )
