"""`gamemetrics load`: the workload sent through HTTP, as clients would: kept connections, retries that are safe.

Every event brings its own event_id and timestamp, so a request may be sent again whatever became of the first try.
"""

import http.client
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import orjson

from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.load.workload import Workload, client_bodies

_MADE_AT_ONCE: Final = 10_000
_CONNECTIONS: Final = 16
_TIMEOUT_SECONDS: Final = 35.0
_TRIES: Final = 20
_MAX_WAIT_SECONDS: Final = 30.0
_RETRIED: Final = frozenset({429, 503})


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


Watch = Callable[[Tally], None]


def send_load(target: Target, shape: Shape, workload: Workload, watch: Watch) -> Tally:
    """Send a load and return what became of it; `watch` is called now and then, from this thread.

    Raises UnavailableError when nothing listens there, ConfigurationError when the URL is none.
    """
    address = urlsplit(target.url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise ConfigurationError(f"--url: {target.url!r} is not of the form http://host:port")
    _knock(target)
    tally = Tally()
    stop = threading.Event()
    waiting: queue.Queue[list[str] | None] = queue.Queue(maxsize=4 * _CONNECTIONS)
    senders = [
        threading.Thread(target=_Sender(target, shape, tally, stop).run, args=(waiting,), name=f"load-{number}")
        for number in range(_CONNECTIONS)
    ]
    began = monotonic()
    for sender in senders:
        sender.start()
    try:
        for due, request in _requests(workload, shape):
            if stop.is_set():
                break
            while shape.rate is not None and (early := began + due - monotonic()) > 0:
                stop.wait(min(early, 0.1))
                watch(tally)
            waiting.put(request)
            watch(tally)
        for _ in senders:
            waiting.put(None)
        for sender in senders:
            while sender.is_alive():
                sender.join(0.1)
                watch(tally)
    finally:
        # Also when the user breaks off: what waits is left, and what is under way ends with its answer.
        stop.set()
        for sender in senders:
            sender.join()
    tally.seconds = monotonic() - began
    tally.add(0, shape.count - tally.done, "broken off")  # nothing, unless a sender gave up
    return tally


def _requests(workload: Workload, shape: Shape) -> Iterator[tuple[float, list[str]]]:
    """Yield requests' worth of events, each with the seconds after the start at which it is due."""
    size = max(1, shape.batch)
    step = max(size, _MADE_AT_ONCE // size * size)
    for start in range(0, shape.count, step):
        bodies = client_bodies(workload.events(start, min(step, shape.count - start)))
        for place in range(0, len(bodies), size):
            due = (start + place) / shape.rate if shape.rate is not None else 0.0
            yield due, bodies[place : place + size]


def _connect(target: Target) -> http.client.HTTPConnection:
    address = urlsplit(target.url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    return kind(address.hostname or "", address.port, timeout=_TIMEOUT_SECONDS)


def _knock(target: Target) -> None:
    connection = _connect(target)
    try:
        connection.connect()
    except OSError as error:
        raise UnavailableError(f"nothing answers at {target.url} ({error}): is `gamemetrics serve` running?") from error
    finally:
        connection.close()


class _Sender:
    """One connection's worth of sending, in a thread."""

    def __init__(self, target: Target, shape: Shape, tally: Tally, stop: threading.Event) -> None:
        self._tally = tally
        self._stop = stop
        self._batch = shape.batch > 1
        self._connection = _connect(target)
        self._path = urlsplit(target.url).path.rstrip("/") + (
            "/api/v1/events/batch" if self._batch else "/api/v1/events"
        )
        self._headers = {"Content-Type": "application/x-ndjson" if self._batch else "application/json"}
        if target.key:
            self._headers["Authorization"] = f"Bearer {target.key}"

    def run(self, waiting: "queue.Queue[list[str] | None]") -> None:
        """Send requests until there are no more, or the load is broken off."""
        while (request := waiting.get()) is not None:
            if self._stop.is_set():
                continue
            self._deliver(request)
        self._connection.close()

    def _deliver(self, request: list[str]) -> None:
        """Send one request until it has an outcome."""
        body = "\n".join(request).encode()
        error = ""
        for attempt in range(_TRIES):
            if attempt:
                self._tally.retried()
            try:
                status, retry_after, answer = self._post(body)
            except (OSError, http.client.HTTPException) as failure:
                self._connection.close()
                error, wait = f"{type(failure).__name__}: {failure}", 0.5
            else:
                if status not in _RETRIED:
                    self._settle(request, status, answer)
                    return
                error, wait = f"HTTP {status}: {answer.decode('utf-8', 'replace').strip()}", retry_after
            if self._stop.wait(min(wait, _MAX_WAIT_SECONDS)):
                break
        self._tally.add(0, len(request), error)
        # The server is away for good: the rest need not be tried one by one.
        self._stop.set()

    def _post(self, body: bytes) -> tuple[int, float, bytes]:
        self._connection.request("POST", self._path, body, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        return response.status, _seconds(response.getheader("Retry-After")), answer

    def _settle(self, request: list[str], status: int, answer: bytes) -> None:
        accepted = len(request) if status == http.client.OK else 0
        if self._batch and status == http.client.OK:
            accepted = int(orjson.loads(answer)["accepted"])
        failed = len(request) - accepted
        self._tally.add(accepted, failed, f"HTTP {status}: {answer.decode('utf-8', 'replace').strip()}")


def _seconds(header: str | None) -> float:
    """Read Retry-After in seconds; one second where there is none to read."""
    try:
        return max(0.0, float(header or "1"))
    except ValueError:
        return 1.0
