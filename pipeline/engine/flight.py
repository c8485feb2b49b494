"""Flights: epochs on their way through the stages, several at once, landing in the order they left.

Each stage is one thread with a queue: decode and aggregate, PostgreSQL, Redis. The order of epochs is the order of the
queues, so it needs no numbering; that a flight whose predecessor failed writes nothing is not the queue's doing but
the watermark's, which such an epoch does not meet (`sinks.postgres`). A stage is given the value that the one before
it returned, by a future, and nothing else.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from time import monotonic
from typing import Literal, ParamSpec, TypeVar

from pipeline import metrics
from pipeline.contract.offsets import Spans
from pipeline.engine.worker import Worker
from pipeline.epoch.batch import Records
from pipeline.epoch.epoch import Epoch
from pipeline.sinks.postgres import Written

P = ParamSpec("P")
T = TypeVar("T")

Thread = Literal["prepare", "postgres", "redis"]


@dataclass(frozen=True, slots=True)
class Stages:
    """The work of each stage; what one returns the next is given, and what one raises comes out at the landing."""

    prepare: Callable[[Spans, Records], Epoch]
    write: Callable[[Epoch], Written]
    apply: Callable[[Written], Spans]


class Flights:
    """Up to `depth` epochs under way. Launch and land from one thread."""

    def __init__(self, stages: Stages, depth: int) -> None:
        self._stages = stages
        self._depth = depth
        self._under_way: deque[Future[Spans]] = deque()
        self._errands: deque[Future[None]] = deque()
        names: tuple[Thread, ...] = ("prepare", "postgres", "redis")
        self._threads = {name: Worker(name) for name in names}

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def full(self) -> bool:
        """Whether no further epoch may leave before one has landed."""
        return len(self._under_way) >= self._depth

    def launch(self, spans: Spans, records: Records) -> None:
        """Send an epoch on its way."""
        prepared = self._threads["prepare"].submit(_timed, "prepare", self._stages.prepare, spans, records)
        written = self._threads["postgres"].submit(lambda: _timed("postgres", self._stages.write, prepared.result()))
        landed = self._threads["redis"].submit(lambda: _timed("redis", self._stages.apply, written.result()))
        self._under_way.append(landed)
        metrics.flights.set(len(self._under_way))

    def errand(self, thread: Thread, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have work done by a stage's thread, after the epochs that left before and before those that leave later.

        What it raises comes out at a landing.
        """
        self._errands.append(self._threads[thread].submit(work, *args, **kwargs))

    def land(self, timeout: float) -> Iterator[Spans]:
        """Give the spans of the epochs that both sinks have, waiting up to `timeout` seconds for the first of them.

        Raises what an epoch's stages raised; that epoch and those after it have not landed.
        """
        if self._under_way and timeout > 0:
            wait([self._under_way[0]], timeout)
        while self._errands and self._errands[0].done():
            self._errands.popleft().result()
        while self._under_way and self._under_way[0].done():
            spans = self._under_way[0].result()
            self._under_way.popleft()
            metrics.flights.set(len(self._under_way))
            yield spans

    def abandon(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until every flight has ended, whichever way, and forget them; False: not yet."""
        if wait(self._under_way, timeout).not_done:
            return False
        self._under_way.clear()
        metrics.flights.set(0)
        return True

    def close(self, timeout: float | None = None) -> bool:
        """End the threads once their queues are empty; whether they have, each within `timeout` seconds."""
        ended = [thread.close(timeout) for thread in self._threads.values()]
        return all(ended)


def _timed(stage: Thread, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    began = monotonic()
    try:
        return work(*args, **kwargs)
    finally:
        metrics.stage_seconds.labels(stage).observe(monotonic() - began)
