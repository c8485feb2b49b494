"""Records in, a frame of events and a list of rejections out.

Two lanes and a judge give one verdict. Records of the edge's own layout are cut in whole columns (`epoch.layout`); what
is left goes through a typed decoder (`epoch.typed`). Both only ever *accept*, and only records that they have fully
checked. Whatever they cannot vouch for (a bad record, but also a rare good one: a number of a hundred digits, a missing
event_id) goes to the judge, `event.parse_record`, which decodes with orjson, accepts or gives the reason. So the judge
alone rejects, and a differential test holds the lanes to never accepting anything else than the judge would have.

A lane that raises, or returns what it was not given, hands its records on as well: slower, and right. A record on which
the judge itself raises is rejected with the code `internal`, and no other with it.

Why not orjson for all: what it builds of `data` would only be dumped again (docs/decisions.md has the measurement).
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import polars as pl

from pipeline.contract import event
from pipeline.contract.event import Event, Origin, Scoring
from pipeline.epoch.batch import Records
from pipeline.epoch.frame import EVENT_SCHEMA, pieces_of, text_or_null
from pipeline.epoch.layout import LayoutLane
from pipeline.epoch.narrowing import Fault, Tally, Unforeseen, attempt
from pipeline.epoch.rejected import Rejected
from pipeline.epoch.typed import TypedLane
from pipeline.errors import EventError

_SLICE: Final = 20_000
_SLICE_BYTES: Final = 8 << 20
"""Records, and bytes of them, decoded at a time: on the way to columns they take several times the columns' memory."""
_LEAST_CUT: Final = 1_000
"""Records from which cutting whole columns pays; fewer cost less one by one, for each query has its price."""


_NEVER_NULL: Final = [name for name in EVENT_SCHEMA if name != "score"]


class Lane(Protocol):
    """A way to read records that are surely events."""

    def read(self, records: pl.DataFrame) -> pl.DataFrame:
        """Return the events (columns of EVENT_SCHEMA) of the records that this lane vouches for; `row` tells which.

        `records`: partition, offset, row, received (Datetime us UTC, null if the record's own time is none), value
        (String, null for what is no text).
        """
        ...


class AstrayError(Exception):
    """A lane returned rows that it was not given, or one twice, or without what every event has."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The events of some records (columns of EVENT_SCHEMA, in no particular order), and the rejected records.

    `records` (timestamp, key, value) are all of them, for what is found bad later. `lane_faults` cost time only,
    `faults` the records that they count.
    """

    events: pl.DataFrame
    rejected: list[Rejected]
    records: pl.DataFrame
    lane_faults: list[Fault]
    faults: list[Fault]


class Decoder:
    """Decodes the records of one topic under one scoring table. Pure: the same records give the same events."""

    def __init__(self, topic: str, scoring: Scoring) -> None:
        self._topic = topic
        self._scoring = scoring
        self._least_cut = _LEAST_CUT
        self._lanes: tuple[Lane, ...] = (LayoutLane(scoring), TypedLane(scoring))

    def decode(self, records: Records) -> Decoded:
        """Decode and judge every record; none is lost and none spoils another."""
        events, rejected = [pl.DataFrame(schema=EVENT_SCHEMA)], list[Rejected]()
        of_lanes, of_judge = list[Fault](), Tally()
        for start, count in pieces_of(records.frame["value"].bin.size().cast(pl.Int64), _SLICE, _SLICE_BYTES):
            part = records.frame[start : start + count]
            columns = attempt(columns_of, part, start)
            if isinstance(columns, Unforeseen):
                of_lanes.append(Fault("columns", columns, 0))
                rows = pl.int_range(start, start + len(part), dtype=pl.UInt32, eager=True)
            else:
                rows = self._through_lanes(columns, events, of_lanes)["row"]
            if len(rows):
                rejected += self._judge(records.frame, rows, events, of_judge)
        own = records.frame.select("timestamp", "key", "value")
        return Decoded(pl.concat(events), rejected, own, of_lanes, of_judge.faults("judge"))

    def _through_lanes(self, left: pl.DataFrame, events: list[pl.DataFrame], faults: list[Fault]) -> pl.DataFrame:
        """Add the events that the lanes find; return what they leave to the judge."""
        for lane in self._lanes[len(left) < self._least_cut :]:
            found = attempt(_vouched, lane, left)
            if isinstance(found, Unforeseen):
                faults.append(Fault(type(lane).__name__.removesuffix("Lane").lower(), found, 0))
                continue
            taken, left = found
            events.append(taken)
            if not len(left):
                break
        return left

    def _judge(self, records: pl.DataFrame, rows: pl.Series, events: list[pl.DataFrame], met: Tally) -> list[Rejected]:
        """Judge single records in full, adding the events; `rows` are their places in `records`."""
        accepted: list[dict[str, Any]] = []
        rejected: list[Rejected] = []
        for row, (partition, offset, moment, key, value) in zip(rows, records[rows].iter_rows(), strict=True):
            try:
                found = attempt(self._judged, row, partition, offset, moment, value)
            except EventError as error:
                rejected.append(Rejected(partition, offset, moment, key, value, str(error), "invalid"))
                continue
            if isinstance(found, Unforeseen):
                met.add(found)
                rejected.append(Rejected(partition, offset, moment, key, value, found.text, "internal"))
            else:
                accepted.append(found)
        built = attempt(_frame_of, accepted)
        if not isinstance(built, Unforeseen):
            events.append(built)
            return rejected
        for one in accepted:
            single = attempt(_frame_of, [one])
            if isinstance(single, Unforeseen):
                met.add(single)
                partition, offset, moment, key, value = records.row(one["row"])
                rejected.append(Rejected(partition, offset, moment, key, value, single.text, "internal"))
            else:
                events.append(single)
        return rejected

    def _judged(self, row: int, partition: int, offset: int, moment: int, value: bytes | None) -> dict[str, Any]:
        """Judge one record; return its event as a row of EVENT_SCHEMA. Raises EventError."""
        origin = Origin(event.record_id(self._topic, partition, offset), event.record_time(moment))
        return _row(event.parse_record(value, origin, self._scoring), partition, offset) | {"row": row}


def _vouched(lane: Lane, records: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the events that a lane vouches for, and the records it leaves. Raises AstrayError."""
    found = lane.read(records)
    if found.schema != EVENT_SCHEMA or any(found[name].null_count() for name in _NEVER_NULL):
        raise AstrayError("what a lane returned are no events")
    if found["row"].equals(records["row"]):
        return found, records.clear()
    left = records.join(found, on="row", how="anti")
    if len(left) + len(found) != len(records):
        raise AstrayError("a lane returned rows that it was not given, or one twice")
    return found, left


def _frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=EVENT_SCHEMA)


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


def columns_of(records: pl.DataFrame, start: int) -> pl.DataFrame:
    """Turn records into the columns that lanes read; the first has the place `start` among all."""
    moment = pl.col("timestamp")
    timed = pl.when(moment.is_between(event.RECORD_TIMES[0], event.RECORD_TIMES[-1])).then(moment)
    return records.select(
        pl.int_range(start, start + len(records), dtype=pl.UInt32).alias("row"),
        "partition",
        "offset",
        pl.from_epoch(timed, time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("received"),
        text_or_null(records["value"]),
    )
