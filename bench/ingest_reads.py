"""The reads phase of bench.ingest: statistics, pages of boards and places, at a pace, beside writes at a pace.

Each connection has its turns in time. A reply that comes late delays the next request of its connection, and that
request's latency counts from its turn, so that a stall is paid by everything that would have been asked meanwhile.
The writers are a process of their own, which leaves the readers' clock alone.
"""

import asyncio
import itertools
import multiprocessing
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import redis
import uvloop

from bench.ingest_clients import batch_path, bodies
from pipeline.contract.boards import PERIODS, board_key, stats_fields, stats_key

PLAYERS: Final = 100_000
_GAME: Final = "game-0000"
_READERS: Final = 32
_WRITERS: Final = 32
_CHUNK: Final = 10_000
_WARM_UP_SECONDS: Final = 1.0
BATCH: Final = 20
"""Events in a request of the writers."""


@dataclass(slots=True)
class Seen:
    """What the clients of one kind of request saw: a latency for each reply, and how many replies were not as asked."""

    latencies: list[float] = field(default_factory=list)
    failures: int = 0
    seconds: float = 0.0

    def add(self, other: "Seen") -> None:
        """Take in what was seen of another kind in the same time."""
        self.latencies += other.latencies
        self.failures += other.failures
        self.seconds = other.seconds

    @property
    def per_second(self) -> float:
        """The pace that was kept; less than was asked for if the machine is too small."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Return the latency that so large a share of the replies met."""
        found = sorted(self.latencies)
        return found[min(len(found) - 1, int(len(found) * share))] * 1000 if found else float("nan")


Wires = Iterator[tuple[str, bytes]]
"""Requests without end, each with the name of its kind."""


def fill(client: redis.Redis) -> None:
    """Put every player on every period's board, and give each statistics, under the keys that the consumer writes."""
    drawn, now = random.Random(11), datetime.now(UTC)
    labels = [period.label(now.date()) for period in PERIODS.values()]
    fields: dict[Any, Any] = stats_fields(60, {"player_score": 40, "quest_completed": 20}, now)
    for start in range(0, PLAYERS, _CHUNK):
        names = [_player(number) for number in range(start, start + _CHUNK)]
        with client.pipeline(transaction=False) as pipeline:
            for label in labels:
                pipeline.zadd(board_key(_GAME, label), {name: drawn.randrange(1_000_000) for name in names})
            for name in names:
                pipeline.hset(stats_key(name), mapping=fields)
            pipeline.execute()


def read_beside_writes(url: str, reads: float, writes: float, seconds: float) -> dict[str, Seen]:
    """Read at `reads` a second while another process writes `writes` events a second; return what each kind saw."""
    context = multiprocessing.get_context("spawn")
    reported: multiprocessing.Queue[Seen] = context.Queue()
    writer = context.Process(target=_write, args=(url, writes / BATCH, seconds + 2 * _WARM_UP_SECONDS, reported))
    writer.start()
    try:
        uvloop.run(_paced(url, _read_wires(url), reads, _WARM_UP_SECONDS, _READERS))
        seen = uvloop.run(_paced(url, _read_wires(url), reads, seconds, _READERS))
        seen["write"] = reported.get(timeout=30)
    finally:
        writer.terminate()
        writer.join()
    return seen


def _write(url: str, rate: float, seconds: float, reported: "multiprocessing.Queue[Seen]") -> None:
    reported.put(uvloop.run(_paced(url, _write_wires(url), rate, seconds, _WRITERS))["write"])


def _read_wires(url: str) -> Wires:
    drawn, host = random.Random(13), urlsplit(url).netloc
    while True:
        player, period = _player(drawn.randrange(PLAYERS)), drawn.choice(list(PERIODS))
        board = f"/api/v1/leaderboards/{_GAME}"
        kind, path = drawn.choice(
            (
                ("stats", f"/api/v1/players/{player}/stats"),
                ("board", f"{board}?period={period}&limit=10&offset={drawn.randrange(0, 1000, 10)}"),
                ("rank", f"{board}/players/{player}?period={period}&around=5"),
            )
        )
        yield kind, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def _write_wires(url: str) -> Wires:
    host = f"Host: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    wires = [
        f"POST {batch_path(BATCH)} HTTP/1.1\r\n{host}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        for body in bodies(BATCH)
    ]
    return (("write", wire) for wire in itertools.cycle(wires))


async def _paced(url: str, wires: Wires, rate: float, seconds: float, connections: int) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    start = time.monotonic() + 0.1  # by then every connection stands
    turns = range(int(rate * seconds))

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        for turn in turns[number::connections]:
            due = start + turn / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
                due = time.monotonic()  # a timer that woke late is the client's fault
            kind, wire = next(wires)
            writer.write(wire)
            good = await _good(reader, of_redis=kind != "write")
            one = seen.setdefault(kind, Seen())
            one.latencies.append(time.monotonic() - due)
            one.failures += not good
        writer.close()

    await asyncio.gather(*(client(number) for number in range(connections)))
    for one in seen.values():
        one.seconds = time.monotonic() - start
    return seen


async def _good(reader: asyncio.StreamReader, *, of_redis: bool) -> bool:
    """Read one reply; tell whether it is a 200, and from Redis if it should be."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    await reader.readexactly(int(length[1]) if length else 0)
    return head.startswith(b"HTTP/1.1 200") and (not of_redis or b"\r\nX-Source: redis\r\n" in head)


def _player(number: int) -> str:
    return f"player-{number:06d}"
