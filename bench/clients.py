"""Clients of the HTTP API that send at a pace, over connections that stay open."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

_OK: Final = b"HTTP/1.1 200"


class RefusedError(Exception):
    """The API did not accept what it was sent."""


class HttpClient:
    """One connection; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> None:
        """Send a body and wait for the 200. Raises RefusedError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        content = await reader.readexactly(content_length(answer))
        if not answer.startswith(_OK):
            raise RefusedError(f"{answer.splitlines()[0]!r} {content[:200]!r}")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


def content_length(head: bytes) -> int:
    """Read Content-Length from an answer's head."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


@dataclass(frozen=True, slots=True)
class Stream:
    """A client that sends the bodies of one path, one every `interval` seconds."""

    path: str
    bodies: Sequence[bytes]
    interval: float

    async def run(self, port: int) -> None:
        """Send at the pace; one that falls behind sends the next at once, so the mean rate stays."""
        client = HttpClient(port)
        due = monotonic()
        for body in self.bodies:
            await asyncio.sleep(max(0.0, due - monotonic()))
            await client.post(self.path, body)
            due += self.interval
        client.close()


BATCH: Final = 50
_BATCH_STREAMS: Final = 9
_SINGLE_STREAMS: Final = 10
_SINGLE_SHARE: Final = 10


def streams(bodies: Sequence[str], rate: float) -> list[Stream]:
    """Share events out: nine tenths in batches of 50, one tenth one by one, together at `rate` events a second."""
    singles = [body.encode() for body in bodies[::_SINGLE_SHARE]]
    rest = [body for place, body in enumerate(bodies) if place % _SINGLE_SHARE]
    batches = [f"[{','.join(rest[start : start + BATCH])}]".encode() for start in range(0, len(rest), BATCH)]
    seconds = len(bodies) / rate
    return [
        *_shared("/api/v1/events/batch", batches, _BATCH_STREAMS, seconds),
        *_shared("/api/v1/events", singles, _SINGLE_STREAMS, seconds),
    ]


def _shared(path: str, bodies: list[bytes], number: int, seconds: float) -> list[Stream]:
    parts = [bodies[start::number] for start in range(number)]
    return [Stream(path, part, seconds / len(part)) for part in parts if part]
