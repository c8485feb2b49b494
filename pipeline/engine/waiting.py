"""Waiting: until a moment has passed, or until a server is back."""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final, TypeVar

import structlog

from pipeline import metrics
from pipeline.engine.health import ConsumerHealth
from pipeline.errors import StoppedError, UnavailableError

MIN_BACKOFF_SECONDS: Final = 0.05
MAX_BACKOFF_SECONDS: Final = 5.0

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
                result = work()
            except UnavailableError as error:
                log.warning("waiting", sink=server, error=str(error))
                metrics.retries.labels(server).inc()
                self._health.down(server)
                if self._stop.wait(next(waits)):
                    raise StoppedError(f"stopped while waiting for {server}") from error
            else:
                self._health.up(server)
                return result
