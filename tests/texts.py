"""Strategies of text and JSON as the world writes it: every plane, raw and escaped forms, space anywhere."""

from typing import Final

from hypothesis import strategies as st

AWKWARD: Final = (
    "\u00f6",  # two bytes
    "o\u0308",  # the same to a reader: a letter and a combining mark
    "\u4e2d\u6587",  # three bytes each
    "\U0001f3ae",  # four bytes, a pair of surrogates where it is escaped
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # one family, joined
    "\U0001f1e9\U0001f1ea",  # a flag of two letters
    "\u202e\u0645\u0631\u062d\u0628\u0627\u202c",  # right to left, with its controls
    "\u0e01\u0e33\u0e49",  # Thai, marks above and below
    "\ufeff\u200b\u2028\u2029",  # what has no width, and lines that are none to JSON
    "\ufdd0\ufffe\uffff\U0010ffff",  # no characters, yet allowed
    "\ue000\U000f0000",  # private use
    "I\u0307\u0130\u0131\u00df",  # what changes its length with its case
    "\x7f\x80\x9f",  # controls that JSON takes bare
    '"\\/\b\f\n\r\t\x1b',
    "NULL", "1e5", "9" * 30, "{[", "]}", '","player_id":"', '"score":7,', "<img onerror=alert(1)>",
    "'; DROP TABLE events; --",
)  # fmt: skip

texts: Final = st.lists(st.text(max_size=8) | st.sampled_from(AWKWARD), max_size=4).map("".join)
"""Any Unicode text: characters of every plane, and sequences that are known to be awkward."""

names: Final = texts.map(lambda text: "".join(c for c in text if ord(c) > 31 and not 127 <= ord(c) < 160)[:255]).filter(
    bool
)
"""Texts that are identifiers by the contract."""

spaces: Final = st.text(" \t\n\r", max_size=2)
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@st.composite
def spelled(draw: st.DrawFn, of: st.SearchStrategy[str] = texts) -> str:
    """Draw a JSON string: each character raw where that is allowed, or escaped in one of its ways."""
    raw_first = draw(st.integers(0, 2))  # mostly raw, mixed, or all escaped, as JSON's writers differ
    return '"' + "".join(_spell(character, draw(st.integers(0, 2)) + raw_first) for character in draw(of)) + '"'


def _spell(character: str, way: int) -> str:
    if way < 2 and character not in '"\\' and ord(character) > 31:
        return character
    if way < 4 and character in _SHORT:
        return _SHORT[character]
    units = character.encode("utf-16-be", "surrogatepass")
    escaped = "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))
    return escaped.replace("\\u", "\\U").upper().replace("\\U", "\\u") if way == 3 else escaped


digits: Final = st.integers(1, 30).flatmap(lambda n: st.text("0123456789", min_size=n, max_size=n))
exponents: Final = st.tuples(st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 120)).map(
    lambda parts: "".join(map(str, parts))
)
numbers: Final = st.builds(
    lambda sign, whole, fraction, exponent: sign + (whole.lstrip("0") or "0") + fraction + exponent,
    st.sampled_from(["", "-"]),
    digits,
    st.just("") | digits.map(lambda text: f".{text}"),
    st.just("") | exponents,
)
"""Numbers as JSON spells them, of up to 60 digits, with exponents up to 120."""
scalars: Final = (
    numbers | spelled() | st.sampled_from(["true", "false", "null", "0", "-0", "1.5e3", "1" * 310, "1e400"])
)


@st.composite
def objects(draw: st.DrawFn, keys: st.SearchStrategy[str] | None = None, depth: int = 4) -> str:
    """Draw the text of a JSON object, whose keys may be the given ones, may repeat, and may be spelled by escapes."""
    own = spelled(texts if keys is None else keys | texts)
    size = draw(st.integers(0, 4))
    members = [
        f"{draw(spaces)}{draw(own)}{draw(spaces)}:{draw(spaces)}{draw(_values(keys, depth - 1))}{draw(spaces)}"
        for _ in range(size)
    ]
    return "{" + (",".join(members) or draw(spaces)) + "}"


@st.composite
def _lists(draw: st.DrawFn, keys: st.SearchStrategy[str] | None, depth: int) -> str:
    items = [f"{draw(spaces)}{draw(_values(keys, depth - 1))}{draw(spaces)}" for _ in range(draw(st.integers(0, 4)))]
    return "[" + (",".join(items) or draw(spaces)) + "]"


def _values(keys: st.SearchStrategy[str] | None, depth: int) -> st.SearchStrategy[str]:
    return scalars if depth <= 0 else st.one_of(scalars, scalars, _lists(keys, depth), objects(keys, depth))
