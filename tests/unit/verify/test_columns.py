"""The judge in columns: the plain judge's verdict and texts on any record, and a lie of its own that is found."""

import uuid
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contract.event import Origin, format_timestamp, load_scoring, parse_record, record_id, record_time
from pipeline.epoch.batch import RECORD_COLUMNS
from pipeline.errors import EventError
from pipeline.verify.columns import EVENT_TEXTS, ColumnJudge
from tests.events import BAD_RECORDS, EDGES_OF_TIME, GOOD_BUT_RARE, NO_TIMES, encoded, from_edge, now, with_data

TOPIC = "t"
MOMENT = int(datetime.now(UTC).timestamp() * 1000)


def taken(value: bytes) -> bytes:
    """The same record with a time of the edge's, as all records of the edge have one."""
    return value.replace(b"{", b'{"ingested_at":"2026-01-15T10:30:00.000000Z",', 1)


MANY = [
    *(bad.value for bad in BAD_RECORDS),
    *(value for _, value in GOOD_BUT_RARE),
    *(
        encoded(player_id=f"p{number}", ingested_at=now(), event_type=kind)
        for number in range(20)
        for kind in ("player_score", "login")
    ),
    *(
        bad.value and bad.value.replace(b"{", b'{"ingested_at":"2026-01-15T10:30:00.000000Z",', 1)
        for bad in BAD_RECORDS
    ),
    *(value.replace(b"{", b'{"ingested_at":"2026-01-15T10:30:00.000000Z",', 1) for _, value in GOOD_BUT_RARE),
    encoded(ingested_at=now(), timestamp="2024-02-30T10:30:00.000000Z"),
    encoded(ingested_at=now(), timestamp="2016-12-31T23:59:60.000000Z"),
    encoded(ingested_at="2024-02-30T10:30:00.000000Z"),
    *(make(ingested_at=time) for time in NO_TIMES + EDGES_OF_TIME for make in (encoded, from_edge)),
    encoded(ingested_at=now(), timestamp="2026-01-15T10:30:00.000000Z\n"),
    encoded(ingested_at=now(), player_id="a\n"),
    encoded(ingested_at=now(), game_id="g" * 256),
    encoded(ingested_at=now(), event_id=str(uuid.uuid4()).upper()),
    taken(with_data('{"x":\n[1,\t2],\r"y":"\\\\n\\t"}')),
]


def records(values: list[bytes | None], moment: int = MOMENT) -> pl.DataFrame:
    rows = [(place % 3, place, moment, None, value) for place, value in enumerate(values)]
    return pl.DataFrame(rows, schema=RECORD_COLUMNS, orient="row")


def plainly(frame: pl.DataFrame) -> tuple[dict[tuple[int, int], tuple[Any, ...]], set[tuple[int, int]]]:
    good, bad = {}, set()
    for partition, offset, moment, _, value in frame.iter_rows():
        try:
            event = parse_record(
                value, Origin(record_id(TOPIC, partition, offset), record_time(moment)), load_scoring()
            )
        except EventError:
            bad.add((partition, offset))
        else:
            texts = (event.event_type, event.game_id, event.data.decode())
            good[partition, offset] = (event.player_id, format_timestamp(event.timestamp), event.event_id, *texts)
    return good, bad


@pytest.mark.parametrize("moment", [MOMENT, -1, 2**62, 0])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_its_verdicts_are_the_plain_judges(moment: int, share: float) -> None:
    frame = records(MANY, moment)
    good, bad = plainly(frame)
    judged = ColumnJudge(TOPIC, load_scoring(), 1, share).judge(frame)
    assert judged.disagreed == []
    assert set(judged.bad) == bad
    assert len(judged.bad) == len(bad)
    assert judged.events.schema == EVENT_TEXTS
    found = {
        (partition, offset): (player, at, uuid.UUID(event_id), *rest)
        for partition, offset, player, at, event_id, *rest in judged.events.iter_rows()
    }
    assert found == good


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A record of the edge with some bytes of it in place of others."""
    whole = encoded(ingested_at=now(), player_id=draw(st.text(max_size=4)), data={"score": 1, "x": draw(st.text())})
    start = draw(st.integers(0, len(whole)))
    piece = draw(
        st.one_of(st.binary(max_size=4), st.sampled_from([b"\\", b'"', b"{", b"null", b"1e-20000", b"\\u0000"]))
    )
    return whole[:start] + piece + whole[start + draw(st.integers(0, 3)) :]


@settings(max_examples=300, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.binary(max_size=40), damaged()), max_size=6))
def test_its_verdicts_are_the_plain_judges_whatever_comes(values: list[bytes | None]) -> None:
    frame = records(values)
    good, bad = plainly(frame)
    judged = ColumnJudge(TOPIC, load_scoring(), 1, share=0.0).judge(frame)
    assert set(judged.bad) == bad
    assert {
        (partition, offset): (player, at, uuid.UUID(event_id), *rest)
        for partition, offset, player, at, event_id, *rest in judged.events.iter_rows()
    } == good


def test_records_of_the_edges_own_form_are_vouched_for_in_columns() -> None:
    frame = records([encoded(player_id=f"p{number}", ingested_at=now()) for number in range(50)])
    judge = ColumnJudge(TOPIC, load_scoring(), 1, share=0.1)
    assert len(judge.judge(frame).events) == 50
    assert judge.judged_twice == 5, "only the share was judged plainly"


def test_nothing_is_judged_to_nothing() -> None:
    judged = ColumnJudge(TOPIC, load_scoring(), 1).judge(records([]))
    assert (len(judged.events), judged.bad) == (0, [])


class Liar(ColumnJudge):
    """Vouches for a game that no record names."""

    def _check(self, records: pl.DataFrame, rows: list[int], texts: list[tuple[Any, ...]]) -> tuple[Any, set[int]]:
        vouched, passed_on = super()._check(records, rows, texts)
        return vouched.with_columns(game_id=pl.lit("another")), passed_on


def test_where_the_judges_disagree_it_is_told_and_the_plain_one_is_right() -> None:
    frame = records([encoded(ingested_at=now()) for _ in range(10)])
    judged = Liar(TOPIC, load_scoring(), 1, share=1.0).judge(frame)
    assert len(judged.disagreed) == 10
    assert set(judged.events["game_id"]) == {"game-1"}
