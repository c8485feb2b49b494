"""The console's replies: never kept by anybody, and 503 with a reason if a server is away."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from pipeline.api.http.connection import Connection
from pipeline.api.http.replies import JSON, Refusal, encode
from pipeline.contract.event import format_timestamp
from pipeline.errors import PipelineError

_PRIVATE: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


def answer(connection: Connection, content: msgspec.Struct) -> None:
    """Answer with an object."""
    connection.reply(200, encode(200, msgspec.json.encode(content) + b"\n", JSON, _PRIVATE))


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Raise what a server's being away, or its refusal, raises as the 503 that says so."""
    try:
        yield
    except PipelineError as error:
        raise unavailable(str(error)) from None


def unavailable(reason: str) -> Refusal:
    """Return the 503 for a reason."""
    return Refusal(503, reason, [("Retry-After", "2")])


def written(moment: datetime) -> str:
    """Write a time."""
    return format_timestamp(moment.astimezone(UTC))


def written_or_none(moment: datetime | None) -> str | None:
    """Write a time, if there is one."""
    return None if moment is None else written(moment)
