"""A number for a JSON value, to tell whether what PostgreSQL keeps is what the topic has, without keeping either.

jsonb changes how a value is written and not what it is: keys are ordered, the last of equal keys stays, and 1e2 becomes
100.
"""

import json
from collections.abc import Hashable
from decimal import Decimal
from typing import Final

_load: Final = json.JSONDecoder(parse_float=Decimal).decode  # a double would take a number for its neighbour


def fingerprint(text: str) -> int:
    """Hash JSON text: the same 64 bits within this process for equal values. Raises ValueError for what is not JSON."""
    return hash(_told_apart(_load(text)))


def _told_apart(value: object) -> Hashable:
    """Equal where JSON values are. Numbers become text, for Python hashes -1 like -2, and 1 like true."""
    if isinstance(value, dict):
        return frozenset((key, _told_apart(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(map(_told_apart, value))
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, int | Decimal):
        return ("number", "{:x}/{:x}".format(*value.as_integer_ratio()))
    return value if isinstance(value, str) else None
