"""`gamemetrics load`: the workload sent through HTTP, as clients would: kept connections, retries that are safe.

Every event brings its own event_id and timestamp, so a request may be sent again whatever became of the first try.
"""

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Retry, connection_from_url
from urllib3.exceptions import HTTPError, MaxRetryError

from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.load.workload import Workload, client_bodies

_MADE_AT_ONCE: Final = 10_000
_CONNECTIONS: Final = 16
_TIMEOUT_SECONDS: Final = 35.0
_TRIES: Final = 20
_MAX_WAIT_SECONDS: Final = 30
_MAX_BACKOFF_SECONDS: Final = 1.0
_RETRIED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send, and with which API key ("" for none)."""

    url: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """How to send: so many events in all, so many a second (None: as fast as they go), so many a request."""

    count: int
    rate: float | None = None
    batch: int = 1


@dataclass(slots=True)
class Tally:
    """What became of the events so far."""

    success: int = 0
    failed: int = 0
    retries: int = 0
    seconds: float = 0.0
    first_error: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def done(self) -> int:
        """How many events have an outcome."""
        return self.success + self.failed

    def add(self, success: int, failed: int, error: str = "") -> None:
        """Count outcomes."""
        with self._lock:
            self.success += success
            self.failed += failed
            if failed and not self.first_error:
                self.first_error = error

    def retried(self) -> None:
        """Count a try that was sent again."""
        with self._lock:
            self.retries += 1


OnProgress = Callable[[Tally], None]
_Waiting = queue.Queue[list[str] | None]
"""Requests to send, each the bodies of its events; None ends one thread."""


def send_load(target: Target, shape: Shape, workload: Workload, on_progress: OnProgress) -> Tally:
    """Send a load and return what became of it; `on_progress` is called now and then, from this thread.

    Raises UnavailableError when nothing listens there, ConfigurationError when the URL is none.
    """
    address = urlsplit(target.url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise ConfigurationError(f"--url: {target.url!r} is not of the form http://host:port")
    _knock(target)
    tally = Tally()
    stop = threading.Event()
    pool = connection_from_url(
        target.url, maxsize=_CONNECTIONS, block=True, timeout=_TIMEOUT_SECONDS, retries=_Patience(stop, tally)
    )
    sender = _Sender(pool, target, shape, tally, stop)
    waiting: _Waiting = queue.Queue(maxsize=4 * _CONNECTIONS)
    threads = [
        threading.Thread(target=sender.run, args=(waiting,), name=f"load-{number}") for number in range(_CONNECTIONS)
    ]
    began = monotonic()
    for thread in threads:
        thread.start()
    try:
        for due, request in _requests(workload, shape):
            if stop.is_set():
                break
            while shape.rate is not None and (early := began + due - monotonic()) > 0:
                stop.wait(min(early, 0.1))
                on_progress(tally)
            waiting.put(request)
            on_progress(tally)
        _end(threads, waiting)
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                on_progress(tally)
    finally:
        # Also when the user breaks off: what waits is left, and what is under way ends with its answer.
        stop.set()
        _end(threads, waiting)
        for thread in threads:
            thread.join()
        pool.close()
    tally.seconds = monotonic() - began
    tally.add(0, shape.count - tally.done, "broken off")  # nothing, unless a sender gave up
    return tally


def _end(threads: list[threading.Thread], waiting: "_Waiting") -> None:
    for _ in threads:
        waiting.put(None)


def _requests(workload: Workload, shape: Shape) -> Iterator[tuple[float, list[str]]]:
    """Yield requests' worth of events, each with the seconds after the start at which it is due."""
    size = max(1, shape.batch)
    step = max(size, _MADE_AT_ONCE // size * size)
    for start in range(0, shape.count, step):
        bodies = client_bodies(workload.events(start, min(step, shape.count - start)))
        for place in range(0, len(bodies), size):
            due = (start + place) / shape.rate if shape.rate is not None else 0.0
            yield due, bodies[place : place + size]


def _knock(target: Target) -> None:
    address = urlsplit(target.url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), _TIMEOUT_SECONDS).close()
    except OSError as error:
        raise UnavailableError(f"nothing answers at {target.url} ({error}): is `gamemetrics serve` running?") from error


class _Patience(Retry):
    """When a request is sent again: after any failure of the connection, and on 429 and 503 when they say.

    Waits end with the load, and nothing is tried after it.
    """

    def __init__(self, stop: threading.Event, tally: Tally, **options: Any) -> None:  # noqa: ANN401 (Retry's own)
        policy = {
            "total": _TRIES - 1,
            "allowed_methods": {"POST"},
            "status_forcelist": _RETRIED,
            "raise_on_status": False,
            "backoff_factor": _MAX_BACKOFF_SECONDS / 4,
            "backoff_max": _MAX_BACKOFF_SECONDS,
            "retry_after_max": _MAX_WAIT_SECONDS,
        }
        super().__init__(**{**policy, **options})
        self._stop = stop
        self._tally = tally

    def new(self, **options: Any) -> Self:  # noqa: ANN401
        """Return the policy for what is left of the tries."""
        return super().new(stop=self._stop, tally=self._tally, **options)

    def is_exhausted(self) -> bool:
        """Tell whether to give up."""
        return self._stop.is_set() or super().is_exhausted()

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait before the next try."""
        self._tally.retried()
        told = self.get_retry_after(response) if response is not None else None
        self._stop.wait(self.get_backoff_time() if told is None else told)


class _Sender:
    """Sends requests; each thread runs the same."""

    def __init__(
        self, pool: HTTPConnectionPool, target: Target, shape: Shape, tally: Tally, stop: threading.Event
    ) -> None:
        self._pool = pool
        self._tally = tally
        self._stop = stop
        self._batch = shape.batch > 1
        self._path = urlsplit(target.url).path.rstrip("/") + (
            "/api/v1/events/batch" if self._batch else "/api/v1/events"
        )
        self._headers = {"Content-Type": "application/x-ndjson" if self._batch else "application/json"}
        if target.key:
            self._headers["Authorization"] = f"Bearer {target.key}"

    def run(self, waiting: "_Waiting") -> None:
        """Send requests until there are no more, or the load is broken off."""
        while (request := waiting.get()) is not None:
            if not self._stop.is_set():
                self._deliver(request)

    def _deliver(self, request: list[str]) -> None:
        """Send one request until it has an outcome."""
        body = "\n".join(request).encode()
        try:
            answer = self._pool.urlopen("POST", self._path, body, self._headers, redirect=False)
        except HTTPError as error:
            reason = error.reason if isinstance(error, MaxRetryError) else error
            self._tally.add(0, len(request), f"{type(reason).__name__}: {reason}")
        else:
            self._count(request, answer)
            if answer.status not in _RETRIED:
                return
        # The server is away for good: the rest need not be tried one by one.
        self._stop.set()

    def _count(self, request: list[str], answer: BaseHTTPResponse) -> None:
        accepted = len(request) if answer.status == HTTPStatus.OK else 0
        if self._batch and accepted:
            accepted = int(orjson.loads(answer.data)["accepted"])
        failed = len(request) - accepted
        self._tally.add(accepted, failed, f"HTTP {answer.status}: {answer.data.decode('utf-8', 'replace').strip()}")
