"""A relay that shows what passes to a tape, and the tapes: what a client said to a server, and when it then waited.

With them a run's own bytes can be said again by a client that does nothing else. The relay stands in an unmeasured
pass only.
"""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, Self

_CHUNK: Final = 1 << 20
_HEAD: Final = 5
_AWAITED: Final = frozenset(b"ZG")
"""Answers for which a client stops: ReadyForQuery, and CopyInResponse, before which it may not send a copy's data."""


class Tape(Protocol):
    """Told of each piece that passes, before it passes on."""

    def sent(self, piece: bytes) -> None:
        """The client said this."""

    def answered(self, piece: bytes) -> None:
        """The server said this."""


class Relay:
    """Passes one connection after another on to a loopback port."""

    def __init__(self, target: int, tape: Tape) -> None:
        self._target = target
        self._tape = tape
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, name="relay", daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pump = threading.Thread(target=self._answers, args=(server, client), daemon=True)
            pump.start()
            with suppress(OSError):
                while piece := client.recv(_CHUNK):
                    self._tape.sent(piece)
                    server.sendall(piece)
            _hang_up(server)
            pump.join()
            client.close()
            server.close()

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while piece := server.recv(_CHUNK):
                self._tape.answered(piece)
                client.sendall(piece)
        _hang_up(client)


def _hang_up(side: socket.socket) -> None:
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Step:
    """What a client sends in one go, and for how many answers it then waits."""

    said: bytes
    answers: int


class Answers:
    """Cuts PostgreSQL's stream into messages, and tells their kinds; bodies are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0

    def kinds(self, piece: bytes) -> bytes:
        """Return the kind of each message that begins in this piece."""
        kinds = bytearray()
        buffer = self._rest + piece
        place = self._skip
        while len(buffer) - place >= _HEAD:
            kinds.append(buffer[place])
            place += 1 + int.from_bytes(buffer[place + 1 : place + _HEAD], "big")
        self._rest = buffer[place:] if place < len(buffer) else b""
        self._skip = max(0, place - len(buffer))
        return bytes(kinds)


class PostgresTape:
    """Steps of one session, from the moment its log-in was done."""

    def __init__(self) -> None:
        self._stream = Answers()
        self._open = False
        self._said = bytearray()
        self._answers = 0
        self._steps: list[Step] = []

    def sent(self, piece: bytes) -> None:
        """Begin a new step when the one before has its answers."""
        if not self._open:
            return
        if self._answers:
            self._end_step()
        self._said += piece

    def answered(self, piece: bytes) -> None:
        """Count the answers that a client waits for."""
        awaited = sum(kind in _AWAITED for kind in self._stream.kinds(piece))
        if self._open:
            self._answers += awaited
        self._open = self._open or awaited > 0

    def take(self) -> list[Step]:
        """Give the steps since the last take away; the client stands still meanwhile."""
        if self._said:
            self._end_step()
        steps, self._steps = self._steps, []
        return steps

    def _end_step(self) -> None:
        self._steps.append(Step(bytes(self._said), self._answers))
        self._said.clear()
        self._answers = 0


class RedisTape:
    """The commands of a connection."""

    def __init__(self) -> None:
        self._said = bytearray()

    def sent(self, piece: bytes) -> None:
        """Keep it."""
        self._said += piece

    def answered(self, piece: bytes) -> None:
        """Replies are counted at the replay."""

    def take(self) -> bytes:
        """Give what was said since the last take away."""
        said = bytes(self._said)
        self._said.clear()
        return said
