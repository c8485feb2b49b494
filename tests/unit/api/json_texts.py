"""Strategies for JSON as other programs write it: one text in many spellings, numbers of every size, deep nesting.

Most of what they draw is valid; some is nearly so. They draw text, not values, for a value has no spelling.
"""

import json

from hypothesis import strategies as st

SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r\n  "])

_everything = st.characters(exclude_categories=["Cs"])
_awkward = st.sampled_from(
    [
        "e\u0301\u0323",  # combining marks
        "Z\u0351\u036b\u0343\u032a",
        "\u202eabc\u202c",  # bidi controls
        "\u2066\u05d0\u2069",
        "\u200f",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family, by zero width joiners
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f1e9\U0001f1ea",
        "\U0001f44d\U0001f3fd",
        "\u2028",
        "\u2029",
        "\ufeff",
        "\ufffe",
        "\uffff",
        "\ufffd",
        "\U0010ffff",
        "\ue000",
        "\u00a0",
        "\u3000",
        "\ud7ff",
        "\x7f",
        "\x80",
        "\x85",
        "\x9f",
        "\xad",
        "[",
        "]",
        "{",
        "}",
        '"data"',
    ]
)
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


def spelled(text: str) -> st.SearchStrategy[str]:
    """Draw a way to write a text inside a JSON string: raw, as short escapes, or as `\\u` in either case."""
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    return st.sampled_from([plain, plain, escaped(text), escaped(text, "04X"), _mixed(text), plain.replace("/", "\\/")])


_good = st.one_of(_everything, _awkward, st.sampled_from(list('a1 "\\/\b\f\n\r\t'))).flatmap(spelled)
TEXTS = st.lists(_good, max_size=10).map("".join)
"""Insides of valid JSON strings, without NUL but by a rare chance."""
NAMES = st.lists(st.one_of(_everything, _awkward).flatmap(spelled), min_size=1, max_size=6).map("".join)
ANY_TEXTS = st.one_of(
    TEXTS,
    st.lists(st.one_of(_good, _controls.flatmap(spelled), _lone, _nul, _bad), max_size=6).map("".join),
)
_digits = st.text("0123456789", min_size=1, max_size=25)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["", "-"]),
        st.integers(0, 10**20).map(str),
        st.one_of(st.just(""), _digits.map(".{}".format)),
        st.sampled_from(["e", "E", "e+", "E-", "e-", "E+"]),
        st.one_of(st.integers(0, 400), st.sampled_from([307, 308, 309, 323, 324, 325, 9999, 10**20])).map(str),
    ),
    st.integers(300, 320).map("7".__mul__),
    st.integers(300, 700).map(lambda size: "0." + "0" * size + "1"),
    st.sampled_from(["0", "-0", "-0.0", "0e999", "1.5e3", "2.5E-3", "12345678901234567", "0.12345678901234567"]),
    st.sampled_from(["01", "1.", ".5", "1e", "+1", "-", "0x1", "NaN", "Infinity", "1e400", "-1E+400", "1_0"]),
)
_leaves = st.one_of(NUMBERS, ANY_TEXTS.map('"{}"'.format), st.sampled_from(["true", "false", "null", '""']))


@st.composite
def members(draw: st.DrawFn, keys: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> str:
    """Draw an object of a few members, with white space wherever JSON has room for it."""
    found = [
        f"{draw(SPACE)}{draw(keys)}{draw(SPACE)}:{draw(SPACE)}{draw(values)}{draw(SPACE)}"
        for _ in range(draw(st.integers(0, 4)))
    ]
    return "{" + ",".join(found) + "}"


_keys = st.one_of(ANY_TEXTS, st.sampled_from(["score", "data", "\\u0073core"])).map('"{}"'.format)
VALUES = st.recursive(
    _leaves,
    lambda inner: st.one_of(members(_keys, inner), st.lists(inner, max_size=3).map(lambda all_: f"[{','.join(all_)}]")),
    max_leaves=8,
)
OBJECTS = members(_keys, VALUES)


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
TIMES = st.builds("{}{}{}".format, _second, _fraction, _zone)
"""Times of every form of RFC 3339, and of some near it."""
