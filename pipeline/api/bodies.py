"""Bodies: their media type, their coding, and how far they may inflate."""

import zlib
from typing import Final

from pipeline.api.heads import Head
from pipeline.api.replies import Refusal

_GZIP: Final = 16 + zlib.MAX_WBITS
JSON_TYPES: Final = frozenset({"", "application/json"})
LINE_TYPES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


def plain(head: Head, body: bytes, limit: int) -> bytes:
    """Return the body without its content coding. Raises Refusal: 415 for an unknown one, 413 for too much, 400."""
    if not head.encoding or head.encoding == "identity":
        return body
    if head.encoding not in {"gzip", "x-gzip"}:
        raise Refusal(415, "Content-Encoding must be gzip or identity", [("Accept-Encoding", "gzip")])
    return _inflate(body, limit)


def _inflate(body: bytes, limit: int) -> bytes:
    """Inflate gzip, of one member or several, and stop one byte past the limit."""
    pieces: list[bytes] = []
    room = limit + 1
    while body:
        member = zlib.decompressobj(_GZIP)
        try:
            piece = member.decompress(body, room)
        except zlib.error as error:
            raise Refusal(400, f"not gzip: {error}") from error
        pieces.append(piece)
        room -= len(piece)
        if room <= 0:
            raise Refusal(413, f"the body inflates to more than {limit} bytes")
        if not member.eof:
            raise Refusal(400, "not gzip: it ends too early")
        body = member.unused_data
    return b"".join(pieces)
