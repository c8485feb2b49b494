"""Records in, a frame of events and a list of rejections out.

Three lanes give one verdict. Records of the edge's own layout are cut in whole columns (`pipeline.layout`); what is
left goes through a typed decoder (`pipeline.typed`). Both only ever *accept*, and only records that they have fully
checked. Whatever they cannot vouch for (a bad record, but also a rare good one: a number of a hundred digits, a missing
event_id) goes to the judge, `event.parse_record`, which decodes with orjson, accepts or gives the reason. So the judge
alone rejects, and a differential test holds the lanes to never accepting anything else than the judge would have.

Why not orjson for all: what it builds of `data` would only be dumped again (ARCHITECTURE.md, "Decode", has the
measurement).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import polars as pl

from pipeline import event
from pipeline.batch import Records
from pipeline.errors import EventError
from pipeline.event import Event, Origin, Scoring
from pipeline.frame import EVENT_SCHEMA, pieces_of, text_or_null
from pipeline.layout import LayoutLane
from pipeline.typed import TypedLane

_SLICE: Final = 20_000
_SLICE_BYTES: Final = 8 << 20
"""Records, and bytes of them, decoded at a time: on the way to columns they take several times the columns' memory."""
_LEAST_CUT: Final = 1_000
"""Records from which cutting whole columns pays; fewer cost less one by one, for each query has its price."""


class Lane(Protocol):
    """A way to read records that are surely events."""

    def read(self, records: pl.DataFrame) -> pl.DataFrame:
        """Return the events (columns of EVENT_SCHEMA) of the records that this lane vouches for; `row` tells which.

        `records`: partition, offset, row, received (Datetime us UTC), value (String, null for what is no text).
        """
        ...


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

    `values` (Binary) are those of all the records, for what is found bad later.
    """

    events: pl.DataFrame
    rejected: list[Rejected]
    values: pl.Series


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
        for start, count in pieces_of(records.frame["value"].bin.size().cast(pl.Int64), _SLICE, _SLICE_BYTES):
            left = columns_of(records.frame[start : start + count], start)
            for lane in self._lanes[len(left) < self._least_cut :]:
                found = lane.read(left)
                events.append(found)
                if len(found) == len(left):
                    break
                left = left.join(found, on="row", how="anti")
            else:
                judged, bad = self._judge(records.frame, left["row"])
                events.append(judged)
                rejected += bad
        return Decoded(pl.concat(events), rejected, records.frame["value"])

    def _judge(self, records: pl.DataFrame, rows: pl.Series) -> tuple[pl.DataFrame, list[Rejected]]:
        """Judge single records in full; `rows` are their places in `records`."""
        accepted: list[dict[str, Any]] = []
        rejected: list[Rejected] = []
        for row, (partition, offset, moment, key, value) in zip(rows, records[rows].iter_rows(), strict=True):
            origin = Origin(
                event.record_id(self._topic, partition, offset),
                datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment),
            )
            try:
                one = event.parse_record(value, origin, self._scoring)
                accepted.append(_row(one, partition, offset) | {"row": row})
            except EventError as error:
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


def columns_of(records: pl.DataFrame, start: int) -> pl.DataFrame:
    """Turn records into the columns that lanes read; the first has the place `start` among all."""
    return records.select(
        pl.int_range(start, start + len(records), dtype=pl.UInt32).alias("row"),
        "partition",
        "offset",
        pl.from_epoch("timestamp", time_unit="ms")
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone("UTC")
        .alias("received"),
        text_or_null(records["value"]),
    )
