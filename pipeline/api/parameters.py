"""What a call is asked by: the segments of its path and the parameters of its query."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal
from pipeline.contract.event import ID_RULE, is_identifier, parse_timestamp

REPEATED: Final = frozenset({"after"})
"""Parameters that may stand there several times."""
_day = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Whole:
    """A parameter that is a whole number: its value if it is missing, and between which it lies."""

    name: str
    missing: int
    least: int
    most: int
    description: str


def read_segment(head: Head, index: int, name: str) -> str:
    """Return the path's segment of an index, an identifier. Raises Refusal."""
    try:
        value = head.segments()[index]
    except UnicodeDecodeError:
        raise Refusal(400, f"{name}: must be UTF-8") from None
    if not is_identifier(value):
        raise Refusal(400, f"{name}: must be {ID_RULE}")
    return value


def parameters(head: Head, *known: str) -> dict[str, str]:
    """Return the query's parameters; those that may be repeated with commas between.

    Raises Refusal for one that is unknown or repeated.
    """
    try:
        pairs = head.parameters()
    except ValueError:
        raise Refusal(400, "query: must be UTF-8, and at most 20 parameters") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise Refusal(400, f"{name[:100]}: unknown parameter; known are {', '.join(known) or 'none'}")
        if name in found and name not in REPEATED:
            raise Refusal(400, f"{name}: is repeated")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def whole(asked: Mapping[str, str], one: Whole) -> int:
    """Return the value of a parameter that is a whole number. Raises Refusal."""
    text = asked.get(one.name)
    if text is None:
        return one.missing
    readable = text.isascii() and text.isdigit() and len(text) <= len(str(one.most))
    if not readable or not one.least <= int(text) <= one.most:
        raise Refusal(400, f"{one.name}: must be a whole number from {one.least} to {one.most}")
    return int(text)


def identifier(asked: Mapping[str, str], name: str) -> str | None:
    """Return the value of a parameter that names a player or a game, None if it is missing. Raises Refusal."""
    value = asked.get(name)
    if value is not None and not is_identifier(value):
        raise Refusal(400, f"{name}: must be {ID_RULE}")
    return value


def day(text: str) -> date:
    """Read a day. Raises Refusal."""
    try:
        if _day.match(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Refusal(400, "date: must be a day such as 2026-01-15")


def moment(name: str, text: str) -> datetime:
    """Read a time. Raises Refusal."""
    try:
        return parse_timestamp(text)
    except (ValueError, OverflowError):
        raise Refusal(400, f"{name}: must be a time such as 2026-01-15T10:30:00Z") from None
