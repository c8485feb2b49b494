"""The recount: every record of the topic judged once more, by the plain judge and not by the consumer's fast code.

What it keeps of an event is numbers only, some 80 bytes: names are replaced by codes, so that millions of events fit
in memory and identities are still compared exactly and can be named; of `data` a fingerprint stays.
"""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson
import polars as pl

from pipeline.contract.boards import DAILY, WEEKLY, Period
from pipeline.contract.event import Event, Origin, Scoring, format_timestamp, parse_record, record_id, record_time
from pipeline.contract.offsets import Watermark
from pipeline.epoch.batch import Records
from pipeline.epoch.narrowing import Unforeseen, attempt
from pipeline.errors import EventError
from pipeline.sinks.letters import FIRST_TIME, LAST_TIME
from pipeline.verify.fingerprint import fingerprint

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_ID: Final = uuid.UUID(int=0)  # told from an event's own by identity, not by value
DAY_MICROSECONDS: Final = 86_400_000_000

_Columns = dict[str, pl.DataType | type[pl.DataType]]
_IDENTITY_COLUMNS: Final[_Columns] = {
    "player": pl.UInt32,
    "at": pl.Int64,  # microseconds since 1970
    "event_id": pl.UInt128,
}
_CONTENT_COLUMNS: Final[_Columns] = {
    "type": pl.UInt32,
    "game": pl.UInt32,
    "score": pl.Int64,
    "data": pl.Int64,  # a fingerprint
}
_ORIGIN_COLUMNS: Final[_Columns] = {
    "taken": pl.Int64,  # ingested_at, in microseconds since 1970: it tells which of several copies made a row
}
IDENTITY: Final = list(_IDENTITY_COLUMNS)
CONTENT: Final = list(_CONTENT_COLUMNS)
ORIGIN: Final = list(_ORIGIN_COLUMNS)
_SUMMED: Final = ["type", "game", "score"]
"""What of the content statistics and boards depend on."""
LEDGER_SCHEMA: Final = pl.Schema({**_IDENTITY_COLUMNS, **_CONTENT_COLUMNS, **_ORIGIN_COLUMNS})
_PLACE_COLUMNS: Final[_Columns] = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "moment": pl.Int64,  # the record's time: a topic that is created again gives its offsets out anew
}
PLACE: Final = list(_PLACE_COLUMNS)
PLACE_SCHEMA: Final = pl.Schema(_PLACE_COLUMNS)
RECORD_SCHEMA: Final = pl.Schema({**_PLACE_COLUMNS, **_IDENTITY_COLUMNS, **_CONTENT_COLUMNS, **_ORIGIN_COLUMNS})


class Names:
    """Codes for names, and back."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._names: list[str] = []

    def code(self, name: str) -> int:
        """Return the name's code, a new one for a new name."""
        code = self._codes.setdefault(name, len(self._names))
        if code == len(self._names):
            self._names.append(name)
        return code

    def name(self, code: int) -> str:
        """Return the name of a code."""
        return self._names[code]


def moment_of(microseconds: int) -> datetime:
    """Turn microseconds since 1970 into a time."""
    return EPOCH + microseconds * _MICROSECOND


def identity_name(names: Names, row: dict[str, int]) -> str:
    """Name an identity for a person: player, time, event_id."""
    digits = f"{row['event_id']:032x}"
    event_id = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return f"player {names.name(row['player'])!r} at {format_timestamp(moment_of(row['at']))} event_id {event_id}"


@dataclass(slots=True)
class Recount:
    """Judges records as they are read; `good` (RECORD_SCHEMA) and `bad` (PLACE_SCHEMA) are what it found.

    `players`: whose records alone are judged; None: all are.
    """

    topic: str
    scoring: Scoring
    names: Names
    players: frozenset[str] | None = None
    _good: list[pl.DataFrame] = field(default_factory=list)
    _bad: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, records: Records) -> None:
        """Judge records."""
        rows = []
        for partition, offset, moment, _, value in records.frame.iter_rows():
            if self.players is not None and not self._concerns(value, self.players):
                continue
            try:
                found = attempt(self._judged, partition, offset, moment, value)
            except EventError:
                found = None
            if found is None or isinstance(found, Unforeseen):  # what the judge raises, it raised in the consumer
                self._bad.append((partition, offset, _kept_time(moment)))
            else:
                rows.append(found)
        if rows:
            self._good.append(pl.DataFrame(rows, schema=RECORD_SCHEMA, orient="row"))

    @staticmethod
    def _concerns(value: bytes | None, players: frozenset[str]) -> bool:
        """Whether a record is of one of these players, if it is an event at all."""
        try:
            loaded = orjson.loads(value or b"")
            return isinstance(loaded, dict) and loaded.get("player_id") in players
        except (orjson.JSONDecodeError, TypeError):
            return False

    def _judged(self, partition: int, offset: int, moment: int, value: bytes | None) -> tuple[int | None, ...]:
        """Return the row of RECORD_SCHEMA of one record. Raises EventError."""
        event = parse_record(value, Origin(_NO_ID, record_time(moment)), self.scoring)
        event_id = event.event_id
        if event_id is _NO_ID:  # rare, and hashing an id for every record would be a sixth of all the work
            event_id = record_id(self.topic, partition, offset)
        return (partition, offset, _kept_time(moment), *self._numbers(event, event_id))

    def _numbers(self, event: Event, event_id: uuid.UUID) -> tuple[int | None, ...]:
        code = self.names.code
        at = (event.timestamp - EPOCH) // _MICROSECOND
        player, kind, game = code(event.player_id), code(event.event_type), code(event.game_id)
        taken = (event.ingested_at - EPOCH) // _MICROSECOND
        return (player, at, event_id.int, kind, game, event.score, fingerprint(event.data.decode()), taken)

    def good(self) -> pl.DataFrame:
        """Return the records that are events."""
        return pl.concat(self._good) if self._good else RECORD_SCHEMA.to_frame()

    def bad(self) -> pl.DataFrame:
        """Return the places of the records that are not."""
        return pl.DataFrame(self._bad, schema=PLACE_SCHEMA, orient="row")


def _kept_time(milliseconds: int) -> int:
    """Return a record's time as its dead letter has it."""
    return min(max(milliseconds, FIRST_TIME), LAST_TIME)


@dataclass(frozen=True, slots=True)
class Shares:
    """How many identities of a partition a group must and may have admitted.

    They are the same number unless an identity came in over two partitions, when either may have been the first.
    """

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Admissible:
    """What a group must have admitted: each identity once (RECORD_SCHEMA), and how many by partition.

    `copies` are the events again and, of an identity that came over several partitions, the first of each: any of them
    may have been read first. `ambiguous` are players whose sums depend on which it was.
    """

    events: pl.DataFrame
    copies: pl.DataFrame
    shares: dict[int, Shares]
    ambiguous: frozenset[int]


def within(frame: pl.DataFrame, marks: dict[int, Watermark]) -> pl.DataFrame:
    """Keep the rows whose place a group has passed."""
    bounds = pl.DataFrame(
        [(mark.partition, mark.first_offset, mark.next_offset) for mark in marks.values()],
        schema={"partition": pl.Int32, "first": pl.Int64, "next": pl.Int64},
        orient="row",
    )
    passed = frame.join(bounds, on="partition", how="inner")
    return passed.filter((pl.col("offset") >= pl.col("first")) & (pl.col("offset") < pl.col("next"))).drop(
        "first", "next"
    )


def admissible(good: pl.DataFrame) -> Admissible:
    """Find what must have been admitted of the valid records, none of which was dead-lettered."""
    ordered = good.sort(PLACE)
    by_partition = ordered.unique(["partition", *IDENTITY], keep="first", maintain_order=True)
    events = by_partition.unique(IDENTITY, keep="first", maintain_order=True)
    if len(events) == len(by_partition):
        counted = dict(events.group_by("partition").len().iter_rows())
        return Admissible(events, events, {p: Shares(n, n) for p, n in counted.items()}, frozenset())
    copies = by_partition.group_by(IDENTITY).agg(
        partitions=pl.len(), contents=pl.struct(_SUMMED).n_unique(), partition=pl.col("partition")
    )
    most = dict(by_partition.group_by("partition").len().iter_rows())
    own = copies.filter(pl.col("partitions") == 1).explode("partition")
    least = dict(own.group_by("partition").len().iter_rows())
    ambiguous = copies.filter(pl.col("contents") > 1)["player"].unique()
    return Admissible(
        events, by_partition, {p: Shares(least.get(p, 0), n) for p, n in most.items()}, frozenset(ambiguous)
    )


# -- sums ----------------------------------------------------------------------------------------------------------


def counts_of(events: pl.DataFrame) -> pl.DataFrame:
    """Count events per player and type: player, type, events, last_event (microseconds)."""
    return events.group_by("player", "type").agg(events=pl.len().cast(pl.Int64), last_event=pl.col("at").max())


def totals_of(events: pl.DataFrame) -> pl.DataFrame:
    """Add up scores: game, player, score (text of the exact sum)."""
    return _sums(events, ["game", "player"])


def days_of(events: pl.DataFrame) -> pl.DataFrame:
    """Add up scores per day: game, period (its label), player, score."""
    return _sums(_dated(events, DAILY), ["game", "period", "player"])


def weeks_of(events: pl.DataFrame) -> pl.DataFrame:
    """Add up scores per ISO week: game, period (its label), player, score."""
    return _sums(_dated(events, WEEKLY), ["game", "period", "player"])


def _dated(events: pl.DataFrame, period: Period) -> pl.DataFrame:
    day = (pl.col("at") // DAY_MICROSECONDS).cast(pl.Int32).cast(pl.Date)
    return events.with_columns(period=period.labels(day))


def _sums(events: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    scored = events.filter(pl.col("score").is_not_null())
    return scored.group_by(keys).agg(score=pl.col("score").cast(pl.Int128).sum().cast(pl.String))
