"""Bodies: their media type, their coding, and how far they may inflate."""

import sys
import zlib
from typing import Final, Protocol

from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP: Final = 16 + zlib.MAX_WBITS
# RFC 9659: a frame of this content coding needs a window of at most 8 MiB, however much it inflates to.
_WINDOW: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
_MAX_MEMBERS: Final = 100
JSON_TYPES: Final = frozenset({"", "application/json"})
LINE_TYPES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


class _Member(Protocol):
    """Inflates one gzip member or one zstd frame: zlib and zstd agree on these names."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def plain(head: Head, body: bytes, limit: int) -> bytes:
    """Return the body without its content coding. Raises Refusal: 415 for an unknown one, 413 for too much, 400."""
    if not head.encoding or head.encoding == "identity":
        return body
    if head.encoding not in {"gzip", "x-gzip", "zstd"}:
        raise Refusal(
            415, "Content-Encoding must be gzip, zstd or identity", [("Accept-Encoding", "gzip, zstd, identity")]
        )
    try:
        return _inflate(head.encoding, body, limit)
    except (zlib.error, zstd.ZstdError) as error:
        raise Refusal(400, f"not {head.encoding}: {error}") from error


def _inflate(encoding: str, body: bytes, limit: int) -> bytes:
    """Inflate one member (a frame, in zstd) or several, and stop one byte past the limit."""
    pieces: list[bytes] = []
    room = limit + 1
    while body:
        # What follows a member is copied: a body of nothing but empty members would cost its length squared.
        if len(pieces) == _MAX_MEMBERS:
            raise Refusal(400, f"not {encoding} as it is taken here: more than {_MAX_MEMBERS} members or frames")
        member = _member(encoding)
        piece = member.decompress(body, room)
        pieces.append(piece)
        room -= len(piece)
        if room <= 0:
            raise Refusal(413, f"the body inflates to more than {limit} bytes")
        if not member.eof:
            raise Refusal(400, f"not {encoding}: it ends too early")
        body = member.unused_data
    return b"".join(pieces)


def _member(encoding: str) -> _Member:
    if encoding == "zstd":
        return zstd.ZstdDecompressor(options=_WINDOW)
    return zlib.decompressobj(_GZIP)
