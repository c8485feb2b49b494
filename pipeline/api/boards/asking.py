"""What the path and the query of a read ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal
from pipeline.contract.event import ID_RULE, is_identifier

REPEATED: Final = frozenset({"after"})
"""Parameters that may stand there several times."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A parameter that is a whole number: its value where it is missing, and between which it lies."""

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


def read_parameters(head: Head, *known: str) -> dict[str, str]:
    """Return the query's parameters; those that may be repeated with commas between.

    Raises Refusal for one that is unknown or stands there twice.
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
            raise Refusal(400, f"{name}: stands there twice")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def read_whole(asked: Mapping[str, str], one: Whole) -> int:
    """Return a parameter that is a whole number. Raises Refusal."""
    text = asked.get(one.name)
    if text is None:
        return one.missing
    readable = text.isascii() and text.isdigit() and len(text) <= len(str(one.most))
    if not readable or not one.least <= int(text) <= one.most:
        raise Refusal(400, f"{one.name}: must be a whole number from {one.least} to {one.most}")
    return int(text)
