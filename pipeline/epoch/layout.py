"""The edge's own layout: a record whose parts lie where the edge puts them is cut at known places, in whole columns.

No JSON decoder runs. The edge writes seven keys in one order and nothing between them, so a record is proven to be such
an object by where its markers lie (`","player_id":"` and so on): the texts between may hold neither quote nor
backslash, so that no marker can be part of a text. `data` is taken if it is an object of few levels, which one
regular expression tells whole and valid from not (`epoch.grammar`).

What is read here was fully checked by the rules of `contract.event`; whatever else there is, is left to the decoders.
"""

import json
from typing import Final

import polars as pl

from pipeline.contract import event
from pipeline.contract.event import POLARS_TIMESTAMP, RECORD_FIELDS, TIMESTAMP_SIZE, UUID_SIZE, Scoring
from pipeline.epoch.frame import EVENT_SCHEMA
from pipeline.epoch.grammar import AT_TOP_LEVEL, ESCAPED_KEY, SPACE, object_of

_FIRST, *_TEXTS, _LAST = RECORD_FIELDS
_START: Final = f'{{"{_FIRST}":"'
_BEGINS: Final = pl.col("value").str.starts_with(_START)
_MARKERS: Final = {**{name: f'","{name}":"' for name in _TEXTS}, _LAST: f'","{_LAST}":'}
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9]\.[0-9]{6}Z$"
_TEXT: Final = r'^[^"\\\x00-\x1f\x7f-\x9f]+$'

_LEVELS: Final = 3
"""Levels of objects and lists that are recognised inside `data`."""
_DATA: Final = object_of(_LEVELS)
_INTEGER: Final = rf"^{SPACE}(-?[0-9]{{1,15}}){SPACE}[,}}]"  # fewer digits than MAX_SCORE has


class LayoutLane:
    """Reads records of the edge's layout under one scoring table."""

    def __init__(self, scoring: Scoring) -> None:
        # Built once: in a small epoch, building expressions took as long as running them.
        self._fits = _fits()
        self._parts = _parts()
        self._parsed = _parsed(scoring)
        self._around_score = pl.col("data").str.splitn(pl.col("score_key"), 2).struct.rename_fields(["before", "after"])
        self._score = _score(scoring).alias("score")
        self._sure = _sure(scoring)

    def read(self, records: pl.DataFrame) -> pl.DataFrame:
        """Return the events of the records that have the layout and are surely events (`decode.Lane`)."""
        placed = records.filter(_BEGINS).with_columns(_places()).filter(self._fits)
        # Step by step, for an expression used twice would be computed twice.
        parsed = placed.with_columns(self._parts).with_columns(self._parsed)
        scored = parsed.with_columns(self._around_score.alias("around")).unnest("around").with_columns(self._score)
        return scored.filter(self._sure).select(EVENT_SCHEMA.names())


def _places() -> list[pl.Expr]:
    """Find each marker's first place, in bytes; null if there is none."""
    text = pl.col("value")
    found = [
        text.str.find(marker, literal=True).cast(pl.Int64).alias(f"at_{name}") for name, marker in _MARKERS.items()
    ]
    return [*found, text.str.len_bytes().cast(pl.Int64).alias("size")]


def _after(name: str) -> pl.Expr:
    """Give the place where the part after a marker begins."""
    return pl.col(f"at_{name}") + len(_MARKERS[name])


def _fits() -> pl.Expr:
    """Tell which records have every marker in its place, so that all cuts lie beside quotes: within no character."""
    text, size = pl.col("value"), pl.col("size")
    return (
        text.str.ends_with("}")
        & (size <= event.MAX_EVENT_BYTES)
        & (_after("player_id") <= pl.col("at_game_id"))
        & (_after("game_id") <= pl.col("at_event_id"))
        & (_after("event_id") + UUID_SIZE == pl.col("at_timestamp"))
        & (_after("timestamp") + TIMESTAMP_SIZE == pl.col("at_ingested_at"))
        & (_after("ingested_at") + TIMESTAMP_SIZE == pl.col("at_data"))
        & (_after("data") < size)
    ).fill_null(value=False)


def _parts() -> list[pl.Expr]:
    raw = pl.col("value").cast(pl.Binary)  # the places are in bytes

    def cut(start: pl.Expr | int, size: pl.Expr | int) -> pl.Expr:
        return raw.bin.slice(start, size).cast(pl.String)

    return [
        cut(len(_START), pl.col("at_player_id") - len(_START)).alias("event_type"),
        cut(_after("player_id"), pl.col("at_game_id") - _after("player_id")).alias("player_id"),
        cut(_after("game_id"), pl.col("at_event_id") - _after("game_id")).alias("game_id"),
        cut(_after("event_id"), UUID_SIZE).alias("id"),
        cut(_after("timestamp"), TIMESTAMP_SIZE).alias("time"),
        cut(_after("ingested_at"), TIMESTAMP_SIZE).alias("ingested"),
        cut(_after("data"), pl.col("size") - 1 - _after("data")).alias("data"),
    ]


def _parsed(scoring: Scoring) -> list[pl.Expr]:
    def parse(column: str) -> pl.Expr:
        moment = pl.col(column).str.to_datetime(POLARS_TIMESTAMP, time_unit="us", strict=False)
        return pl.when(pl.col(column).str.contains(_TIME)).then(moment.dt.replace_time_zone("UTC"))

    keys = {kind: json.dumps(rule.field, ensure_ascii=False) + ":" for kind, rule in scoring.items()}
    return [
        pl.col("id").str.replace_all("-", "", literal=True).str.decode("hex", strict=False).alias("event_id"),
        parse("time").alias("event_timestamp"),
        parse("ingested").alias("ingested_at"),
        pl.col("event_type").replace_strict(keys, default=None, return_dtype=pl.String).alias("score_key"),
    ]


def _score(scoring: Scoring) -> pl.Expr:
    """Read the score of each event, or its default; null if its type has none, and if it is not sure.

    In a valid object, a quote, a name, a quote and a colon outside of any string are the key of that name; it is the
    one that counts if it lies in nothing nested, and if none after it has its name, spelled so or by escapes.
    """
    key, before, after = pl.col("score_key"), pl.col("before"), pl.col("after")
    once = before.str.contains(AT_TOP_LEVEL) & ~after.str.contains(key, literal=True)
    number: pl.Expr = pl.when(once).then(after.str.extract(_INTEGER).cast(pl.Int64, strict=False))
    defaults = {kind: rule.default for kind, rule in scoring.items() if rule.default is not None}
    if defaults:
        default = pl.col("event_type").replace_strict(defaults, default=None, return_dtype=pl.Int64)
        number = pl.when(after.is_null()).then(default).otherwise(number)
    return pl.when(~pl.col("data").str.contains(ESCAPED_KEY)).then(number)


def _sure(scoring: Scoring) -> pl.Expr:
    late = pl.col("received") + event.MAX_AHEAD
    return (
        pl.col("event_type").str.contains(event.EVENT_TYPE_PATTERN)
        & _is_identifier("player_id")
        & _is_identifier("game_id")
        & pl.col("id").str.contains(event.UUID_PATTERN)
        & pl.col("event_timestamp").is_between(event.EARLIEST, late)
        & pl.col("ingested_at").is_between(event.EARLIEST, event.LATEST)
        & pl.col("data").str.contains(_DATA)
        & (pl.col("score").is_not_null() | ~pl.col("event_type").is_in(list(scoring)))
    ).fill_null(value=False)


def _is_identifier(column: str) -> pl.Expr:
    text = pl.col(column)
    return text.str.contains(_TEXT) & (text.str.len_bytes() <= event.MAX_ID_CHARACTERS)
