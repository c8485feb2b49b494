"""Replies as bytes. The connection adds Date, and Connection: close if it ends."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import orjson

JSON: Final = "application/json"
Header = tuple[str, str]


class Refusal(Exception):  # noqa: N818 (an answer, not a fault of the program)
    """A request answered by an error: its status, what the client reads, and what else the reply says.

    `field` is the part of the request at fault, which the error begins with; empty for the request as a whole.
    """

    def __init__(
        self,
        status: int,
        error: str,
        headers: Iterable[Header] = (),
        *,
        field: str = "",
        **more: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = tuple(headers)
        self.field = field
        self.more = more

    def reply(self) -> bytes:
        """Return the refusal as a reply."""
        return encode(self.status, orjson.dumps({"error": self.error, **self.more}) + b"\n", JSON, self.headers)


def encode(status: int, body: bytes, media_type: str = JSON, headers: Iterable[Header] = ()) -> bytes:
    """Return a whole reply."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}"
    described = f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
    if status == HTTPStatus.NOT_MODIFIED:
        described = ""
    return f"{start}{described}\r\n".encode("latin-1") + body


def encode_json(status: int, content: Any, headers: Iterable[Header] = ()) -> bytes:  # noqa: ANN401
    """Return a reply with `content` as JSON."""
    return encode(status, orjson.dumps(content) + b"\n", JSON, headers)


def without_body(reply: bytes) -> bytes:
    """Return the answer to HEAD: what GET would have got, without its body."""
    return reply[: reply.index(b"\r\n\r\n") + 4]
