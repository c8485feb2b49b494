"""A watcher of the console's stream: what arrives, event by event."""

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from tests.edges import EdgeUnderTest

PATH = "/api/v1/console/stream"


class Stream:
    """One connection to the stream, its head read."""

    def __init__(self, client: socket.socket, head: bytes, rest: bytes) -> None:
        self.client = client
        self.status = int(head.split(b" ")[1])
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:])
        }
        self.refusal = rest
        self._rest = rest

    def next(self) -> tuple[str, Any] | None:
        """Read the next event: its name and content; None if the stream ended."""
        while b"\n\n" not in self._rest:
            piece = self.client.recv(65536)
            if not piece:
                return None
            self._rest += piece
        event, _, self._rest = self._rest.partition(b"\n\n")
        name, data = event.decode().split("\n")
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    def overview(self) -> Any:
        """Read up to the next overview."""
        while (found := self.next()) is not None:
            if found[0] == "overview":
                return found[1]
        raise AssertionError("the stream ended")

    def until(self, holds: Any) -> Any:
        """Read overviews until something holds of one, of forty at most; return that one."""
        for _ in range(40):
            if holds(found := self.overview()):
                return found
        raise AssertionError(found)


@contextlib.contextmanager
def watching(edge: EdgeUnderTest, headers: Mapping[str, str] | None = None) -> Iterator[Stream]:
    """Watch for the time of a with statement."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    with edge.dial() as client:
        client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            piece = client.recv(65536)
            assert piece, "cut before its head"
            received += piece
        head, _, rest = received.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            length = int(
                next(line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
            )
            while len(rest) < length:
                rest += client.recv(65536)
        yield Stream(client, head, rest)
