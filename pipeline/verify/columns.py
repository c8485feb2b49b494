"""The judge in columns: the same verdicts as the plain judge, for a tenth of its time, by code that no lane shares.

Each record is loaded whole by orjson, as the plain judge loads it; the rules of its texts are then checked in columns.
It vouches for what it has fully checked and leaves all else to the plain judge, which alone refuses. A random share of
what it vouches for is judged by both, and if they disagree that is a difference of its own.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import orjson
import polars as pl

from pipeline.contract.event import (
    EARLIEST,
    EVENT_TYPE_PATTERN,
    ID_PATTERN,
    LATEST,
    MAX_AHEAD,
    MAX_EVENT_BYTES,
    MAX_NESTING,
    POLARS_TIMESTAMP,
    RECORD_TIMES,
    UUID_PATTERN,
    Origin,
    Scoring,
    format_timestamp,
    numbers_are_odd,
    parse_record,
    record_id,
    record_time,
    score_of,
)
from pipeline.epoch.narrowing import Unforeseen, attempt
from pipeline.errors import EventError

SHARE: Final = 0.02
"""How much of what is vouched for is judged by the plain judge too."""

_EARLIEST_MICROSECONDS: Final = int(EARLIEST.timestamp()) * 1_000_000
_LATEST_MICROSECONDS: Final = int(LATEST.timestamp()) * 1_000_000
_AHEAD_MICROSECONDS: Final = int(MAX_AHEAD.total_seconds()) * 1_000_000
_NUL: Final = b"\\u0000"
# Times as the edge writes them; hours, minutes and seconds are bounded here, days by what reads them.
_EDGE_TIME: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z$"  # in the form of the contract
)

EVENT_TEXTS: Final = pl.Schema(
    {
        "partition": pl.Int32,
        "offset": pl.Int64,
        "player_id": pl.String,
        "event_timestamp": pl.String,
        "event_id": pl.String,
        "event_type": pl.String,
        "game_id": pl.String,
        "data": pl.String,
    }
)
"""An event as its record spells it: times and ids are texts, which PostgreSQL reads."""


class _Texts(msgspec.Struct):
    """What a record of the edge has, each a text; and the bytes of `data`. It must be JSON, which orjson tells."""

    event_type: str
    player_id: str
    game_id: str
    event_id: str
    timestamp: str
    ingested_at: str
    data: msgspec.Raw


_cut: Final = msgspec.json.Decoder(_Texts).decode


@dataclass(frozen=True, slots=True)
class Judged:
    """The records that are events (EVENT_TEXTS), the places of those that are not, and where the judges disagree."""

    events: pl.DataFrame
    bad: list[tuple[int, int]]
    disagreed: list[tuple[int, int]] = field(default_factory=list)


class ColumnJudge:
    """Judges records. `seed` chooses the share that the plain judge sees too."""

    def __init__(self, topic: str, scoring: Scoring, seed: int, share: float = SHARE) -> None:
        self._share = share
        self._topic = topic
        self._scoring = scoring
        self._chance = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self.judged_twice = 0

    def judge(self, records: pl.DataFrame) -> Judged:
        """Judge records (RECORD_COLUMNS)."""
        rows, loaded = self._load(records)
        vouched, passed_on = self._check(records, rows, loaded)
        plain = set(range(len(records))) - set(rows) | passed_on
        slow, bad = self._plainly(records, sorted(plain))
        disagreed, kept = self._again(records, vouched)
        events = pl.concat([kept.drop("row"), slow]) if len(slow) else kept.drop("row")
        again, again_bad = self._plainly(records, [row for row, _, _ in disagreed])
        return Judged(
            pl.concat([events, again]) if len(again) else events,
            bad + again_bad,
            [(partition, offset) for _, partition, offset in disagreed],
        )

    def _load(self, records: pl.DataFrame) -> tuple[list[int], list[tuple[Any, ...]]]:
        """Load what has every field and sound `data`; returns the rows and their texts."""
        loads, cut, scoring = orjson.loads, _cut, self._scoring
        rows: list[int] = []
        texts: list[tuple[Any, ...]] = []
        for row, raw in enumerate(records["value"]):
            if raw is None or len(raw) > MAX_EVENT_BYTES or raw.find(_NUL) >= 0:
                continue
            if raw.count(b"{") + raw.count(b"[") > MAX_NESTING:  # so it cannot be deeper
                continue
            try:
                found = cut(raw)
                data = loads(raw)["data"]
                sent = bytes(found.data)
                if type(data) is not dict or numbers_are_odd(sent):
                    continue
                if found.event_type in scoring:
                    score_of(found.event_type, data, scoring)
                text = sent.decode()
            except (ValueError, TypeError, EventError, msgspec.MsgspecError):
                continue
            rows.append(row)
            texts.append(
                (
                    found.event_type,
                    found.player_id,
                    found.game_id,
                    found.event_id,
                    found.timestamp,
                    found.ingested_at,
                    text,
                )
            )
        return rows, texts

    def _check(self, records: pl.DataFrame, rows: list[int], texts: list[tuple[Any, ...]]) -> tuple[Any, set[int]]:
        """Check the rules of texts in columns; returns the frame of what holds, and the rows of what may not."""
        names = ("event_type", "player_id", "game_id", "event_id", "event_timestamp", "ingested_at", "data")
        columns = zip(*texts, strict=True) if texts else [() for _ in names]
        frame = pl.DataFrame(
            {name: pl.Series(column, dtype=pl.String) for name, column in zip(names, columns, strict=True)}
        )
        place = records[pl.Series(rows, dtype=pl.UInt32)] if rows else records.clear()
        frame = frame.with_columns(
            row=pl.Series(rows, dtype=pl.UInt32),
            partition=place["partition"],
            offset=place["offset"],
            moment=place["timestamp"],
        )
        at, taken = _time("event_timestamp"), _time("ingested_at")
        sound = (
            _of_pattern(frame, "event_type", EVENT_TYPE_PATTERN)
            & _of_pattern(frame, "player_id", ID_PATTERN)
            & _of_pattern(frame, "game_id", ID_PATTERN)
            & pl.col("event_id").str.contains(UUID_PATTERN)
            & pl.col("moment").is_between(RECORD_TIMES[0], RECORD_TIMES[-1])
            & (at >= _EARLIEST_MICROSECONDS)
            & (at <= pl.col("moment") * 1000 + _AHEAD_MICROSECONDS)
            & taken.is_between(_EARLIEST_MICROSECONDS, _LATEST_MICROSECONDS)
        )
        marked = frame.with_columns(sound=sound.fill_null(value=False))
        passed_on = set(marked.filter(~pl.col("sound"))["row"].to_list())
        return marked.filter("sound").select("row", *EVENT_TEXTS), passed_on

    def _plainly(self, records: pl.DataFrame, rows: Iterable[int]) -> tuple[pl.DataFrame, list[tuple[int, int]]]:
        """Let the plain judge have its say."""
        good: list[tuple[Any, ...]] = []
        bad: list[tuple[int, int]] = []
        for row in rows:
            partition, offset, moment, _, value = records.row(row)
            found = self._verdict(partition, offset, moment, value)
            if found is None:
                bad.append((partition, offset))
            else:
                good.append((partition, offset, *found))
        return pl.DataFrame(good, schema=EVENT_TEXTS, orient="row"), bad

    def _verdict(self, partition: int, offset: int, moment: int, value: bytes | None) -> tuple[str, ...] | None:
        origin = Origin(record_id(self._topic, partition, offset), record_time(moment))
        try:
            event = attempt(parse_record, value, origin, self._scoring)
        except EventError:
            return None
        if isinstance(event, Unforeseen):  # what the judge raises, it raised in the consumer
            return None
        return (
            event.player_id,
            format_timestamp(event.timestamp),
            str(event.event_id),
            event.event_type,
            event.game_id,
            event.data.decode(),
        )

    def _again(self, records: pl.DataFrame, vouched: pl.DataFrame) -> tuple[list[tuple[int, int, int]], pl.DataFrame]:
        """Judge a random share twice; returns the places where the judges disagree, and the frame without them."""
        disagreed: list[tuple[int, int, int]] = []
        number = round(len(vouched) * self._share) or min(1, len(vouched))
        for place in self._chance.sample(range(len(vouched)), number):
            row, partition, offset, *texts = vouched.row(place)
            _, _, moment, _, value = records.row(row)
            if self._verdict(partition, offset, moment, value) != (*texts[:2], texts[2].lower(), *texts[3:]):
                disagreed.append((row, partition, offset))
        self.judged_twice += number
        if not disagreed:
            return [], vouched
        rows = pl.Series([row for row, _, _ in disagreed], dtype=pl.UInt32)
        return disagreed, vouched.filter(~pl.col("row").is_in(rows.implode()))


def _of_pattern(frame: pl.DataFrame, name: str, pattern: str) -> pl.Expr:
    """Whether a text is of a pattern; asked of each different text once."""
    wrong = frame[name].unique().to_frame().filter(~pl.col(name).str.contains(pattern))[name]
    return ~pl.col(name).is_in(wrong.implode()) if len(wrong) else pl.lit(value=True)


def _time(name: str) -> pl.Expr:
    """Read a time as the edge writes it, in microseconds since 1970; null if it is written otherwise."""
    text = pl.when(pl.col(name).str.contains(_EDGE_TIME)).then(pl.col(name))
    return text.str.to_datetime(POLARS_TIMESTAMP, time_unit="us", strict=False).cast(pl.Int64)
