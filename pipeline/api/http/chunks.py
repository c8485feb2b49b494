"""The chunked transfer coding, strictly: what two readers could read differently is an error."""

import re
from typing import Final

from pipeline.api.http.heads import HeadError

_MAX_LINE: Final = 256
_MAX_TRAILERS: Final = 4096
# A line that is no field line could end elsewhere for another reader, and hide a request from one of the two.
_trailer_line = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*)?\Z")
_size_line = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e]*)?\Z")


class Chunks:
    """Decodes one chunked body, however its bytes arrive."""

    __slots__ = ("_limit", "_missing", "_pending", "_trailers", "body", "done")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._missing = 0  # of the chunk that is being read, with its CRLF
        self._trailers = -1  # bytes of trailers read, once the last chunk was met
        self.body = bytearray()
        self.done = False

    def feed(self, piece: bytes) -> bytes:
        """Take what arrived; return what stands after the body's end. Raises HeadError (400 or 413)."""
        self._pending += piece
        while not self.done and (self._take_chunk() if self._missing else self._take_line()):
            pass
        if not self.done:
            return b""
        rest = bytes(self._pending)
        self._pending.clear()
        return rest

    def _take_chunk(self) -> bool:
        """Move what is there of the chunk into the body; False when more must arrive."""
        content = min(self._missing - 2, len(self._pending))
        if content > 0:
            self.body += self._pending[:content]
            del self._pending[:content]
            self._missing -= content
        if self._missing > 2 or len(self._pending) < 2:  # noqa: PLR2004 (CRLF)
            return False
        if not self._pending.startswith(b"\r\n"):
            raise HeadError(400, "a chunk is longer than its size says")
        del self._pending[:2]
        self._missing = 0
        return True

    def _take_line(self) -> bool:
        end = self._pending.find(b"\r\n")
        if end < 0:
            if len(self._pending) > _MAX_LINE:
                raise HeadError(400, "a chunk's size line has no end")
            return False
        line = bytes(self._pending[:end])
        del self._pending[: end + 2]
        if self._trailers >= 0:
            self._trailers += end + 2
            if self._trailers > _MAX_TRAILERS:
                raise HeadError(431, "the trailers are too long")
            if not _trailer_line.match(line):
                raise HeadError(400, "a trailer is not a header")
            self.done = not line
            return True
        matched = _size_line.match(line) if len(line) <= _MAX_LINE else None
        if matched is None:
            raise HeadError(400, "a chunk's size is not a number")
        size = int(matched[1], 16)
        if len(self.body) + size > self._limit:
            raise HeadError(413, f"the body is longer than {self._limit} bytes")
        if size:
            self._missing = size + 2
        else:
            self._trailers = 0
        return True
