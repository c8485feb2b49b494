"""A number for a JSON value, to tell whether what PostgreSQL keeps is what the topic has, without keeping either.

jsonb changes how a value is written and not what it is: keys are ordered, the last of equal keys stays, and 1e2 becomes
100.
"""

import json
from collections.abc import Hashable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import Final

_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def fingerprint(text: str) -> int:
    """Hash JSON text: the same 64 bits within this process for equal values. Raises ValueError for what is not JSON."""
    return hash(_told_apart(_load(text)))


def _number(text: str) -> tuple[str, str]:
    """Write a number in one way, however it was written. Its own hash would not do: those of -1 and -2 are the same."""
    try:
        value = Decimal(text)
    except InvalidOperation:  # an exponent of twenty digits; PostgreSQL has no such number
        return ("number", text)
    return ("number", str(_EXACT.normalize(value)) if value else "0")


_load: Final = json.JSONDecoder(parse_float=_number, parse_int=_number).decode


def _told_apart(value: object) -> Hashable:
    """Equal if the JSON values are."""
    if isinstance(value, dict):
        return frozenset((key, _told_apart(item)) for key, item in value.items())
    if isinstance(value, list):
        return ("array", *map(_told_apart, value))
    if isinstance(value, bool):
        return ("boolean", value)
    return value if isinstance(value, str | tuple) else None
