"""The shapes in which games send events: the reference load's events, with `data`, names and layout of other kinds.

A shape changes the generated columns and nothing of what must come out: the score is taken from the flat event before
the change and carried as a column. Each change is drawn from (seed, index), so a load is the same however it is cut.
The bytes are written twice over: as a client sends them, and as they lie in the topic. For all but the foreign shape
the second is what the edge makes of the first, which a test holds against the edge's own judge.
"""

import json
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl

from bench.truth import score_in_data
from pipeline.contract.event import POLARS_TIMESTAMP
from pipeline.load.workload import Workload, client_bodies, draw, record_values

Change = Callable[[pl.DataFrame, int], pl.DataFrame]
"""From events (and the seed) to events of another shape."""

_OWN_STREAM: Final = 6
_PICK_STREAM: Final = 7
_POOL_CHARACTERS: Final = 128 * 1024
_POOL_STARTS: Final = 8 * 1024
_SAMPLE: Final = 100_000
_FLAT_BYTES: Final = 270


@dataclass(frozen=True, slots=True)
class Shape:
    """A way to send the events of a load.

    `edge_only`: the edge makes flat records of it. `event_bytes`: about how large a record is.
    """

    name: str
    about: str
    change: Change
    edge_only: bool = False
    event_bytes: int = 400

    def dress(self, events: pl.DataFrame, seed: int) -> pl.DataFrame:
        """Give flat events this shape. Adds the columns `score` (null: none) and `form` (how they are written)."""
        return self.change(events.with_columns(score=score_in_data(), form=pl.lit("edge")), seed)


# -- what a change does to `data` ------------------------------------------------------------------------------------


def _with(*parts: str | pl.Expr) -> Change:
    """Append members to `data`; an expression reads `own`, 64 bits drawn for the event."""

    def change(events: pl.DataFrame, seed: int) -> pl.DataFrame:
        members = [pl.lit(part) if isinstance(part, str) else part for part in parts]
        data = pl.concat_str(pl.col("data").str.strip_suffix("}"), pl.lit(","), *members, pl.lit("}"))
        return events.with_columns(own=draw(seed, _OWN_STREAM)).with_columns(data=data).drop("own")

    return change


def _number(below: int, shift: int = 0) -> pl.Expr:
    return pl.col("own").floordiv(10**shift).mod(below)


def _digits(count: int, shift: int = 0) -> pl.Expr:
    return _number(10**count, shift).cast(pl.String).str.zfill(count)


def _one_of(texts: tuple[str, ...], shift: int = 0) -> pl.Expr:
    return pl.lit(pl.Series(texts)).gather(_number(len(texts), shift).cast(pl.UInt32))


_NAMES: Final = (
    "Jürgen Groß", "Éloïse", "Łukasz", "İsmail", "Nguyễn", "Αλέξανδρος", "Дмитрий", "Олександр", "דוד", "محمد",
    "अर्जुन", "สมชาย", "王小明", "さくら桜", "김민준", "ქეთევანი", "አበበ", "🎮🏆", "👨\u200d👩\u200d👧", "🇩🇪🇯🇵",
    "𝓐𝓵𝓮𝔁", "e\u0301toile",  # noqa: RUF001 - the letters are meant
)  # fmt: skip
"""Names of many alphabets, in composed and combining forms, of one to four bytes a character."""


def _foreign_names(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Give players and games names of many alphabets, each always the same."""
    named = [_named(column) for column in ("player_id", "game_id")]
    text = _with('"name":"', _one_of(_NAMES), '","clan":"', _one_of(_NAMES, 5), '"')
    return text(events, seed).with_columns(named)


def _named(column: str) -> pl.Expr:
    tail = pl.col(column).str.extract(r"(-\d+)$")
    number = tail.str.slice(1).cast(pl.UInt64)
    return pl.lit(pl.Series(_NAMES)).gather((number % len(_NAMES)).cast(pl.UInt32)).add(tail).alias(column)


def _escape(column: str) -> pl.Expr:
    r"""Write every character of _NAMES past ASCII as `\u` and four digits, two of these past the first plane."""
    characters = sorted({character for name in _NAMES for character in name if not character.isascii()})
    return pl.col(column).str.replace_many(characters, [json.dumps(character)[1:-1] for character in characters])


def _escaped(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    return _foreign_names(events, seed).with_columns(_escape("data"), form=pl.lit("escaped"))


def _foreign(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Another producer's record: its build's name makes it no shorter than the edge's, which has one time more."""
    named = _with('"build":"release-2026.11.3+', _digits(6), '"')(events, seed)
    spaced = pl.col("data").str.replace_all('":', '": ', literal=True).str.replace_all(',"', ', "', literal=True)
    return named.with_columns(data=spaced, form=pl.lit("foreign"))


def _mixed(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Give each event a shape by its share, and make some of them large."""
    shapes = [shape for shape, percent in _MIX for _ in range(percent)]
    drawn = events.with_columns(pick=draw(seed, _PICK_STREAM), place=pl.int_range(pl.len()))
    drawn = drawn.with_columns(
        shape=pl.lit(pl.Series(shapes)).gather((pl.col("pick") % len(shapes)).cast(pl.UInt32)),
        large=pl.col("pick") // len(shapes) % 100 < _LARGE_PERCENT,
    )
    parts = [
        SHAPES[name].change(part, seed)
        for (name,), part in drawn.group_by("shape")  # order is mended below
    ]
    log = pl.concat_str(
        pl.col("data").str.strip_suffix("}"), pl.lit(',"log":"'), _text(seed, pl.lit(_LARGE_TEXT)), pl.lit('"}')
    )
    dressed = pl.concat(parts).sort("place").with_columns(data=pl.when("large").then(log).otherwise("data"))
    return dressed.drop("pick", "place", "shape", "large")


_MIX: Final = (
    ("flat", 40), ("nested", 13), ("list", 12), ("quote", 5), ("newline", 5), ("escaped", 5), ("non-ascii", 5),
    ("exponent", 10), ("foreign", 5),
)  # fmt: skip
"""Percent of the mix."""
_LARGE_PERCENT: Final = 3
_LARGE_TEXT: Final = 3_800

SHAPES: Final = {
    shape.name: shape
    for shape in (
        Shape("flat", "the reference load", lambda events, _seed: events),
        Shape("nested", "an object within data", _with(
            '"position":{"x":', _number(4_000), ',"y":', _number(4_000, 4), ',"zone":{"name":"north","level":',
            _number(60, 8), "}}",
        )),
        Shape("list", "a list of objects", _with(
            '"items":[{"id":', _number(9_000), ',"count":', _number(99, 4), '},{"id":', _number(9_000, 6),
            ',"count":', _number(99, 10), "}]",
        )),
        Shape("quote", r"an escaped quote, \"", _with('"title":"the \\"', _one_of(("Great", "Bold")), '\\" one"')),
        Shape("newline", r"a line feed, \n", _with('"chat":"gg\\nwell played ', _digits(3), '"')),
        Shape("digits", "an integer of 17 digits", _with('"session":', _number(9 * 10**16) + 10**16)),
        Shape("float", "numbers with 17 digits of fraction", _with(
            '"x":', _number(999), ".", _digits(17), ',"y":-0.', _digits(17, 1)
        )),
        Shape("escaped", r"names of many alphabets, as \u and four digits", _escaped),
        Shape("non-ascii", "the same names as they are", _foreign_names),
        Shape("exponent", "1.5e3 and 2.5E-3", _with(
            '"speed":', _number(9), ".", _number(9, 1), "e", _number(9, 2), ',"drift":-2.', _digits(3), "E-",
            _number(9, 3),
        )),
        Shape("foreign", "another producer's order of keys, spaces after : and , and no ingested_at", _foreign),
        Shape("offset", "times with an offset, +02:00", lambda events, _seed: events.with_columns(
            form=pl.lit("offset")
        ), edge_only=True),
        Shape("mixed", "the mix", _mixed, event_bytes=500),
    )
}  # fmt: skip


# -- sizes -----------------------------------------------------------------------------------------------------------


@cache
def _pool() -> str:
    """Text to cut padding from: lower-case words and digits, so that neither lz4 nor TOAST makes nothing of it."""
    return "".join(random.Random(1).choices(string.ascii_lowercase + string.digits + " " * 5, k=_POOL_CHARACTERS))


def _text(seed: int, size: pl.Expr) -> pl.Expr:
    return pl.lit(_pool()).str.slice((draw(seed, _OWN_STREAM) % _POOL_STARTS).cast(pl.Int64), size)


def padded(characters: int) -> Shape:
    """Flat events whose last text is longer by so many ASCII characters."""

    def change(events: pl.DataFrame, seed: int) -> pl.DataFrame:
        longer = pl.concat_str(pl.col("data").str.strip_suffix('"}'), _text(seed, pl.lit(characters)), pl.lit('"}'))
        return events.with_columns(data=longer)

    return Shape("padded", f"flat, {characters} characters longer", change, event_bytes=_FLAT_BYTES + characters)


def padded_like(shape: Shape, workload: Workload) -> Shape:
    """Flat events of the average size of a shape's records."""
    return padded(max(0, round(_mean_bytes(shape, workload) - _mean_bytes(SHAPES["flat"], workload))))


def _mean_bytes(shape: Shape, workload: Workload) -> float:
    sizes = values(shape.dress(workload.events(0, _SAMPLE), workload.seed), " " * 27).str.len_bytes()
    return int(sizes.sum()) / len(sizes)


# -- bytes -----------------------------------------------------------------------------------------------------------


def values(events: pl.DataFrame, ingested_at: str) -> pl.Series:
    """Write shaped events as records of the topic; the edge's own at `ingested_at` (27 characters)."""
    return _by_form(events, {"foreign": _foreign_text}, lambda part: record_values(part, ingested_at))


def bodies(events: pl.DataFrame) -> list[str]:
    """Write shaped events as clients send them."""
    own = {"foreign": _foreign_text, "escaped": _escaped_text, "offset": _offset_text}
    return _by_form(events, own, _plain_text).to_list()


Writer = Callable[[pl.DataFrame], pl.Series]


def _by_form(events: pl.DataFrame, own: Mapping[str, Writer], otherwise: Writer) -> pl.Series:
    texts = [pl.DataFrame(schema={"place": pl.UInt32, "text": pl.String})]
    for (form,), part in events.with_row_index("place").group_by("form"):
        texts.append(part.select("place").with_columns(text=own.get(str(form), otherwise)(part)))
    return pl.concat(texts).sort("place")["text"]


def _plain_text(events: pl.DataFrame) -> pl.Series:
    return pl.Series(client_bodies(events), dtype=pl.String)


def _escaped_text(events: pl.DataFrame) -> pl.Series:
    return _plain_text(events.with_columns(_escape("player_id"), _escape("game_id")))


def _offset_text(events: pl.DataFrame) -> pl.Series:
    local = pl.col("timestamp").str.to_datetime(POLARS_TIMESTAMP, time_unit="us") + pl.duration(hours=2)
    return _plain_text(events.with_columns(timestamp=local.dt.strftime(POLARS_TIMESTAMP.replace("Z", "+02:00"))))


def _foreign_text(events: pl.DataFrame) -> pl.Series:
    parts: list[pl.Expr] = [pl.lit('{"data": '), pl.col("data")]
    before = ', "'
    for name in ("timestamp", "game_id", "player_id", "event_type", "event_id"):
        parts += [pl.lit(f'{before}{name}": "'), pl.col(name)]
        before = '", "'
    return events.select(pl.concat_str(*parts, pl.lit('"}'))).to_series()
