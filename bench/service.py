"""One of the pipeline's own commands in a process, as it runs in production: its log's moments, metrics and cost."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from bench.meter import Reading, cpu_seconds, read_servers
from bench.rig import Fixture
from bench.waiting import eventually

_GRACE_SECONDS: Final = 60.0
_START_SECONDS: Final = 60.0


class Service:
    """`gamemetrics serve` or `gamemetrics consume` on a fixture; `changes` are environment variables."""

    def __init__(self, command: str, fixture: Fixture, **changes: str) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self._fixture = fixture
        self._moments: dict[str, Reading] = {}
        self._tail: deque[str] = deque(maxlen=30)
        environment = {
            **fixture.environment(),
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            **changes,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", command], env=environment, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read_log, name=f"log of {command}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def moment(self, event: str) -> Reading:
        """The moment at which the service first logged an event, with everyone's CPU by then; waits for it."""

        def seen() -> Reading | None:
            self.check()
            return self._moments.get(event)

        return eventually(seen, _START_SECONDS)

    def read(self) -> Reading:
        """This moment, with the servers' CPU and the service's."""
        servers = read_servers(self._fixture.stack)
        return Reading(servers.at, {**servers.cpu, "service": cpu_seconds(self.pid)})

    def check(self) -> None:
        """Raise if the service ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the service ended with {self._process.returncode}:\n" + "".join(self._tail))

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by name and labels as Prometheus writes them."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            return parse_metrics(answer.read().decode())

    def ready(self) -> bool:
        """Whether the readiness probe is answered with 200."""
        self.check()
        try:
            with urlopen(f"http://127.0.0.1:{self.metrics_port}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)  # noqa: PLR2004 - HTTP's OK
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, as Kubernetes does; what does not listen is killed."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(_GRACE_SECONDS)

    def _read_log(self) -> None:
        if self._process.stderr is None:
            return
        with self._process.stderr as lines:
            for line in lines:
                self._tail.append(line)
                event = logged_event(line)
                # One reading costs a scan of the process table, so only the two moments that are asked for get one.
                if event in _MOMENTS and event not in self._moments and self._process.poll() is None:
                    self._moments[event] = self.read()


_MOMENTS: Final = frozenset({"consuming", "partitions assigned"})
"""Logged right before the first poll, and inside the poll that brings the assignment, right before the first fetch."""


def logged_event(line: str) -> str:
    """The event of one line of a JSON log; empty for other lines."""
    if not line.startswith("{"):
        return ""
    try:
        return str(json.loads(line).get("event", ""))
    except json.JSONDecodeError:
        return ""


def parse_metrics(text: str) -> dict[str, float]:
    """Read Prometheus' text format into samples: `name{label="value"}` to number."""
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


@contextmanager
def running(command: str, fixture: Fixture, **changes: str) -> Iterator[Service]:
    """Run a service for the time of a with statement."""
    service = Service(command, fixture, **changes)
    try:
        yield service
    finally:
        service.stop()


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
