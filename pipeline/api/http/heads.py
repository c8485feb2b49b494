"""Request heads: the bytes up to the empty line, parsed strictly, and remembered.

A client on a kept connection sends the same head again and again, often to the byte. `Heads` keeps what the last few
thousand different heads meant, so that llhttp, and the callback it makes for every header, run once for each.
The same bytes mean the same thing, so nothing is trusted that a fresh parse would not have said.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

import httptools

MAX_HEAD_BYTES: Final = 8 * 1024
SIGNING_SCHEME: Final = b"hmac-sha256"
"""The scheme of Authorization whose parameters sign one body: told apart, for such a head never comes again."""
_REMEMBERED_HEADS: Final = 4096
_REMEMBERED_BYTES: Final = 1024
_host = re.compile(rb"[A-Za-z0-9_.~!$&'()*+,;=%:\[\]-]*\Z")
_absolute = re.compile(rb"https?://(?P<authority>[^/?#]+)", re.IGNORECASE)


class HeadError(Exception):
    """A head that is not HTTP/1.x as this server understands it; the connection ends with `status`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's head says. `length` is None for a chunked body.

    `from_page`: a browser sent it, and says of which site the page is that asked.
    """

    method: str
    path: bytes
    query: bytes
    length: int | None
    keep_alive: bool
    expects_continue: bool
    media_type: str
    encoding: str
    credential: bytes
    signature: bytes
    from_page: bool
    headers: dict[bytes, bytes] = field(repr=False)

    def segments(self) -> list[str]:
        """Return the path's segments, unescaped one by one, so that an escaped slash stays within its segment.

        Raises UnicodeDecodeError when a segment is not UTF-8.
        """
        return [unquote_to_bytes(segment).decode() for segment in self.path.split(b"/")[1:]]

    def parameters(self) -> list[tuple[str, str]]:
        """Return the query's names and values. Raises ValueError when they are not UTF-8 or too many."""
        return parse_qsl(self.query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)


class Heads:
    """Parses heads, and remembers them."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    @property
    def known(self) -> int:
        """How many heads are remembered."""
        return len(self._known)

    def recall(self, block: bytes) -> Head | None:
        """Return what `block` says, if it was met before."""
        return self._known.get(block)

    def read(self, block: bytes) -> Head:
        """Return what `block`, which ends with the empty line, says. Raises HeadError."""
        return self._known.get(block) or self._learn(block)

    def _learn(self, block: bytes) -> Head:
        head = parse_head(block)
        # A signed head is never met again: it would only push out those that are.
        if len(block) <= _REMEMBERED_BYTES and not head.signature:
            if len(self._known) >= _REMEMBERED_HEADS:
                self._known.clear()
            self._known[block] = head
        return head


class _Collector:
    """llhttp's callbacks."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))  # llhttp leaves what stands after a value

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(block: bytes) -> Head:
    """Parse one head, which ends with the empty line. Raises HeadError."""
    found = _Collector()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(block)
    except httptools.HttpParserUpgrade:
        pass  # no other protocol is spoken here; the request is answered as what it also is
    except httptools.HttpParserError as error:
        raise HeadError(400, f"not HTTP/1.1: {error}") from error
    if not found.complete:
        raise HeadError(400, "not HTTP/1.1: the head ends too early")
    if parser.get_http_version() not in {"1.1", "1.0"}:
        raise HeadError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    method = parser.get_method()
    if not block.startswith(b"%s %s HTTP/1." % (method, found.target)):
        raise HeadError(400, "not HTTP/1.1: the request line has spaces of its own")
    headers = _unrepeated(found.headers)
    _check_host(headers, parser.get_http_version())
    path, _, query = _origin_form(found.target, method).partition(b"?")
    credential, signature = _credentials(headers)
    return Head(
        method=method.decode("ascii"),
        path=path,
        query=query,
        length=_body_length(headers),
        keep_alive=parser.get_http_version() == "1.1" and not _closes(headers),
        expects_continue=parser.get_http_version() == "1.1" and headers.get(b"expect", b"").lower() == b"100-continue",
        media_type=headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1"),
        encoding=headers.get(b"content-encoding", b"").strip().lower().decode("latin-1"),
        credential=credential,
        signature=signature,
        from_page=b"sec-fetch-site" in headers or b"origin" in headers,
        headers=headers,
    )


def _unrepeated(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Refuse a repeated header of those that decide anything here; others may repeat, and make one list."""
    deciding = {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"authorization",
    }
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in headers and (name in deciding or name == b"x-api-key"):
            raise HeadError(400, f"header {name.decode('ascii')} is repeated")
        headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def _check_host(headers: dict[bytes, bytes], version: str) -> None:
    host = headers.get(b"host")
    if host is None and version == "1.1":
        raise HeadError(400, "header Host is missing")
    if host is not None and not _host.match(host):
        raise HeadError(400, "header Host is not a host")


def _origin_form(target: bytes, method: bytes) -> bytes:
    if absolute := _absolute.match(target):
        target = target[absolute.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise HeadError(400, "the request's target is not a path")
    if not target.isascii():
        raise HeadError(400, "the request's target is not ASCII; escape it")
    return target.partition(b"#")[0]


def _closes(headers: dict[bytes, bytes]) -> bool:
    return b"close" in [option.strip().lower() for option in headers.get(b"connection", b"").split(b",")]


def _body_length(headers: dict[bytes, bytes]) -> int | None:
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise HeadError(400, "Content-Length and Transfer-Encoding exclude each other")
        if coding.strip().lower() != b"chunked":
            raise HeadError(501, "no transfer coding but chunked is known here")
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > len("18446744073709551615"):
        raise HeadError(400, "Content-Length is not a number")
    return int(length)


def _credentials(headers: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return the digest of the key presented, and the signature; b"" for none. The key itself goes no further."""
    secret, signature = headers.get(b"x-api-key", b"").strip(), b""
    if not secret:
        scheme, _, parameters = headers.get(b"authorization", b"").strip().partition(b" ")
        if scheme.lower() == b"bearer":
            secret = parameters.strip()
        elif scheme.lower() == SIGNING_SCHEME:
            signature = parameters.strip() or b"?"
    return hashlib.sha256(secret).digest() if secret else b"", signature
