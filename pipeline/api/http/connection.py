"""One client's connection: bytes in, one request at a time to the application, replies out in order.

A connection is always in one of these states, and the sweep knows how long it may stay there:

    idle        nothing is owed either way
    head        a head has begun                        -> 408
    body        a body is arriving                      -> 408
    busy        the application works on a request; what the client sends meanwhile waits, up to a bound
    streaming   a reply goes on until either side ends the connection; what the client sends is thrown away
    stuck       the client does not read its replies    -> cut
    lingering   the last reply is written; what still arrives is thrown away, so that the client can read that reply
                before a reset reaches it
"""

import asyncio
import math
import socket
import time
from collections.abc import Mapping
from typing import Final, Literal, Protocol, cast

from pipeline.api.http.chunks import Chunks
from pipeline.api.http.heads import MAX_HEAD_BYTES, Head, HeadError, Heads
from pipeline.api.http.replies import Refusal, without_body

_READ_AHEAD: Final = 64 * 1024
_LINGER_BYTES: Final = 16 * 1024 * 1024
_STREAM_BYTES: Final = 64 * 1024
"""What may wait for a client of a stream to read it; until it has, the pieces that follow are not for it."""


State = Literal["idle", "head", "body", "busy", "streaming", "stuck", "lingering"]
IDLE: Final = "idle"
HEAD: Final = "head"
BODY: Final = "body"
BUSY: Final = "busy"
STREAMING: Final = "streaming"
STUCK: Final = "stuck"
LINGERING: Final = "lingering"
_TAKES_MORE: Final = frozenset({IDLE, HEAD, BODY})

Patience = Mapping[State, float]
"""Seconds a connection may stay in a state, however busily it trickles, before the sweep ends it."""


def patience(*, head: float, body: float, idle: float) -> Patience:
    """Return how long a client is waited for. The application's own deadlines end a request that it works on."""
    return {
        IDLE: idle,
        HEAD: head,
        BODY: body,
        BUSY: math.inf,
        STREAMING: math.inf,
        STUCK: 20.0,
        LINGERING: 2.0,
    }


class Application(Protocol):
    """What answers requests."""

    def body_limit(self, head: Head, peer: str) -> int:
        """Return how many bytes the request's body may have. Raises Refusal if it is refused by its head alone."""

    def call(self, connection: "Connection", head: Head, body: bytes) -> None:
        """Answer a request, now or later, by one call of connection.reply, connection.refuse or connection.begin."""

    def turned_away(self, head: Head, refusal: Refusal) -> None:
        """Take note of a request that was refused before it was called: its body did not come, or was too long."""

    def answered(self, head: Head | None, status: int, seconds: float) -> None:
        """Count a reply; `head` is None if none could be read."""


class ServerState(Protocol):
    """What connections share: the listener that made them."""

    application: Application
    heads: Heads
    patience: Patience
    clock: float
    dated: bytes
    draining: bool

    def opened(self, connection: "Connection") -> bool:
        """Count a connection in; False when there are too many."""

    def closed(self, connection: "Connection") -> None:
        """Count a connection out."""

    def reserve(self, size: int) -> bool:
        """Take `size` bytes of the memory for bodies that are still arriving; False when there is none left."""

    def release(self, size: int) -> None:
        """Give bytes back."""


class Connection(asyncio.Protocol):
    """The asyncio protocol of one connection."""

    __slots__ = (
        "_advancing", "_body", "_chunks", "_discarded", "_head", "_last", "_reserved", "_resting", "_server",
        "_streams", "_transport", "_unread", "peer", "since", "started", "state",
    )  # fmt: skip

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._head: Head | None = None
        self._body = bytearray()
        self._chunks: Chunks | None = None
        self._unread = b""
        self._reserved = 0
        self._discarded = 0
        self._advancing = False
        self._last = False  # nothing is answered after the request at hand
        self._resting = False  # reading is paused
        self._streams = False  # the reply at hand goes on
        self.peer = ""
        self.started = 0.0  # when the request at hand was complete, by the monotonic clock
        self.state: State = IDLE
        self.since = server.clock

    # -- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Welcome the client, or turn it away when the server is full."""
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        self.peer = address[0].removeprefix("::ffff:") if address else ""  # so a dual-stack socket spells IPv4
        self._transport.set_write_buffer_limits(high=256 * 1024)
        if not self._server.opened(self):
            self._refuse(Refusal(503, "too many connections", [("Retry-After", "1")]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Forget the client; a request it sent may still be under way, and its reply goes nowhere."""
        self._transport = None
        self._unread = b""
        self._drop_body()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Take what arrived as far as it goes."""
        if self.state == LINGERING or self._streams:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.abort()
            return
        self._advance(self._unread + data if self._unread else data)

    def eof_received(self) -> bool:
        """Keep a half-closed connection until what it asked for is answered."""
        if self.state == BUSY and self._transport is not None:
            self._last = True
            self._unread = b""
            return True
        return False

    def pause_writing(self) -> None:
        """Stop answering a client that does not read."""
        if self.state != LINGERING:
            self._enter(STUCK)

    def resume_writing(self) -> None:
        """Go on, now that the client has read."""
        if self.state == STUCK and self._streams:
            self._enter(STREAMING)
        elif self.state == STUCK:
            self._enter(IDLE)
            self._advance(self._unread)

    # -- for the application and the server ----------------------------------------------------------------------------

    def reply(self, status: int, reply: bytes) -> None:
        """Answer the request at hand, and go on to the next."""
        head, self._head = self._head, None
        server, transport = self._server, self._transport
        server.application.answered(head, status, time.monotonic() - self.started)
        if transport is None or transport.is_closing():
            return
        if head is not None and head.method == "HEAD":
            reply = without_body(reply)
        self.state = IDLE
        self.since = server.clock
        if self._last or server.draining:
            self._finish(reply)
            return
        transport.write(reply.replace(b"\r\n", server.dated, 1))
        if self._unread and not self._advancing:
            self._advance(self._unread)

    def refuse(self, refusal: Refusal) -> None:
        """Answer the request at hand with an error, and go on to the next."""
        self.reply(refusal.status, refusal.reply())

    def begin(self, status: int, start: bytes) -> None:
        """Answer the request at hand by a reply that goes on: its head, what `push` adds, until the connection ends.

        It has no length, and ends with the connection: so the same bytes go to everybody, of HTTP/1.0 too.
        """
        head, self._head = self._head, None
        self._server.application.answered(head, status, time.monotonic() - self.started)
        transport = self._transport
        if transport is None or self._server.draining or (head is not None and head.method == "HEAD"):
            self._finish(start)
            return
        transport.set_write_buffer_limits(high=_STREAM_BYTES)
        # The system's own buffer would hold minutes of a stream that nobody reads.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_BYTES)
        self._streams = self._last = True
        self._unread = b""
        self._enter(STREAMING)
        transport.write(start.replace(b"\r\n", self._server.dated + b"Connection: close\r\n", 1))
        if self._resting:
            transport.resume_reading()

    @property
    def streams(self) -> bool:
        """Whether a reply goes on here."""
        return self._streams and self._transport is not None and not self._transport.is_closing()

    def push(self, piece: bytes) -> None:
        """Add a piece to the reply that goes on, unless the client has not read those before it."""
        if self.state == STREAMING and self._transport is not None:
            self._transport.write(piece)

    def sweep(self, now: float) -> None:
        """End the connection if it has stood in its state for too long."""
        if now - self.since <= self._server.patience[self.state]:
            return
        if self.state in {HEAD, BODY}:
            self._refuse(Refusal(408, f"the request's {self.state} did not arrive in time"))
        elif self.state == STUCK:
            self.abort()
        else:
            self.close()

    def drain(self) -> None:
        """Close now if nothing is owed to the client, otherwise after the reply at hand."""
        if self.state == BUSY:
            self._last = True
        elif self.state == STUCK and self._streams:
            self.abort()
        else:
            self.close()

    def close(self) -> None:
        """Close after what is written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    # -- reading -----------------------------------------------------------------------------------------------------

    def _advance(self, data: bytes) -> None:
        """Take requests from `data` for as long as each is answered at once; keep the rest."""
        self._advancing = True
        self._unread = b""
        try:
            while data and self.state in _TAKES_MORE:
                data = self._take_head(data) if self.state != BODY else self._take_body(data)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        except HeadError as error:
            self._refuse(Refusal(error.status, error.reason))
            return
        finally:
            self._advancing = False
        if self.state == LINGERING or self._transport is None:
            return
        if data:
            self._unread = data
            if len(data) > _READ_AHEAD and not self._resting:
                self._resting = True
                self._transport.pause_reading()
        elif self._resting:
            self._resting = False
            self._transport.resume_reading()

    def _take_head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > MAX_HEAD_BYTES:  # noqa: PLR2004 (not found)
            return self._await_head(data)
        block = data[:end]
        head = self._server.heads.recall(block)
        if head is None:
            if block.startswith(b"\r\n"):  # RFC 9112, 2.2: an empty line before a request
                return data.lstrip(b"\r\n")
            head = self._server.heads.read(block)
        self._head = head
        length = head.length
        if length is not None and len(data) - end >= length:
            self._call(head, data[end : end + length])
            return data[end + length :]
        self._begin_body(head)
        return data[end:]

    def _await_head(self, data: bytes) -> bytes:
        if len(data) >= MAX_HEAD_BYTES:
            if b"\r\n" not in data.lstrip(b"\r\n")[:MAX_HEAD_BYTES]:
                raise Refusal(414, f"the first line of a request has less than {MAX_HEAD_BYTES} bytes")
            raise Refusal(431, f"the head of a request has at most {MAX_HEAD_BYTES} bytes")
        if b"\n\n" in data or b"\n\r\n" in data.replace(b"\r\n\r\n", b""):
            raise Refusal(400, "not HTTP/1.1: lines end with CRLF")
        if self.state != HEAD:
            self._enter(HEAD)
        self._unread = data
        return b""

    def _begin_body(self, head: Head) -> None:
        """Refuse by the head alone what can be, before the body is read."""
        self.started = time.monotonic()
        limit = self._server.application.body_limit(head, self.peer)
        if head.length is not None and head.length > limit:
            raise Refusal(413, f"the body is longer than {limit} bytes")
        self._chunks = Chunks(limit) if head.length is None else None
        self._enter(BODY)
        if head.expects_continue and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_body(self, data: bytes) -> bytes:
        head = self._head
        assert head is not None
        if not self._server.reserve(len(data)):
            raise Refusal(503, "too much is arriving at once; nothing was accepted", [("Retry-After", "1")])
        self._reserved += len(data)
        if self._chunks is not None:
            rest = self._chunks.feed(data)
            if not self._chunks.done:
                return b""
            body = bytes(self._chunks.body)
        else:
            assert head.length is not None
            missing = head.length - len(self._body)
            self._body += data[:missing]
            rest = data[missing:]
            if len(self._body) < head.length:
                return b""
            body = bytes(self._body)
        self._drop_body()
        self._call(head, body)
        return rest

    def _call(self, head: Head, body: bytes) -> None:
        self.state = BUSY
        self.since = self._server.clock
        self.started = time.monotonic()
        if not head.keep_alive:
            self._last = True
        self._server.application.call(self, head, body)

    def _drop_body(self) -> None:
        self._server.release(self._reserved)
        self._reserved = 0
        self._body = bytearray()
        self._chunks = None

    # -- ending ------------------------------------------------------------------------------------------------------

    def _enter(self, state: State) -> None:
        self.state = state
        self.since = self._server.clock

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what cannot go on, and end the connection."""
        head, self._head = self._head, None
        self._drop_body()
        if head is not None:
            self._server.application.turned_away(head, refusal)
        self._server.application.answered(head, refusal.status, 0.0)
        self._finish(refusal.reply())

    def _finish(self, reply: bytes) -> None:
        """Write the last reply; then wait a little for the client to read it and close."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(reply.replace(b"\r\n", self._server.dated + b"Connection: close\r\n", 1))
        self._unread = b""
        self._enter(LINGERING)
        if self._resting:
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
