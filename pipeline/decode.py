"""Records in, a frame of events and a list of rejections out.

Two lanes give one verdict. The fast lane decodes a record with a typed msgspec decoder and checks the rules of
`pipeline.event` on whole columns; it only ever *accepts*, and only records that it has fully checked. Whatever it
cannot vouch for (a bad record, but also a rare good one: an escape, an exponent, a missing event_id) goes to the judge,
`event.parse_record`, which decodes with orjson, accepts or gives the reason. So the judge alone rejects, and a
differential test holds the fast lane to never accepting anything else than the judge would have.

Why not orjson for all: with `data` kept as its raw bytes nothing is built only to be dumped again (ARCHITECTURE.md,
"Decode", has the measurement).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
import polars as pl

from pipeline import event
from pipeline.batch import Records
from pipeline.errors import EventError
from pipeline.event import Event, Origin, ScoreRule, Scoring
from pipeline.frame import EVENT_SCHEMA

# What the fast lane takes of a time: the contract's form less leap seconds and lower-case letters.
_FAST_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"
# A number with an exponent outside of a string, or one so long that it may not be finite.
_EXPONENT: Final = r"[:\[,]\s*-?[0-9.]+[eE]"
_LONG_NUMBER: Final = r"[0-9]{300}"
# The edge's own layout: these keys in this order, no space, times of 27 characters.
_LAYOUT: Final = len(
    '{"event_type":"","player_id":"","game_id":"","event_id":"","timestamp":"","ingested_at":"","data":}'
)
_TEXTS: Final = ("event_type", "player_id", "game_id", "event_id", "timestamp", "ingested", "data")
_EDGE_TIME: Final = "%Y-%m-%dT%H:%M:%S.%6fZ"
_EDGE_TIME_SIZE: Final = len("2026-01-15T10:30:00.000000Z")
_SLICE: Final = 20_000
"""Records decoded at a time: what they become on the way to columns takes three times the memory of the columns."""


T = TypeVar("T")


class _Typed(msgspec.Struct, gc=False):
    """An event as the fast lane sees it; unknown fields are skipped, `data` stays raw."""

    event_type: str
    player_id: str
    game_id: str
    event_id: str
    timestamp: str
    ingested_at: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


@dataclass(frozen=True, slots=True)
class _Lane:
    """The expressions of one way to check columns: what parses them, and what says which rows are sure."""

    parsed: list[pl.Expr]
    sure: pl.Expr


@dataclass(frozen=True, slots=True)
class Rejected:
    """One record that is not an event, with what a person needs to mend it and a redrive to send it again."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The events of some records (columns of EVENT_SCHEMA, in no particular order), and the rejected records.

    `values` are those of all the records, for what is found bad later: a column of them would be sorted with the rest.
    """

    events: pl.DataFrame
    rejected: list[Rejected]
    values: list[bytes | None]


class Decoder:
    """Decodes the records of one topic under one scoring table. Pure: the same records give the same events."""

    def __init__(self, topic: str, scoring: Scoring) -> None:
        self._topic = topic
        self._scoring = scoring
        self._typed = msgspec.json.Decoder(_Typed).decode
        self._scores = {kind: _score_decoder(rule) for kind, rule in scoring.items()}
        # Built once: in a small epoch, building them took as long as running them.
        self._has_the_edges_layout = _in_the_edges_layout()
        self._any = _Lane(_parsed(_time), _sure(scoring, pl.col("raw"), nested=0))
        self._edges = _Lane(_parsed(_edge_time), _sure(scoring, pl.col("data"), nested=1))

    def decode(self, records: Records) -> Decoded:
        """Decode and judge every record; none is lost and none spoils another."""
        events, rejected = [pl.DataFrame(schema=EVENT_SCHEMA)], list[Rejected]()
        for start in range(0, len(records), _SLICE):
            found, bad = self._decode(records[start : start + _SLICE], start)
            events.append(found)
            rejected += bad
        return Decoded(pl.concat(events), rejected, records.values)

    def _decode(self, records: Records, start: int) -> tuple[pl.DataFrame, list[Rejected]]:
        """Decode a slice whose first record has the place `start` among all."""
        typed = _each(self._typed, records.values)
        vouched = self._columns(records, typed, start)
        fast = vouched.select(EVENT_SCHEMA.names())
        if len(fast) == len(records) and vouched["sure"].all():
            return fast, []
        slow = [row - start for row in vouched.filter(~pl.col("sure"))["row"]]
        slow += [place for place, found in enumerate(typed) if found is None]
        judged, rejected = self._judge(records, slow, start)
        return pl.concat([fast.filter(vouched["sure"]), judged]), rejected

    # -- the fast lane ---------------------------------------------------------------------------------------------

    def _columns(self, records: Records, typed: list[_Typed | None], start: int) -> pl.DataFrame:
        """Build the columns of the typed records, and `sure`: all is checked."""
        rows = [row for row, one in enumerate(typed) if one is not None]
        found = [one for one in typed if one is not None]
        whole = len(rows) == len(typed)
        values = _pick(records.values, rows, whole)
        frame = pl.DataFrame(
            {
                "row": pl.Series(range(len(typed)) if whole else rows, dtype=pl.UInt32) + start,
                "partition": pl.Series(_pick(records.partitions, rows, whole), dtype=pl.Int32),
                "offset": pl.Series(_pick(records.offsets, rows, whole), dtype=pl.Int64),
                "received": pl.Series(_pick(records.timestamps, rows, whole), dtype=pl.Int64),
                "event_type": pl.Series([one.event_type for one in found], dtype=pl.String),
                "player_id": pl.Series([one.player_id for one in found], dtype=pl.String),
                "game_id": pl.Series([one.game_id for one in found], dtype=pl.String),
                "event_id": pl.Series([one.event_id for one in found], dtype=pl.String),
                "timestamp": pl.Series([one.timestamp for one in found], dtype=pl.String),
                "ingested": pl.Series([one.ingested_at for one in found], dtype=pl.String),
                "data": _text([bytes(one.data) for one in found]),
                "score": pl.Series(self._vouched_scores(found), dtype=pl.Int64),
                "size": pl.Series([len(value or b"") for value in values], dtype=pl.UInt32),
            }
        )
        if frame.select(self._has_the_edges_layout).item():
            return frame.with_columns(self._edges.parsed).with_columns(sure=self._edges.sure)
        return frame.with_columns(self._any.parsed, raw=_text(values)).with_columns(sure=self._any.sure)

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

    # -- the judge -------------------------------------------------------------------------------------------------

    def _judge(self, records: Records, rows: list[int], start: int) -> tuple[pl.DataFrame, list[Rejected]]:
        """Judge single records in full; `rows` are their places in `records`, which begin at `start` among all."""
        accepted: list[dict[str, Any]] = []
        rejected: list[Rejected] = []
        for row in rows:
            value, offset, partition = records.values[row], records.offsets[row], records.partitions[row]
            origin = Origin(
                event.record_id(self._topic, partition, offset),
                datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=records.timestamps[row]),
            )
            try:
                one = event.parse_record(value, origin, self._scoring)
                accepted.append(_row(one, partition, offset) | {"row": start + row})
            except EventError as error:
                key, moment = records.keys[row], records.timestamps[row]
                rejected.append(Rejected(partition, offset, moment, key, value, str(error)))
        return pl.DataFrame(accepted, schema=EVENT_SCHEMA), rejected


def _row(one: Event, partition: int, offset: int) -> dict[str, Any]:
    return {
        "partition": partition,
        "offset": offset,
        "event_id": one.event_id.bytes,
        "event_type": one.event_type,
        "player_id": one.player_id,
        "game_id": one.game_id,
        "event_timestamp": one.timestamp,
        "ingested_at": one.ingested_at,
        "data": one.data.decode(),
        "score": one.score,
    }


def _each(decode: Callable[[Any], _Typed], values: list[bytes | None]) -> list[_Typed | None]:
    """Decode each value; None where it does not decode: a tombstone is a TypeError, deep nesting a RecursionError."""
    out: list[_Typed | None] = []
    append = out.append
    for value in values:
        try:
            append(decode(value))
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError):
            append(None)
    return out


def _text(values: Sequence[bytes | None]) -> pl.Series:
    """Make a column of text; null where the bytes are not UTF-8 (polars refuses the whole column for one of them)."""
    try:
        return pl.Series(values, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series([_decoded(value) for value in values], dtype=pl.String)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _score_decoder(rule: ScoreRule) -> Callable[[msgspec.Raw], Any]:
    """Make a decoder of one key of `data`; where the key is absent it gives the rule's default, None if it has none."""
    kind = msgspec.defstruct("Score", [("score", int, rule.default)], rename={"score": rule.field}, gc=False)
    return msgspec.json.Decoder(kind).decode


def _pick(column: list[T], rows: list[int], whole: bool) -> list[T]:  # noqa: FBT001 - a pair of private callers
    return column if whole else [column[row] for row in rows]


def _in_the_edges_layout() -> pl.Expr:
    """Tell whether every row is what the edge writes: then only `data` can hold what the columns do not show.

    A record of all the known keys cannot be shorter than they and their values are, and holds nothing else where it is
    no longer: no other key, no space, no escape outside of `data`. One without `data` would have room for another key;
    what stands for it then, `{}`, is therefore not taken, nor where it was sent.
    """
    sizes = {name: pl.col(name).str.len_bytes() for name in _TEXTS}
    return (
        (pl.col("size") == pl.sum_horizontal(*sizes.values(), ignore_nulls=False) + _LAYOUT)
        & (sizes["timestamp"] == _EDGE_TIME_SIZE)
        & (sizes["ingested"] == _EDGE_TIME_SIZE)
        & (sizes["data"] > len("{}"))
    ).all(ignore_nulls=False).fill_null(value=False)  # fmt: skip


def _time(column: str) -> pl.Expr:
    """Parse RFC 3339 text to UTC microseconds; null where it is not of the fast lane's form."""
    parsed = pl.col(column).str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return pl.when(pl.col(column).str.contains(_FAST_TIME)).then(parsed)


def _edge_time(column: str) -> pl.Expr:
    """Parse the times that the edge writes, in a third of the time; null where one has another form."""
    parsed = pl.col(column).str.to_datetime(_EDGE_TIME, time_unit="us", strict=False).dt.replace_time_zone("UTC")
    return pl.when(pl.col(column).str.contains(_FAST_TIME)).then(parsed)


def _parsed(time: Callable[[str], pl.Expr]) -> list[pl.Expr]:
    """Parse the columns that come as text or as numbers; null where one is not of the fast lane's form."""
    received = pl.from_epoch("received", time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return [
        pl.col("event_id").str.replace_all("-", "", literal=True).str.decode("hex", strict=False),
        pl.col("event_id").str.contains(event.UUID_PATTERN).alias("event_id_ok"),
        time("timestamp").alias("event_timestamp"),
        pl.when(pl.col("ingested").is_null()).then(received).otherwise(time("ingested")).alias("ingested_at"),
        received,
    ]


def _sure(scoring: Scoring, text: pl.Expr, nested: int) -> pl.Expr:
    """Say which rows keep every rule of `pipeline.event` for certain; what cannot be parsed is unsure.

    `text` is the part that may hold what the columns do not show, in so many brackets.
    """
    size = pl.col("size")
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
        & (text.str.count_matches(r"[\[{]") <= event.MAX_NESTING - nested)
        & ~text.str.contains(_EXPONENT)
        & ((size < 300) | ~text.str.contains(_LONG_NUMBER))  # noqa: PLR2004 - no 300 digits in fewer bytes
    ).fill_null(value=False)
