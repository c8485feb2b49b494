"""Load generators for bench.ingest: wrk if it is installed, Python otherwise."""

import asyncio
import contextlib
import random
import re
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvloop

_EVENT: Final = (
    '{{"event_type":"player_score","player_id":"player-{player:06d}","game_id":"game-{game:04d}",'
    '"timestamp":"2026-11-01T10:{minute:02d}:{second:02d}.{millisecond:03d}Z","data":{{"score":{score},"level":12,'
    '"weapon":"sword","region":"eu-west-1","session":"5f0c1f6e8f43","duration_ms":18234,"accuracy":0.8125}}}}'
)
_VARIANTS: Final = 2_000
_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_LUA: Final = """
local bodies, n = {}, 0
for line in io.lines("%s") do bodies[#bodies + 1] = line end
function request()
  n = n %% #bodies + 1
  return wrk.format("POST", "%s", {["Content-Type"] = "application/json"}, bodies[n])
end
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a generator saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failures: int


class Load(ABC):
    """Sends events over kept connections, each with one request at a time."""

    name: str

    @abstractmethod
    def run(self, url: str, connections: int, batch: int, seconds: float) -> Seen:
        """Send for so long; batches of more than one go to the batch path."""

    @staticmethod
    def free_port() -> int:
        """Return a port that is free now."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])


class WrkLoad(Load):
    """wrk, with one thread."""

    name = "wrk"

    def run(self, url: str, connections: int, batch: int, seconds: float) -> Seen:
        """Run wrk and read its report."""
        with tempfile.TemporaryDirectory() as directory:
            lines, script = Path(directory) / "bodies", Path(directory) / "post.lua"
            lines.write_text("\n".join(bodies(batch)) + "\n")
            script.write_text(_LUA % (lines, batch_path(batch)))
            command = [
                "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "--latency", "-s", str(script), url
            ]  # fmt: skip
            report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        requests = re.search(r"(\d+) requests in ([\d.]+)(\w+)", report)
        if requests is None:
            raise SystemExit(report)
        failed = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
        return Seen(
            requests=int(requests[1]),
            seconds=float(requests[2]) * _UNITS[requests[3]] / 1000,
            p50_ms=_percentile(report, "50%"),
            p99_ms=_percentile(report, "99%"),
            failures=int(failed[1]) if failed else 0,
        )


class PythonLoad(Load):
    """A generator on uvloop; it costs more CPU than wrk, which the server then lacks."""

    name = "a Python generator (wrk is not installed)"

    def run(self, url: str, connections: int, batch: int, seconds: float) -> Seen:
        """Send from coroutines."""
        return uvloop.run(_send(url, connections, batch, seconds))


def bodies(batch: int) -> list[str]:
    """Return request bodies that differ, of one event or an array of them."""
    drawn = random.Random(7)
    count = _VARIANTS if batch == 1 else 8
    events = [[_event(drawn) for _ in range(batch)] for _ in range(count)]
    return [one[0] if batch == 1 else f"[{','.join(one)}]" for one in events]


def _event(drawn: random.Random) -> str:
    return _EVENT.format(
        player=drawn.randrange(100_000),
        game=drawn.randrange(10),
        minute=drawn.randrange(60),
        second=drawn.randrange(60),
        millisecond=drawn.randrange(1000),
        score=drawn.randrange(5000),
    )


async def _send(url: str, connections: int, batch: int, seconds: float) -> Seen:
    target = urlsplit(url)
    wires = [
        f"POST {batch_path(batch)} HTTP/1.1\r\nHost: {target.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        for body in bodies(batch)
    ]
    latencies: list[float] = []
    failures = 0
    until = time.monotonic() + seconds

    async def client(number: int) -> None:
        nonlocal failures
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        turn = number
        while time.monotonic() < until:
            turn += 1
            started = time.monotonic()
            writer.write(wires[turn % len(wires)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            latencies.append(time.monotonic() - started)
            failures += not head.startswith(b"HTTP/1.1 200")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    started = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(connections)))
    latencies.sort()
    return Seen(
        requests=len(latencies),
        seconds=time.monotonic() - started,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
        failures=failures,
    )


def batch_path(batch: int) -> str:
    """Return the path that takes so many events in a request."""
    return "/api/v1/events" if batch == 1 else "/api/v1/events/batch"


def _percentile(report: str, which: str) -> float:
    found = re.search(rf"{which}\s+([\d.]+)(\w+)", report)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")
