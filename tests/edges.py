"""The edge in a process of its own, as it runs in production, and clients for it."""

import contextlib
import functools
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.local.state import port_is_free
from tests.place import Place
from tests.waiting import eventually

EVENT = {
    "event_type": "player_score",
    "player_id": "player-test-001",
    "game_id": "game-test-001",
    "timestamp": "2024-01-15T10:35:00Z",
    "data": {"score": 1500},
}
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class EdgeUnderTest:
    """`gamemetrics serve` at a place."""

    program: tuple[str, ...] = ("-m", "pipeline", "serve")

    def __init__(self, place: Place, **environment: str) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self._environment = {
            **place.environment(),
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            **environment,
        }
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, ready: bool = True) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *self.program], env=self._environment, stderr=subprocess.PIPE, text=True
        )
        eventually(lambda: self.answers("/health/ready" if ready else "/health/live"), timeout=30)

    def refused(self) -> tuple[int, str]:
        """Start where it must not: return the exit code and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "serve"],
            env=self._environment, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    def answers(self, path: str) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get(path).status == 200
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signal it and wait; return the exit code and what it logged."""
        assert self._process is not None
        self._process.send_signal(how)
        _, logged = self._process.communicate(timeout=40)
        return self._process.returncode, logged

    def kill_if_running(self) -> None:
        """End it, unless it was stopped; show what one that ended by itself had said."""
        if self._process is None or self._process.stderr is None or self._process.stderr.closed:
            return
        died = self._process.poll()
        self._process.kill()
        _, logged = self._process.communicate()
        if died is not None:
            print(f"the edge had ended with {died}:\n{logged}", file=sys.stderr)  # noqa: T201

    def request(self, method: str, path: str, body: bytes | None = None, headers: Headers | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers.items()), answer.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Headers | None = None) -> Reply:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, content: Any, headers: Headers | None = None) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})

    def send(self, content: Any, headers: Headers | None = None) -> Reply:
        """Send one event."""
        return self.post("/api/v1/events", content, headers)

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").body.decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)

    def resident_bytes(self) -> int:
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def dial(self) -> socket.socket:
        """Open a raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def say(self, wire: bytes) -> bytes:
        """Send raw bytes on a connection of their own; return everything until the server closes."""
        with self.dial() as client:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(wire)
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes, or cuts."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            received += piece
    return received


@contextlib.contextmanager
def running_edge(place: Place, *, ready: bool = True, **environment: str) -> Iterator[EdgeUnderTest]:
    """Run an edge for the time of a with statement."""
    edge = EdgeUnderTest(place, **environment)
    try:
        edge.start(ready=ready)
        yield edge
    finally:
        edge.kill_if_running()


@functools.cache
def _slice_of_ports() -> tuple[socket.socket, Iterator[int]]:
    """Claim some hundred ports for this process, below those that the system gives to clients and the stack takes."""
    for first in range(10_000, 19_500, 500):
        claim = socket.socket()  # held as long as the process lives
        try:
            claim.bind(("127.0.0.1", first))
        except OSError:
            claim.close()
            continue
        return claim, itertools.cycle(range(first + 1, first + 500))
    raise AssertionError("no slice of ports is free")


def free_port() -> int:
    """Return a port that is free now, and that no other test is given before it is bound."""
    return next(port for port in _slice_of_ports()[1] if port_is_free(port))


def keys(place: Place, *arguments: str, code: int = 0, said: bool = False) -> str:
    """Type `gamemetrics keys` at a place; returns what it prints, or what it said beside."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "keys", *arguments],
        env=place.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return " ".join(done.stderr.split()) if said else done.stdout


def make_key(place: Place, name: str, *options: str) -> str:
    """Make an API key, and return its secret."""
    return str(json.loads(keys(place, "create", name, *options, "--json"))["key"])
