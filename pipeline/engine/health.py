"""The consumer's health: liveness is that the loop turns, readiness what the last work on every server came to."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline import metrics
from pipeline.errors import RefusedError, UnavailableError

STALLED_SECONDS: Final = 60.0
HUNG_SECONDS: Final = 30.0
"""Work on a server that takes longer is not known to go on: a statement may hang on a frozen host for ever."""


class ConsumerHealth:
    """Facts that the consumer's threads note and the probes read."""

    def __init__(self) -> None:
        self._turned_at = monotonic()
        self._away: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._work: dict[tuple[str, int], float] = {}
        self._partitions: frozenset[int] = frozenset()
        self.running = True
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
    """Of one family, or of both if the address is the unspecified one of IPv6."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def serve_health(health: ConsumerHealth, port: int, host: str = "") -> ThreadingHTTPServer:
    """Answer /health/live, /health/ready and /metrics on a port, from a thread; close it with `shutdown`.

    On every address of both families if no host is given, or of the one that the machine has.
    """

    class Handler(BaseHTTPRequestHandler):
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
