"""For any bytes, any time and any key of a record: decoding returns, and its fate is one and the judge's."""

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contract import event
from pipeline.contract.boards import Expiry
from pipeline.contract.event import RECORD_TIMES, Event, Origin, load_scoring, parse_record, record_id, record_time
from pipeline.contract.offsets import Span
from pipeline.engine.lag import ages
from pipeline.epoch import decode as decoding
from pipeline.epoch.batch import RECORD_COLUMNS, Records
from pipeline.epoch.decode import Decoder
from pipeline.epoch.epoch import Plan, prepare, rehearsed
from pipeline.epoch.layout import LayoutLane
from pipeline.epoch.rejected import BadRatio
from pipeline.epoch.roles import ROLES
from pipeline.epoch.typed import TypedLane
from pipeline.errors import EventError
from pipeline.verify.recount import Names, Recount
from tests.events import BAD_RECORDS, EDGES_OF_TIME, GOOD_BUT_RARE, NO_TIMES, encoded, from_edge, now
from tests.unit.epoch.test_decode import fates, values
from tests.unit.epoch.test_narrowing import panicking

SCORING = load_scoring()
TOPIC = "player.events.raw"
PLAN = Plan(ROLES["all"], Expiry(35, 100), BadRatio(1.0, 1))
NOW = int(datetime.now(UTC).timestamp() * 1000)

Row = tuple[int, bytes | None, bytes | None]
"""The record's own time, its key, its value."""

NEAR = [-(2**63), 2**63 - 1, -(10**14), -1, 0, NOW // 1000, NOW, NOW * 1000, NOW * 1_000_000]
BOUNDS = [RECORD_TIMES[0] - 1, RECORD_TIMES[0], RECORD_TIMES[-1], RECORD_TIMES[-1] + 1]
times = st.sampled_from(NEAR + BOUNDS) | st.integers(-(2**63), 2**63 - 1)
known = st.sampled_from([bad.value for bad in BAD_RECORDS] + [value for _, value in GOOD_BUT_RARE])
timeless = encoded(event_id=None, timestamp=None)
ordinary = st.sampled_from([encoded(), timeless, from_edge(b'{"score":1}'), encoded(ingested_at=now())])
stamped = st.sampled_from(NO_TIMES + EDGES_OF_TIME).flatmap(
    lambda time: st.sampled_from([encoded(ingested_at=time), from_edge(ingested_at=time)])
)
contents = st.none() | st.binary(max_size=80) | values() | known | ordinary | stamped
rows = st.lists(st.tuples(times, st.none() | st.binary(max_size=4), contents), max_size=8)

NESTED = [
    head + opened * depth + closed * depth + tail
    for depth in (31, 499, 500, 501, 900, 1_000, 5_000, 30_000)
    for opened, closed in ((b"[", b"]"), (b'{"a":', b"1}"))
    for head, tail in (
        (encoded()[:-1] + b',"other":', b"}"),
        (b'{"data":', b"," + encoded()[1:]),
        (b'{"player_id":', b"," + encoded()[1:]),
        (b'{"event_type":"login","player_id":"p","game_id":"g","data":{"x":', b"}}"),
    )
]
"""Deep, in an unknown field, in one of two equal keys, in data: where a decoder would run out of stack."""


def records_of(batch: Sequence[Row]) -> Records:
    frame = [(0, offset, *row) for offset, row in enumerate(batch)]
    return Records(pl.DataFrame(frame, schema=RECORD_COLUMNS, orient="row"))


def verdicts(batch: Sequence[Row]) -> dict[int, Event | str]:
    """The judge's verdict by offset: the event, or why it is none."""
    found: dict[int, Event | str] = {}
    for offset, (moment, _, value) in enumerate(batch):
        try:
            found[offset] = parse_record(value, Origin(record_id(TOPIC, 0, offset), record_time(moment)), SCORING)
        except EventError as error:
            found[offset] = str(error)
    return found


def assert_judged(batch: Sequence[Row]) -> None:
    records = records_of(batch)
    decoded = Decoder(TOPIC, SCORING).decode(records)
    expected = verdicts(batch)
    assert fates(decoded) == expected
    assert {one.offset: (one.timestamp, one.key, one.value) for one in decoded.rejected} == {
        offset: batch[offset] for offset, verdict in expected.items() if isinstance(verdict, str)
    }
    assert {one.code for one in decoded.rejected} <= {"invalid"}
    assert (decoded.lane_faults, decoded.faults) == ([], [])
    recount = Recount(TOPIC, SCORING, Names())
    recount.add(records)
    assert set(recount.bad()["offset"]) == {offset for offset, verdict in expected.items() if isinstance(verdict, str)}
    assert len(recount.good()) + len(recount.bad()) == len(batch)
    epoch = prepare((Span(0, 0, len(batch)),), decoded, PLAN)
    assert len(rehearsed(epoch, PLAN).events) == len(decoded.events)
    assert ages(records).oldest in {moment for moment, _, _ in batch if moment in RECORD_TIMES} | {None}


@given(rows)
@settings(max_examples=400, deadline=None)
def test_every_record_has_one_fate_and_it_is_the_judges(batch: list[Row]) -> None:
    assert_judged(batch)


@pytest.mark.parametrize("moment", NEAR + BOUNDS)
def test_a_time_that_is_none_stands_in_for_nothing(moment: int) -> None:
    """An event with a time of its own counts, one without is refused by name: the same at every replay."""
    batch: list[Row] = [(moment, b"k", encoded()), (moment, b"k", timeless), (moment, b"k", from_edge(b'{"score":1}'))]
    assert_judged(batch)
    decoded = Decoder(TOPIC, SCORING).decode(records_of(batch))
    if moment in RECORD_TIMES:
        assert 1 in set(decoded.events["offset"])
    else:
        assert set(decoded.events["offset"]) == {0, 2}
        assert [one.reason for one in decoded.rejected] == [
            "timestamp: required, for the record's own time is out of range"
        ]


def test_an_event_of_a_record_without_time_is_not_before_2000_or_after_9999() -> None:
    for timestamp, good in (("9999-12-30T00:00:00Z", 1), ("9999-12-30T00:00:01Z", 0), ("1999-12-31T23:59:59Z", 0)):
        decoded = Decoder(TOPIC, SCORING).decode(records_of([(-1, None, encoded(timestamp=timestamp))]))
        assert len(decoded.events) == good, timestamp
    own = encoded(timestamp="2026-01-15T10:30:00Z")
    (read,) = Decoder(TOPIC, SCORING).decode(records_of([(-1, None, own)])).events["ingested_at"]
    assert read == datetime(2026, 1, 15, 10, 30, tzinfo=UTC), "its own time stands in for when it came in"


@pytest.mark.parametrize("value", NESTED, ids=lambda value: f"{len(value)} bytes")
def test_what_is_deep_is_judged_and_alike_from_a_deep_stack(value: bytes) -> None:
    assert_judged([(NOW, None, value), (NOW, None, encoded())])

    def deeper(frames: int) -> dict[int, Event | str]:
        return deeper(frames - 1) if frames else verdicts([(NOW, None, value)])

    assert deeper(300) == deeper(0)


@pytest.mark.parametrize("lanes", [["layout"], ["typed"], ["layout", "typed"]], ids="-".join)
@pytest.mark.parametrize("how", ["error", "panic", "astray", "twice", "too many", "nulls", "no events"])
def test_a_lane_that_fails_costs_time_and_no_record(
    how: str, lanes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch: list[Row] = [
        (NOW, b"k", value) for value in [from_edge(b'{"score":1}'), encoded(), b"junk", from_edge(b'{"score":2}')] * 10
    ]
    monkeypatch.setattr(decoding, "_LEAST_CUT", 0)
    for lane in (LayoutLane, TypedLane):
        if lane.__name__.removesuffix("Lane").lower() in lanes:
            monkeypatch.setattr(lane, "read", failing(how, lane.read))
    decoded = Decoder(TOPIC, SCORING).decode(records_of(batch))
    assert fates(decoded) == verdicts(batch)
    assert {fault.stage for fault in decoded.lane_faults} == set(lanes)
    assert decoded.faults == []


def failing(how: str, original: object) -> object:
    def read(self: object, records: pl.DataFrame) -> pl.DataFrame:
        if how == "error":
            raise pl.exceptions.ComputeError("invalid utf8")
        if how == "panic":
            panicking()
        found: pl.DataFrame = original(self, records)  # type: ignore[operator]
        assert len(found), "else there is nothing to spoil"
        return {
            "astray": found.with_columns(pl.col("row") + 1_000_000),
            "twice": pl.concat([found, found[:1]]),
            "too many": pl.concat([found] * 9),
            "nulls": found.with_columns(player_id=pl.lit(None, pl.String)),
            "no events": found.drop("score"),
        }[how]

    return read


def test_a_fault_of_the_judge_costs_that_record(monkeypatch: pytest.MonkeyPatch) -> None:
    original = event.parse_object

    def parse_object(loaded: dict[str, object], *args: object, **options: object) -> object:
        if "fault" in str(loaded.get("player_id")):
            raise ZeroDivisionError("a fault")
        return original(loaded, *args, **options)  # type: ignore[arg-type]

    batch: list[Row] = [(NOW, b"k", encoded(event_id=None, player_id=f"p{n}")) for n in range(30)]
    batch[17] = (NOW, b"k", encoded(event_id=None, player_id="fault"))
    monkeypatch.setattr(event, "parse_object", parse_object)
    decoded = Decoder(TOPIC, SCORING).decode(records_of(batch))
    assert [(one.offset, one.code, one.reason) for one in decoded.rejected] == [
        (17, "internal", "ZeroDivisionError: a fault")
    ]
    assert len(decoded.events) == 29
    assert [(fault.stage, fault.records) for fault in decoded.faults] == [("judge", 1)]
    recount = Recount(TOPIC, SCORING, Names())
    recount.add(records_of(batch))
    assert recount.bad()["offset"].to_list() == [17]


def test_an_event_that_fits_no_column_costs_that_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def score_of(_type: str, data: dict[str, int], _scoring: object) -> int:
        return 2**63 if data["score"] == 7 else data["score"]

    batch: list[Row] = [(NOW, b"k%d" % n, encoded(event_id=None, data={"score": n})) for n in range(20)]
    monkeypatch.setattr(event, "score_of", score_of)
    decoded = Decoder(TOPIC, SCORING).decode(records_of(batch))
    assert [(one.offset, one.key, one.value, one.code) for one in decoded.rejected] == [(7, *batch[7][1:], "internal")]
    assert decoded.events.sort("offset")["score"].to_list() == [n for n in range(20) if n != 7]
    assert [(fault.stage, fault.records) for fault in decoded.faults] == [("judge", 1)]


def test_columns_that_cannot_be_made_are_the_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    def columns_of(*_: object) -> pl.DataFrame:
        raise OverflowError("a time")

    batch: list[Row] = [(NOW, b"k", value) for value in (encoded(), b"junk", encoded())]
    monkeypatch.setattr(decoding, "columns_of", columns_of)
    decoded = Decoder(TOPIC, SCORING).decode(records_of(batch))
    assert fates(decoded) == verdicts(batch)
    assert [fault.stage for fault in decoded.lane_faults] == ["columns"]
