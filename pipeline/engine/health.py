"""The consumer's health: liveness is that the loop turns, readiness what the last work on every server came to."""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline import metrics
from pipeline.errors import RefusedError, UnavailableError

STALLED_SECONDS: Final = 60.0
HUNG_SECONDS: Final = 30.0
"""Work on a server that takes longer is not known to go on: a statement may hang on a frozen host for ever."""
SILENT_SECONDS: Final = 5.0
"""How long a client of the port may say nothing, or not read."""
MOST_CONNECTIONS: Final = 32
"""Each is a thread. Past them the oldest gives way, which is no probe: these are answered at once."""
_AGAIN_SECONDS: Final = 0.1


class ConsumerHealth:
    """Facts that the consumer's threads note and the probes read."""

    def __init__(self) -> None:
        self._turned_at = monotonic()
        self._away: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._work: dict[tuple[str, int], float] = {}
        self._partitions: frozenset[int] = frozenset()
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Note that the loop went round."""
        self._turned_at = monotonic()

    @contextmanager
    def at_work(self, server: str) -> Iterator[None]:
        """Note that this thread works on a server until the block ends."""
        mine = (server, threading.get_ident())
        with self._lock:
            self._work[mine] = monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._work.pop(mine, None)

    def up(self, server: str) -> None:
        """Note that work on a server succeeded."""
        with self._lock:
            self._away.pop(server, None)
        metrics.sink_up.labels(server).set(1)
        self.refused(server, "")

    def down(self, server: str, reason: UnavailableError) -> None:
        """Note that work on a server failed, and why."""
        with self._lock:
            self._away[server] = str(reason)
        metrics.sink_up.labels(server).set(0)
        self.refused(server, str(reason) if isinstance(reason, RefusedError) else "")

    def refused(self, server: str, reason: str) -> None:
        """Note why a server denies the account a right; empty: it does not."""
        if self._refused.get(server, "") != reason:
            with self._lock:
                self._refused[server] = reason
            metrics.sink_refused.labels(server).set(1 if reason else 0)

    def assigned(self, partitions: frozenset[int]) -> None:
        """Note which partitions are read here."""
        self._partitions = partitions

    def live(self) -> tuple[bool, dict[str, object]]:
        """Say whether a restart would help: only when the loop itself has stood still."""
        still = monotonic() - self._turned_at
        return still < STALLED_SECONDS, {"seconds_since_turn": round(still, 1)}

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Say whether work goes on: the last of it succeeded on every server, and none takes longer than it may."""
        now = monotonic()
        with self._lock:
            reasons = {**self._away, **{server: reason for server, reason in self._refused.items() if reason}}
            hung = {server: round(now - since, 1) for (server, _), since in self._work.items()}
        hung = {server: seconds for server, seconds in hung.items() if seconds > HUNG_SECONDS}
        facts: dict[str, object] = {"away": sorted(reasons), "reasons": reasons, "hung": hung}
        return not reasons and not hung, {**facts, "partitions": sorted(self._partitions)}


class _Server(ThreadingHTTPServer):
    """Of one family, or of both where the address is the unspecified one of IPv6."""

    daemon_threads = True
    request_queue_size = 128  # the base class's 5 would keep a probe waiting behind a flood

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # no descriptor is left: the server would ask again at once, and without end
            with self._lock:
                self._give_way()
            sleep(_AGAIN_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - wider in the base class
        with self._lock:
            if len(self._open) >= MOST_CONNECTIONS:
                self._give_way()
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Keep clients that are cut off, or do not read, out of the log."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def _give_way(self) -> None:
        """End the oldest connection: its thread reads an end, and closes it."""
        if (oldest := next(iter(self._open), None)) is not None:
            del self._open[oldest]
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)


def serve_health(health: ConsumerHealth, port: int, host: str = "") -> ThreadingHTTPServer:
    """Answer /health/live, /health/ready and /metrics on a port, from a thread; close it with `shutdown`.

    On every address of both families if no host is given, or of the one that the machine has.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = SILENT_SECONDS

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest())
            elif self.path in {"/health/live", "/health/ready"}:
                good, facts = health.live() if self.path.endswith("live") else health.ready()
                body = json.dumps({"status": "ok" if good else "failing", **facts}).encode()
                self._answer(200 if good else 503, "application/json", body)
            else:
                self._answer(404, "application/json", b'{"error":"not found"}')

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Keep probes out of the log."""

    try:
        server = _Server(host or "::", port, Handler)
    except OSError:
        if host:
            raise
        server = _Server("0.0.0.0", port, Handler)  # noqa: S104 - a kernel without IPv6
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
