"""Waiting: until a moment has passed, until a server is back, or for what may hang."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from time import monotonic
from typing import Final, TypeVar

import structlog

from pipeline import metrics
from pipeline.engine.health import ConsumerHealth
from pipeline.engine.worker import Worker
from pipeline.errors import StoppedError, UnavailableError

MIN_BACKOFF_SECONDS: Final = 0.05
MAX_BACKOFF_SECONDS: Final = 5.0
BESIDE_SECONDS: Final = 0.5
"""How long the loop waits for work beside it before it turns."""
STOPPING_SECONDS: Final = 5.0
"""How long one that is asked to stop waits for work that may hang."""

T = TypeVar("T")
log = structlog.get_logger()


class Deadline:
    """A moment so many seconds ahead on the monotonic clock, which can be set again."""

    def __init__(self, seconds: float) -> None:
        self.set(seconds)

    def set(self, seconds: float) -> None:
        """Let it be so many seconds from now."""
        self._at = monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return monotonic() >= self._at


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each further attempt: from `least_seconds` doubled up to `most_seconds`, with jitter."""

    least_seconds: float
    most_seconds: float

    def waits(self) -> Iterator[float]:
        """Return the seconds to wait, one attempt after the other."""
        delay = self.least_seconds
        while True:
            yield random.uniform(delay / 2, delay)  # noqa: S311 - jitter is no secret
            delay = min(2 * delay, self.most_seconds)


class Retry:
    """Does work as often as it takes while its server is away. Any thread, for it keeps nothing of an attempt.

    `before_each` is called before each attempt, by whoever retries.
    """

    def __init__(
        self, stop: threading.Event, health: ConsumerHealth, before_each: Callable[[], None] | None = None
    ) -> None:
        self._stop = stop
        self._health = health
        self._before_each = before_each
        self._backoff = Backoff(MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)

    def __call__(self, server: str, work: Callable[[], T]) -> T:
        """Return what the work returns. Raises StoppedError when asked to stop meanwhile, and what else it raises."""
        waits = self._backoff.waits()
        while True:
            if self._before_each is not None:
                self._before_each()
            try:
                return self.once(server, work)
            except UnavailableError as error:
                log.warning("waiting", sink=server, error=str(error))
                metrics.retries.labels(server).inc()
                if self._stop.wait(next(waits)):
                    raise StoppedError(f"stopped while waiting for {server}") from error

    def once(self, server: str, work: Callable[[], T]) -> T:
        """Do the work one time, and tell the probes what it came to. Raises UnavailableError too."""
        try:
            with self._health.at_work(server):
                result = work()
        except UnavailableError as error:
            self._health.down(server, error)
            raise
        self._health.up(server)
        return result


class LoopRetry(Retry):
    """The loop's own: each attempt is a turn, and so is each moment of one that hangs: a restart would mend neither."""

    def __init__(self, stop: threading.Event, health: ConsumerHealth) -> None:
        super().__init__(stop, health, before_each=health.turn)
        self._stop = stop
        self._turn = health.turn
        self._worker = Worker("beside")

    def beside(self, work: Callable[[], T]) -> T:
        """Return what the work returns, or raise what it raises. Raises StoppedError if it hangs at the end.

        Nothing that calls the source: while it polls, it waits for any other thread's call, and that one for the poll.
        """
        doing = self._worker.submit(work)
        patience: Deadline | None = None
        while not wait([doing], BESIDE_SECONDS).done:
            self._turn()
            if self._stop.is_set():
                patience = patience or Deadline(STOPPING_SECONDS)
                if patience.passed:
                    raise StoppedError("stopped while a server hangs")
        self._turn()
        return doing.result()

    def close(self) -> bool:
        """End the thread; whether it has ended: what it works with is its own until then."""
        return self._worker.close(STOPPING_SECONDS)
