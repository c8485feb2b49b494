"""What is kept of a refused event: which it was, and of its data the names and the kinds of values, never a value.

The bytes are anybody's, and may be no event, no JSON, or megabytes: what is made of them has at most MAX_BYTES.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from pipeline.api.access.keyring import Caller
from pipeline.api.schemas import RefusedEvent
from pipeline.contract.event import LATEST, MAX_EVENT_BYTES, MAX_ID_CHARACTERS, format_timestamp, record_time

MAX_BYTES: Final = 2_048
_MAX_NAME: Final = 100
_MAX_VALUES: Final = 64
_MAX_LEVELS: Final = 4
_SIZED: Final = {str: "string", list: "array", dict: "object"}
_CUTS: Final = ((True, MAX_ID_CHARACTERS), (False, MAX_ID_CHARACTERS), (False, 32))
"""What is left out, in turn, until it fits: nothing, the data, most of every text. A character takes up to 6 bytes."""


class Note(NamedTuple):
    """One refusal as it was met; `raw` holds the event's bytes, if there were any that could be one."""

    caller: Caller
    milliseconds: int
    reason: str
    field: str
    raw: bytes


def masked(note: Note) -> bytes:
    """Return a refusal as the JSON of a RefusedEvent. Raises nothing, whatever the bytes are."""
    event = _loaded(note.raw)
    known, data = "data" in event, event.get("data")
    at = format_timestamp(record_time(note.milliseconds) or LATEST)
    written = b""
    for whole, most in _CUTS:
        shown = _shape(data, 1, iter(range(_MAX_VALUES))) if whole else _kind(data)
        kept = RefusedEvent(
            at=at,
            key=clean(note.caller.name[:_MAX_NAME]),
            reason=clean(note.reason[:most]),
            field=clean(note.field[: min(most, _MAX_NAME)]),
            event_type=_text(event.get("event_type"), most),
            player_id=_text(event.get("player_id"), most),
            event_id=_text(event.get("event_id"), most),
            game_id=_text(event.get("game_id"), most),
            data=shown if known else None,
        )
        written = msgspec.json.encode(kept)
        if len(written) <= MAX_BYTES:
            break
    return written


def clean(text: str) -> str:
    """Return a text that can be written: a name in API_KEYS may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _loaded(raw: bytes) -> dict[str, Any]:
    if not raw or len(raw) > MAX_EVENT_BYTES:
        return {}
    try:
        loaded = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _text(value: object, most: int) -> str | None:
    """Return what stands in place of an identifier: cut, and a number as it would be written."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:most]


def _shape(value: object, level: int, room: Iterator[int]) -> Any:  # noqa: ANN401 - as JSON is
    """Return an object with its values' kinds in their places, as far as there is room; of all else, the kind."""
    if not isinstance(value, dict) or level > _MAX_LEVELS:
        return _kind(value)
    found: dict[str, Any] = {}
    for name, child in value.items():
        if next(room, None) is None:
            found["…"] = _kind(value)
            break
        found[name[:_MAX_NAME]] = _shape(child, level + 1, room)
    return found


def _kind(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "boolean"
    if isinstance(value, str | list | dict):
        return f"{_SIZED[type(value)]}({len(value)})"
    return "number"
