"""The consumer's health: liveness is that the loop turns, readiness that every server answers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline import metrics

STALLED_SECONDS: Final = 60.0


class ConsumerHealth:
    """Facts that the consumer's threads note and the probes read."""

    def __init__(self) -> None:
        self._turned_at = monotonic()
        self._away: set[str] = set()
        self._partitions: frozenset[int] = frozenset()
        self.running = True
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Note that the loop went round."""
        self._turned_at = monotonic()

    def up(self, server: str) -> None:
        """Note that a server answered."""
        with self._lock:
            self._away.discard(server)
        metrics.sink_up.labels(server).set(1)

    def down(self, server: str) -> None:
        """Note that a server is away."""
        with self._lock:
            self._away.add(server)
        metrics.sink_up.labels(server).set(0)

    def assigned(self, partitions: frozenset[int]) -> None:
        """Note which partitions are read here."""
        self._partitions = partitions

    def live(self) -> tuple[bool, dict[str, object]]:
        """Say whether a restart would help: only when the loop itself has stood still."""
        still = monotonic() - self._turned_at
        return still < STALLED_SECONDS, {"seconds_since_turn": round(still, 1)}

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Say whether work can go on: every server answered the last time it was asked."""
        with self._lock:
            away = sorted(self._away)
        return not away, {"away": away, "partitions": sorted(self._partitions)}


def serve_health(health: ConsumerHealth, port: int) -> ThreadingHTTPServer:
    """Answer /health/live, /health/ready and /metrics on a port, from a thread; close it with `shutdown`."""

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

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
