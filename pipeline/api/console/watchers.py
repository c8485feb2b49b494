"""Server-sent events: one text, encoded once, for however many watch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from pipeline.api.http.connection import Connection
from pipeline.api.http.replies import Refusal

MOST_WATCHERS: Final = 500
START: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
    b"X-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\n\r\n"
)


def event(name: str, content: msgspec.Struct) -> bytes:
    """Write one event. JSON has no line breaks of its own, so that it is one line of data."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(content))


@dataclass(frozen=True, slots=True, eq=False)
class Watcher:
    """Who watches, and whether the key that let it in still does."""

    connection: Connection
    admitted: Callable[[], bool]


class Watchers:
    """The connections on which the events go out. One that does not read misses events, and is cut in the end."""

    def __init__(self, changed: Callable[[int], None], most: int = MOST_WATCHERS) -> None:
        self._changed = changed
        self._most = most
        self._watching: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._watching)

    def admit(self, watcher: Watcher, first: bytes) -> None:
        """Begin a stream with its first events. Raises Refusal (503) if there are too many."""
        self._forget()
        if len(self._watching) >= self._most:
            raise Refusal(503, f"{self._most} watch already", [("Retry-After", "5")])
        watcher.connection.begin(200, START)
        watcher.connection.push(first)
        if watcher.connection.streams:
            self._watching.add(watcher)
        self._changed(len(self._watching))

    def publish(self, piece: bytes) -> None:
        """Send an event to all; end the streams of keys that are revoked."""
        self._forget()
        for watcher in self._watching:
            if watcher.admitted():
                watcher.connection.push(piece)
            else:
                watcher.connection.close()

    def _forget(self) -> None:
        gone = [watcher for watcher in self._watching if not watcher.connection.streams]
        if gone:
            self._watching.difference_update(gone)
            self._changed(len(self._watching))
