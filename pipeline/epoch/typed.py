"""The typed lane: any record, whoever wrote it, through a typed msgspec decoder and checks of whole columns.

The decoder skips `data`, which is kept as its raw bytes, and fields that are unknown. That what it skips is JSON it
sees, but not what JSON allows and `contract.event` does not: that is told for the whole record by `grammar.HOLDABLE`,
and a record that it does not vouch for is left to the judge.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import polars as pl

from pipeline.contract import event
from pipeline.contract.event import ScoreRule, Scoring
from pipeline.epoch.frame import EVENT_SCHEMA, text_or_null
from pipeline.epoch.grammar import HOLDABLE

# What this lane takes of a time: the contract's form less leap seconds and lower-case letters.
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"


class _Typed(msgspec.Struct, gc=False):
    """An event as this lane sees it; unknown fields are skipped, `data` stays raw."""

    event_type: str
    player_id: str
    game_id: str
    event_id: str
    timestamp: str
    ingested_at: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


class TypedLane:
    """Reads events under one scoring table."""

    def __init__(self, scoring: Scoring) -> None:
        self._decode = msgspec.json.Decoder(_Typed).decode
        self._scores = {kind: _score_decoder(rule) for kind, rule in scoring.items()}
        # Built once: in a small epoch, building them took as long as running them.
        self._parsed = _parsed()
        self._sure = _sure(scoring)

    def read(self, records: pl.DataFrame) -> pl.DataFrame:
        """Return the events of the records that decode and are surely events (`decode.Lane`)."""
        typed = _each(self._decode, records["value"])
        if None in typed:
            records = records.filter(pl.Series([one is not None for one in typed], dtype=pl.Boolean))
        found = [one for one in typed if one is not None]
        columns = records.with_columns(
            event_type=pl.Series([one.event_type for one in found], dtype=pl.String),
            player_id=pl.Series([one.player_id for one in found], dtype=pl.String),
            game_id=pl.Series([one.game_id for one in found], dtype=pl.String),
            event_id=pl.Series([one.event_id for one in found], dtype=pl.String),
            event_timestamp=_times(pl.Series([one.timestamp for one in found], dtype=pl.String)),
            ingested=pl.Series([one.ingested_at for one in found], dtype=pl.String),
            ingested_at=_times(pl.Series([one.ingested_at for one in found], dtype=pl.String)),
            data=text_or_null(pl.Series([bytes(one.data) for one in found], dtype=pl.Binary)),
            score=pl.Series(self._vouched_scores(found), dtype=pl.Int64),
        )
        return columns.with_columns(self._parsed).filter(self._sure).select(EVENT_SCHEMA.names())

    def _vouched_scores(self, found: list[_Typed]) -> list[int | None]:
        """Read the score of each event; None if its type has none, or must have one and this cannot vouch for it."""
        scores: list[int | None] = []
        for one in found:
            decode = self._scores.get(one.event_type)
            if decode is None:
                scores.append(None)
                continue
            try:
                score = decode(one.data).score
            except (msgspec.MsgspecError, UnicodeDecodeError):
                score = None
            scores.append(score if score is not None and -event.MAX_SCORE <= score <= event.MAX_SCORE else None)
        return scores


def _each(decode: Callable[[Any], _Typed], values: Iterable[str | None]) -> list[_Typed | None]:
    """Decode each value; None if it does not decode: a tombstone is a TypeError, deep nesting a RecursionError."""
    out: list[_Typed | None] = []
    decoded = map(decode, values)
    while True:
        try:
            out.extend(decoded)  # goes on behind the value that did not decode
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError):
            out.append(None)
        else:
            return out


def _score_decoder(rule: ScoreRule) -> Callable[[msgspec.Raw], Any]:
    """Make a decoder of one key of `data`; if the key is absent it gives the rule's default, None if it has none."""
    kind = msgspec.defstruct("Score", [("score", int, rule.default)], rename={"score": rule.field}, gc=False)
    return msgspec.json.Decoder(kind).decode


def _times(texts: pl.Series) -> pl.Series:
    """Parse RFC 3339 texts to UTC microseconds; null if one is not of this lane's form."""
    right = texts.set(~texts.str.contains(_TIME), None)
    # The form in which most times come, which polars parses in a third of the time of any form.
    parsed = right.str.to_datetime(event.POLARS_TIMESTAMP, time_unit="us", strict=False).dt.replace_time_zone("UTC")
    if parsed.null_count() == texts.null_count():
        return parsed
    return parsed.fill_null(right.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False))


def _parsed() -> list[pl.Expr]:
    """Parse the columns that come as text; null if one is not of this lane's form."""
    ids = pl.col("event_id").str
    digits = pl.concat_str([ids.slice(0, 8), ids.slice(9, 4), ids.slice(14, 4), ids.slice(19, 4), ids.slice(24, 12)])
    return [
        digits.str.decode("hex", strict=False).alias("event_id"),
        ids.contains(event.UUID_PATTERN).alias("event_id_ok"),
        pl.when(pl.col("ingested").is_null()).then("received").otherwise("ingested_at").alias("ingested_at"),
    ]


def _sure(scoring: Scoring) -> pl.Expr:
    """Say which rows keep every rule of `contract.event` for certain; what cannot be parsed is unsure."""
    late = pl.col("received") + event.MAX_AHEAD
    return (
        pl.col("event_type").str.contains(event.EVENT_TYPE_PATTERN)
        & pl.col("player_id").str.contains(event.ID_PATTERN)
        & pl.col("game_id").str.contains(event.ID_PATTERN)
        & pl.col("event_id_ok")
        & pl.col("event_timestamp").is_between(event.EARLIEST, late)
        & pl.col("ingested_at").is_between(event.EARLIEST, event.LATEST)
        & (pl.col("value").str.len_bytes() <= event.MAX_EVENT_BYTES)
        & pl.col("data").str.starts_with("{")
        & (pl.col("score").is_not_null() | ~pl.col("event_type").is_in(list(scoring)))
        & pl.col("value").str.contains(HOLDABLE)
    ).fill_null(value=False)
