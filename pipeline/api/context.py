"""What the endpoints share."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from pipeline.api.access.keyring import Keyring
from pipeline.api.access.limits import Limits
from pipeline.api.boards.arrivals import Arrivals
from pipeline.api.boards.reads import Boards
from pipeline.api.console.console import Console
from pipeline.api.events.pressure import Pressure
from pipeline.api.events.short_cut import ShortCut
from pipeline.api.events.stamps import Stamps, Tick
from pipeline.api.http.connection import Connection
from pipeline.api.http.replies import Refusal
from pipeline.api.metrics import EdgeMetrics
from pipeline.api.refusals.refusals import Refusals
from pipeline.contract.event import RECORD_TIMES
from pipeline.kafka.producer import EventProducer
from pipeline.trail.tracer import Tracer

_log = structlog.get_logger("edge")


@dataclass(slots=True, eq=False)
class Context:
    """Everything an endpoint works with."""

    producer: EventProducer
    short_cut: ShortCut
    keyring: Keyring
    limits: Limits
    metrics: EdgeMetrics
    pressure: Pressure
    boards: Boards
    refusals: Refusals
    console: Console
    tracer: Tracer
    arrivals: Arrivals
    stamps: Stamps = field(default_factory=Stamps)
    judging: asyncio.Lock = field(default_factory=asyncio.Lock)  # of large batches: one at a time
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def require_kafka(self) -> None:
        """Raise Refusal at once while Kafka is known to be away, rather than hold the client until a time-out."""
        if not self.producer.reachable:
            raise self.unavailable(self.producer.fault)

    def tick(self) -> Tick:
        """Return the server's time. Raises Refusal while its clock shows one that no event may have."""
        tick = self.stamps.now()
        if tick.milliseconds not in RECORD_TIMES:
            raise self.unavailable(f"the server's clock shows {tick.text}")
        return tick

    def unavailable(self, reason: str) -> Refusal:
        """Return the 503 for an event that never went to Kafka."""
        return Refusal(503, f"{reason}; nothing was accepted", [("Retry-After", "2")])

    def spawn(self, connection: Connection, answering: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that answers the connection; a Refusal it raises is the answer."""
        task = asyncio.get_running_loop().create_task(_answer(connection, answering))
        self.tasks.add(task)
        task.add_done_callback(lambda done: self._finished(done, connection))

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the task that runs this from those that the loop has work of: it waits for what may take seconds.

        While any of them is under way the producer does not wait for Kafka on the loop, but looks again and again.
        """
        task = asyncio.current_task()
        self.tasks.discard(task)
        try:
            yield
        finally:
            if task is not None:
                self.tasks.add(task)

    def _finished(self, task: asyncio.Task[None], connection: Connection) -> None:
        """Answer for a coroutine that failed: a fault of the program must not leave a client without a reply."""
        self.tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("a request failed", exc_info=fault)
            connection.refuse(Refusal(500, "internal error"))


async def _answer(connection: Connection, answering: Coroutine[Any, Any, None]) -> None:
    try:
        await answering
    except Refusal as refusal:
        connection.refuse(refusal)
