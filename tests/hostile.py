"""Events of 64 KiB made to be dear: every shape of JSON in bulk, alone and with what no short way vouches for."""

from typing import Final

import pytest

from pipeline.contract.event import MAX_EVENT_BYTES

_HEAD: Final = b'{"event_type":"login","player_id":"p","game_id":"g","data":{"x":[%s'
_TAIL: Final = b"]}}"
_ROOM: Final = 300
"""Bytes that are left for the id and the times that the edge adds."""

FINE: Final = b"1e-1000"
"""A number that PostgreSQL holds and only the judge vouches for."""
LIKE_NUL: Final = rb'"\\u0000"'
"""Text that only looks like an escape of NUL."""

PARTS: Final = {
    "integers": b"1",
    "floats": b"0.1",
    "lists": b"[]",
    "objects": b"{}",
    "lists in objects": b'{"":[]}',
    "lists 28 deep": b"[" * 28 + b"]" * 28,
    "empty strings": b'""',
    "strings of brackets": b'"[{[{"',
    "escapes": rb'"\n"',
    "escaped quotes": rb'"\"\\"',
    "true": b"true",
    "fine numbers": FINE,
    "the finest numbers": b"1.1e-16382",
    "long zeros": b"0e999999999",
    "what looks like NUL": LIKE_NUL,
    "escaped characters": rb'"\u00e4"',
    "characters of four bytes": '"\U0001f3ae"'.encode(),
}
"""What a list is filled with."""

WHOLE: Final = {
    "one string of brackets": b'"' + b"[" * 64_000 + b'"',
    "one string of backslashes": b'"' + rb"\\" * 32_000 + b'"',
    "one string of quotes": b'"' + rb"\"" * 32_000 + b'"',
    "one string of letters": b'"' + b"e" * 64_000 + b'"',
    "one string like numbers": b'"' + b"0e-1" * 16_000 + b'"',
    "points": b'"' + b"." * 64_000 + b'"',
    "a fraction of 16,000 digits": b"0." + b"1" * 16_000,
    "an exponent of 60,000 digits": b"1e-" + b"0" * 60_000 + b"1",
    "keys, all one": b"{" + b",".join([b'"":1'] * 12_000) + b"}",
    "keys": b"{" + b",".join(b'"%d":1' % n for n in range(7_000)) + b"}",
}


def filled(*first: bytes, part: bytes) -> bytes:
    """Write an event whose data is a list of these values, and of as many parts as there is room for."""
    start = _HEAD % b"".join(one + b"," for one in first)
    number = (MAX_EVENT_BYTES - _ROOM - len(start)) // (len(part) + 1)
    return start + b",".join([part] * number) + _TAIL


_ODD: Final = {"": (), " and a fine number": (FINE,), " and like NUL": (LIKE_NUL,), " and both": (FINE, LIKE_NUL)}
HOSTILE: Final = [
    pytest.param(value, id=name)
    for name, value in (
        [(name + odd, filled(*first, part=part)) for name, part in PARTS.items() for odd, first in _ODD.items()]
        + [
            (name + odd, _HEAD % b"".join(one + b"," for one in first) + whole + _TAIL)
            for name, whole in WHOLE.items()
            for odd, first in _ODD.items()
        ]
    )
]
