"""Strategies of text and JSON as the world writes it: every plane, raw and escaped forms, space anywhere.

They draw text, not values, for a value has no spelling. The first part is valid; `near_texts` and what is made of them
may be nearly so.
"""

import json
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
    "\u2066\u05d0\u2069", "\u200f", "Z\u0351\u036b\u0343\u032a",  # directions, and marks on marks
    "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f44d\U0001f3fd",  # a flag joined of two, a tone of skin
    "\u00a0", "\u3000", "\xad", "\x85", "\ufffd", "\ud7ff",
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


# -- valid, and nearly ---------------------------------------------------------------------------------------------

_controls = st.characters(min_codepoint=0, max_codepoint=0x9F)
_lone = st.sampled_from(["\\ud800", "\\uDFFF", "\\udc00\\ud800", "\\uD83C\\ud83c\\udfae", "\\ud83cx", "\\uDbFf\\u0041"])
_nul = st.sampled_from(["\\u0000", "\\\\u0000", "\\\\\\u0000", "\0"])
_bad = st.sampled_from(["\\", "\\x41", "\\u12", "\\u00g0", "\\U0041", "\n", "\x01", '"'])


def escaped(text: str, hexadecimal: str = "04x") -> str:
    """Write every character as `\\uXXXX`, as pairs above the first plane."""
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2], 'big'):{hexadecimal}}" for at in range(0, len(units), 2))


def _mixed(text: str) -> str:
    upper = escaped(text, "04X")
    return "".join(one.lower() if at % 3 else one for at, one in enumerate(upper)).replace("\\U", "\\u")


def ways_of(text: str) -> st.SearchStrategy[str]:
    """Draw a way to write a text inside a JSON string: raw, as short escapes, or as `\\u` in either case."""
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    return st.sampled_from([plain, plain, escaped(text), escaped(text, "04X"), _mixed(text), plain.replace("/", "\\/")])


_good = texts.flatmap(ways_of)
insides = st.lists(_good, max_size=4).map("".join)
"""Insides of valid JSON strings."""
name_insides = st.lists(texts.filter(bool).flatmap(ways_of), min_size=1, max_size=4).map("".join)
near_texts = st.one_of(
    insides,
    st.lists(st.one_of(_good, _controls.flatmap(ways_of), _lone, _nul, _bad), max_size=6).map("".join),
)
near_numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["", "-"]),
        st.integers(0, 10**20).map(str),
        st.one_of(st.just(""), digits.map(".{}".format)),
        st.sampled_from(["e", "E", "e+", "E-", "e-", "E+"]),
        st.one_of(st.integers(0, 400), st.sampled_from([307, 308, 309, 323, 324, 325, 9999, 10**20])).map(str),
    ),
    st.integers(300, 320).map("7".__mul__),
    st.integers(300, 700).map(lambda size: "0." + "0" * size + "1"),
    st.sampled_from(
        [
            "0",
            "-0",
            "-0.0",
            "0e999",
            "0e9999999999",
            "-0.0E+1000000000",
            "0E999999999",
            "1.5e3",
            "2.5E-3",
            "12345678901234567",
            "0.12345678901234567",
        ]
    ),
    st.sampled_from(["01", "1.", ".5", "1e", "+1", "-", "0x1", "NaN", "Infinity", "1e400", "-1E+400", "1_0"]),
)
_leaves = st.one_of(near_numbers, near_texts.map('"{}"'.format), st.sampled_from(["true", "false", "null", '""']))


@st.composite
def members(draw: st.DrawFn, keys: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> str:
    """Draw an object of a few members, with white space wherever JSON has room for it."""
    found = [
        f"{draw(spaces)}{draw(keys)}{draw(spaces)}:{draw(spaces)}{draw(values)}{draw(spaces)}"
        for _ in range(draw(st.integers(0, 4)))
    ]
    return "{" + ",".join(found) + "}"


_near_keys = st.one_of(near_texts, st.sampled_from(["score", "data", "\\u0073core"])).map('"{}"'.format)
near_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        members(_near_keys, inner), st.lists(inner, max_size=3).map(lambda all_: f"[{','.join(all_)}]")
    ),
    max_leaves=8,
)
near_objects = members(_near_keys, near_values)


@st.composite
def nested(draw: st.DrawFn, levels: st.SearchStrategy[int]) -> str:
    """Draw an object of so many levels, with lists of objects and texts of brackets beside the way down."""
    beside = st.sampled_from(['"]}"', '"{["', "[]", "{}", '[{},{"a":[1]},{}]', '"\\"}"', '"\\\\"', "1"])
    text = draw(st.sampled_from(["1", '"x"', "null"]))
    for _ in range(draw(levels) - 1):
        text = draw(
            st.sampled_from(['{"a":%s}', "[%s]", '{"b":@,"a":%s}', "[@,%s]", "[%s,@]", '{"a":%s,"c":@}', "[@,@,%s,@]"])
        ).replace("%s", text)
        while "@" in text:
            text = text.replace("@", draw(beside), 1)
    return f'{{"a":{text}}}'


_second = st.builds(
    "{}{}{}".format,
    st.one_of(
        st.dates().map(str),
        st.sampled_from(
            ["2026-11-18", "2024-02-29", "2026-02-29", "1999-12-31", "2000-01-01", "2026-11-19", "9999-12-31"]
        ),
    ),
    st.sampled_from(["T", "T", "T", "t", " ", ""]),
    st.one_of(
        st.times().map(lambda one: one.isoformat(timespec="seconds")),
        st.sampled_from(["23:59:60", "24:00:00", "23:59:59", "00:00:00", "14:13:20", "10:30", "1:02:03", "10:60:00"]),
    ),
)
_fraction = st.one_of(
    st.just(""),
    st.text("0123456789", min_size=0, max_size=11).map(".{}".format),
    st.sampled_from([".000001", ".0000009", ".999999999", ",5", ".\u0665", ".1_0", ".+1", ".\u00b2"]),
)
_zone = st.one_of(
    st.sampled_from(
        ["Z", "Z", "z", "", "+02:00", "-05:30", "+00:00", "-00:00", "+14:00", "+0200", "+02", "\u221202:00"]
    ),
    st.builds("{}{:02d}:{:02d}".format, st.sampled_from("+-"), st.integers(0, 25), st.integers(0, 61)),
)
near_times = st.builds("{}{}{}".format, _second, _fraction, _zone)
"""Times of every form of RFC 3339, and of some near it."""
