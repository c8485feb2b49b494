"""The typed lane: any record, whoever wrote it, through a typed msgspec decoder and checks of whole columns.

`data` is kept as its raw bytes and skipped by the decoder, which cannot see in it what JSON allows but `pipeline.event`
does not: so it is screened, and what is suspect is left to the judge.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import polars as pl

from pipeline import event
from pipeline.event import ScoreRule, Scoring
from pipeline.frame import EVENT_SCHEMA, text_or_null

# What this lane takes of a time: the contract's form less leap seconds and lower-case letters.
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"
# A number with an exponent outside of a string, or one so long that it may not be finite.
_EXPONENT: Final = r"[:\[,]\s*-?[0-9.]+[eE]"
_LONG_NUMBER: Final = r"[0-9]{300}"


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
        found = [one for one in typed if one is not None]
        decoded = pl.Series([one is not None for one in typed], dtype=pl.Boolean)
        columns = records.filter(decoded).with_columns(
            event_type=pl.Series([one.event_type for one in found], dtype=pl.String),
            player_id=pl.Series([one.player_id for one in found], dtype=pl.String),
            game_id=pl.Series([one.game_id for one in found], dtype=pl.String),
            event_id=pl.Series([one.event_id for one in found], dtype=pl.String),
            timestamp=pl.Series([one.timestamp for one in found], dtype=pl.String),
            ingested=pl.Series([one.ingested_at for one in found], dtype=pl.String),
            data=text_or_null(pl.Series([bytes(one.data) for one in found], dtype=pl.Binary)),
            score=pl.Series(self._vouched_scores(found), dtype=pl.Int64),
        )
        return columns.with_columns(self._parsed).filter(self._sure).select(EVENT_SCHEMA.names())

    def _vouched_scores(self, found: list[_Typed]) -> list[int | None]:
        """Read the score of each event; None where its type has none, or must have one and this cannot vouch for it."""
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
    """Decode each value; None where it does not decode: a tombstone is a TypeError, deep nesting a RecursionError."""
    out: list[_Typed | None] = []
    append = out.append
    for value in values:
        try:
            append(decode(value))
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError):
            append(None)
    return out


def _score_decoder(rule: ScoreRule) -> Callable[[msgspec.Raw], Any]:
    """Make a decoder of one key of `data`; where the key is absent it gives the rule's default, None if it has none."""
    kind = msgspec.defstruct("Score", [("score", int, rule.default)], rename={"score": rule.field}, gc=False)
    return msgspec.json.Decoder(kind).decode


def _time(column: str) -> pl.Expr:
    """Parse RFC 3339 text to UTC microseconds; null where it is not of this lane's form."""
    parsed = pl.col(column).str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return pl.when(pl.col(column).str.contains(_TIME)).then(parsed)


def _parsed() -> list[pl.Expr]:
    """Parse the columns that come as text; null where one is not of this lane's form."""
    unstamped = pl.col("ingested").is_null()
    return [
        pl.col("event_id").str.replace_all("-", "", literal=True).str.decode("hex", strict=False),
        pl.col("event_id").str.contains(event.UUID_PATTERN).alias("event_id_ok"),
        _time("timestamp").alias("event_timestamp"),
        pl.when(unstamped).then("received").otherwise(_time("ingested")).alias("ingested_at"),
    ]


def _sure(scoring: Scoring) -> pl.Expr:
    """Say which rows keep every rule of `pipeline.event` for certain; what cannot be parsed is unsure."""
    text = pl.col("value")
    size = text.str.len_bytes()
    late = pl.col("received") + event.MAX_AHEAD
    return (
        pl.col("event_type").str.contains(event.EVENT_TYPE_PATTERN)
        & pl.col("player_id").str.contains(event.ID_PATTERN)
        & pl.col("game_id").str.contains(event.ID_PATTERN)
        & pl.col("event_id_ok")
        & pl.col("event_timestamp").is_between(event.EARLIEST, late)
        & pl.col("ingested_at").is_not_null()
        & (size <= event.MAX_EVENT_BYTES)
        & pl.col("data").str.starts_with("{")
        & (pl.col("score").is_not_null() | ~pl.col("event_type").is_in(list(scoring)))
        # NUL, control characters and surrogates can only come in as \u escapes; the decoder refuses them bare.
        & ~text.str.contains(r"\u", literal=True)
        & (text.str.count_matches(r"[\[{]") <= event.MAX_NESTING)
        & ~text.str.contains(_EXPONENT)
        & ((size < 300) | ~text.str.contains(_LONG_NUMBER))  # noqa: PLR2004 - no 300 digits in fewer bytes
    ).fill_null(value=False)
