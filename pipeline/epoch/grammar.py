"""JSON (RFC 8259) as regular expressions: what PostgreSQL's jsonb and a double can hold, told of a whole column.

A text of any depth is no regular language; one of bounded depth is. Two expressions follow from that. `object_of`
proves a text to be an object, whole and valid, and needs nothing else; written out, each level has four times the size
of the one below it. `HOLDABLE` has the size of its depth, for it presumes that a decoder has found the text valid JSON,
and proves only what decoders pass over: that no escape is NUL or half a pair of surrogates, no number past a double,
and nothing nested deeper than an event may be.

Both are anchored at both ends, so that a search is one run of an automaton: unanchored, the same cost twice as much a
byte. Each only ever vouches for a text. What it does not match may still be good (an exponent of three digits, a number
of a hundred), and is the judge's.
"""

from typing import Final

from pipeline.contract import event

SPACE: Final = r"[ \t\n\r]*"
_HEX: Final = "[0-9a-fA-F]"
_UNICODE: Final = (
    rf"u(?:[1-9a-cefA-CEF]{_HEX}{{3}}|0[1-9a-fA-F]{_HEX}{{2}}|00(?:{_HEX}[1-9a-fA-F]|[1-9a-fA-F]0)"
    rf"|[dD](?:[0-7]{_HEX}{{2}}|[89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}))"
)
"""Four digits that are a character and not NUL, or a high and a low surrogate."""
STRING: Final = rf'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|{_UNICODE}))*"'

# A double's largest is 1.8e308, and jsonb holds 16,383 digits behind the point: these cannot pass either.
_EXPONENT: Final = r"(?:[eE][+-]?[0-9]{1,2})?"
_NUMBER: Final = rf"-?(?:0|[1-9][0-9]{{0,19}})(?:\.[0-9]{{1,25}})?{_EXPONENT}"
_LONG_NUMBER: Final = rf"[0-9]{{1,100}}(?:\.[0-9]{{1,100}})?{_EXPONENT}"
_SCALAR: Final = rf"(?:{STRING}|{_NUMBER}|true|false|null)"


def object_of(levels: int) -> str:
    """Write the expression of an object that holds up to so many levels of objects and lists, its members unspaced.

    No space may lie before a colon: so a key, its quotes and its colon stand together wherever the key does.
    """
    return f"^{_object(_value(levels))}$"


def _value(levels: int) -> str:
    if levels == 0:
        return _SCALAR
    inner = _value(levels - 1)
    return rf"(?:{_SCALAR}|{_list(inner)}|{_object(inner)})"


def _list(value: str) -> str:
    return rf"\[{SPACE}(?:{value}{SPACE}(?:,{SPACE}{value}{SPACE})*)?\]"


def _object(value: str) -> str:
    member = rf"{STRING}:{SPACE}{value}{SPACE}"
    return rf"\{{{SPACE}(?:{member}(?:,{SPACE}{member})*)?\}}"


def _level(depth: int) -> str:
    """Write what may stand between two brackets, for a text that is known to be valid JSON.

    A number ends before a space or a comma, or where the level does; otherwise its digits could be matched as those of
    two.
    """
    nested = rf"|[\[{{]{_level(depth - 1)}[\]}}]" if depth else ""
    return rf'(?:[^"\[\]{{}}eE0-9]|true|false|{STRING}|{_LONG_NUMBER}[ \t\r\n,]{nested})*(?:{_LONG_NUMBER})?'


HOLDABLE: Final = f"^{_level(event.MAX_NESTING)}$"
"""Of valid JSON: that it is one a jsonb and a reader can hold, by the rules of `contract.event`."""

AT_TOP_LEVEL: Final = (
    r'^\{(?:[^"\[\]{}]|"(?:[^"\\]|\\.)*"'
    + "".join(r'|[\[{](?:[^"\[\]{}]|"(?:[^"\\]|\\.)*"' for _ in range(event.MAX_NESTING))
    + r")*[\]}]" * event.MAX_NESTING
    + r")*$"
)
"""Of what stands before a place in a valid object: that the place lies in no string, and in nothing nested."""

ESCAPED_KEY: Final = rf'\\.(?:[^"\\]|\\.)*"{SPACE}:'
"""A key with an escape in it: a search for a key by its own characters passes it over."""
