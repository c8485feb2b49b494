"""`python -m bench.ingest`: what the edge carries, and the bare server's ceiling beside it, in one run.

The server, the load generator and the broker share the machine. wrk makes the load if it is installed, a Python
generator otherwise; the table says which. The bare server is uvloop and httptools with a fixed reply: no Kafka, no
judging. CPU seconds are the server process's own, user and system.

Then reads from Redis at a fixed pace, beside writes at a fixed pace, from a Python generator.
"""

import argparse
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.ingest_clients import Load, PythonLoad, WrkLoad
from bench.ingest_reads import BATCH, Seen, fill, read_beside_writes
from pipeline.config import load_settings
from pipeline.local.stack import Stack
from pipeline.operations.migrate import migrate

_START_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: so many connections, each sending so many events in a request."""

    connections: int
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case gave."""

    events_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_per_million: float
    failures: int


@contextmanager
def process(command: list[str], environment: dict[str, str], ready: str) -> Iterator[int]:
    """Run a server for the time of a with statement; yields its process id once `ready` answers."""
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as running:
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(ready):
                if time.monotonic() > deadline or running.poll() is not None:
                    raise SystemExit(f"{command[-1]} did not start")
                time.sleep(0.1)
            yield running.pid
        finally:
            running.terminate()


def measure(case: Case, load: Load, port: int, pid: int, seconds: float) -> Outcome:
    """Warm up, then load the server and read its clock."""
    url = f"http://127.0.0.1:{port}"
    load.run(url, case.connections, case.batch, 1.0)
    before = _cpu_seconds(pid)
    seen = load.run(url, case.connections, case.batch, seconds)
    spent = _cpu_seconds(pid) - before
    events = seen.requests * case.batch
    return Outcome(
        events_per_second=events / seen.seconds,
        p50_ms=seen.p50_ms,
        p99_ms=seen.p99_ms,
        cpu_per_million=spent / max(1, events) * 1e6,
        failures=seen.failures,
    )


def main() -> None:
    """Measure every case and print the table."""
    options = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    options.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    options.add_argument("--reads", type=float, default=2_000, help="reads a second")
    options.add_argument("--writes", type=float, default=4_000, help="events a second beside them")
    options.add_argument("--reads-only", action="store_true", help="leave out the table of writes")
    chosen = options.parse_args()
    load: Load = WrkLoad() if shutil.which("wrk") else PythonLoad()
    cases = [] if chosen.reads_only else [Case(64), Case(256), Case(16, 500)]
    load_average = os.getloadavg()[0]
    cores, version = multiprocessing.cpu_count(), platform.python_version()
    print(f"load by {load.name}; {cores} cores, Python {version}; load average before: {load_average:.1f}")
    if cases:
        print("server connections  batch   events/s   p50 ms   p99 ms  CPU s/M  failed")
    with tempfile.TemporaryDirectory(prefix="gamemetrics-bench-") as directory:
        Path(directory).chmod(0o711)  # PostgreSQL runs as another account when this runs as root
        stack = Stack(Path(directory))
        stack.start()
        migrate(load_settings(stack.environment()))  # an edge without its tables would fail at what it asks beside
        try:
            for case in cases:
                for server in ("bare", "edge"):
                    _print(server, case, _one(server, case, load, stack, chosen.seconds))
            _reads(load, stack, chosen.reads, chosen.writes, chosen.seconds)
        finally:
            stack.wipe()


def _one(server: str, case: Case, load: Load, stack: Stack, seconds: float) -> Outcome:
    port = load.free_port()
    environment = _environment(stack, port, load.free_port())
    command = [sys.executable, "-m", "pipeline", "serve"]
    if server == "bare":
        command = [sys.executable, "-m", "bench.ingest_bare", str(port)]
    with process(command, environment, f"http://127.0.0.1:{port}/health/ready") as pid:
        return measure(case, load, port, pid, seconds)


def _reads(load: Load, stack: Stack, reads: float, writes: float, seconds: float) -> None:
    with stack.valkey.client(0) as client:
        fill(client)
    port = load.free_port()
    environment, ready = _environment(stack, port, load.free_port()), f"http://127.0.0.1:{port}/health/ready"
    with process([sys.executable, "-m", "pipeline", "serve"], environment, ready) as pid:
        before = _cpu_seconds(pid)
        seen = read_beside_writes(f"http://127.0.0.1:{port}", reads, writes, seconds)
        spent = _cpu_seconds(pid) - before
    written = seen.pop("write")
    print(
        f"\nreads at {reads:,.0f}/s beside {writes:,.0f} events/s in batches of {BATCH}; the server: {spent:.1f} CPU s"
    )
    print("request          /s   p50 ms   p99 ms  failed")
    together = Seen()
    for one in seen.values():
        together.add(one)
    for kind, found in (*sorted(seen.items()), ("all reads", together), ("write", written)):
        print(
            f"{kind:<9} {found.per_second:>8,.0f} {found.percentile_ms(0.5):>8.2f} {found.percentile_ms(0.99):>8.2f}"
            f"  {found.failures}"
        )


def _environment(stack: Stack, port: int, metrics_port: int) -> dict[str, str]:
    return {
        **os.environ,
        **stack.environment(),
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "LOG_LEVEL": "WARNING",
        # Everything on: a key's limit is kept, though never met.
        "RATE_LIMIT_RPS": "10000000",
    }


def _print(server: str, case: Case, seen: Outcome) -> None:
    print(
        f"{server:<6} {case.connections:>11} {case.batch:>6} {seen.events_per_second:>10,.0f} {seen.p50_ms:>8.2f} "
        f"{seen.p99_ms:>8.2f} {seen.cpu_per_million:>8.1f}  {seen.failures}",
        flush=True,
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:  # noqa: S310 (loopback)
            return bool(reply.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
