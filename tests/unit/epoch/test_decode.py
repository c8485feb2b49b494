"""The vectorized decoder gives the judge's verdicts and the judge's values, record by record."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.api.events.short_cut import ShortCut
from pipeline.api.events.stamps import Stamps
from pipeline.contract.event import EARLIEST, Event, Origin, Scoring, load_scoring, parse_record, record_id
from pipeline.epoch.batch import Records
from pipeline.epoch.decode import Decoded, Decoder, Lane, columns_of
from pipeline.epoch.frame import EVENT_SCHEMA
from pipeline.epoch.layout import LayoutLane
from pipeline.epoch.typed import TypedLane
from pipeline.errors import EventError
from tests.events import BAD_RECORDS, EDGES_OF_TIME, GOOD_BUT_RARE, NO_TIMES, encoded, from_edge, records_of, with_data

SCORING = load_scoring()
TOPIC = "player.events.raw"
RECEIVED = datetime.now(UTC).replace(microsecond=0)


class EveryLane(Decoder):
    """Goes through every lane however few the records are."""

    def __init__(self, topic: str, scoring: Scoring) -> None:
        super().__init__(topic, scoring)
        self._least_cut = 0


def received_at(moment: datetime, values: Sequence[bytes | None]) -> Records:
    milliseconds = int(moment.timestamp() * 1000)
    return records_of((0, offset, milliseconds, value) for offset, value in enumerate(values))


def decode(
    values: Sequence[bytes | None], received: datetime = RECEIVED, decoder: type[Decoder] = EveryLane
) -> Decoded:
    return decoder(TOPIC, SCORING).decode(received_at(received, values))


def taken_by(lane: Lane, values: Sequence[bytes | None]) -> list[int]:
    return sorted(lane.read(columns_of(received_at(RECEIVED, values).frame, start=0))["row"])


def judge(values: Sequence[bytes | None], received: datetime = RECEIVED) -> dict[int, Event | str]:
    verdicts: dict[int, Event | str] = {}
    for offset, value in enumerate(values):
        try:
            verdicts[offset] = parse_record(value, Origin(record_id(TOPIC, 0, offset), received), SCORING)
        except EventError as error:
            verdicts[offset] = str(error)
    return verdicts


def fates(decoded: Decoded) -> dict[int, Event | str]:
    """Return what became of each record, by offset: the event, or why it is none."""
    found: dict[int, Event | str] = {one.offset: one.reason for one in decoded.rejected}
    assert len(found) == len(decoded.rejected)
    for row in decoded.events.iter_rows(named=True):
        assert row["offset"] not in found, "one fate"
        found[row["offset"]] = Event(
            uuid.UUID(bytes=row["event_id"]),
            row["event_type"],
            row["player_id"],
            row["game_id"],
            row["event_timestamp"],
            row["ingested_at"],
            row["data"].encode(),
            row["score"],
        )
    return found


def assert_agrees(values: Sequence[bytes | None], received: datetime = RECEIVED) -> None:
    expected = judge(values, received)
    for decoder in (EveryLane, Decoder):
        decoded = decode(values, received, decoder)
        assert fates(decoded) == expected
        assert len(decoded.events) + len(decoded.rejected) == len(values)


def test_it_agrees_on_every_bad_and_every_rare_record_among_ordinary_neighbours() -> None:
    values: list[bytes | None] = []
    for value in [bad.value for bad in BAD_RECORDS] + [value for _, value in GOOD_BUT_RARE]:
        values += [encoded(), value]
    assert_agrees(values)


def test_an_ordinary_record_needs_no_judge() -> None:
    ordinary: list[bytes | None] = [
        encoded(),
        encoded(timestamp="2026-01-15T10:30:00Z", ingested_at="2026-01-15T10:30:00.123456Z"),
        with_data('{"a":{"b":[1,2.5,"x",null,true]},"c":"d"}'),
    ]
    assert taken_by(TypedLane(SCORING), [*ordinary, with_data('{"x":1e400}'), None]) == [0, 1, 2]


def test_nothing_decodes_to_an_empty_frame() -> None:
    decoded = decode([])
    assert len(decoded.events) == 0
    assert decoded.rejected == []


def test_a_late_record_is_judged_by_its_own_time_so_that_a_replay_agrees() -> None:
    value = encoded(timestamp="2026-01-15T10:30:00Z")
    assert len(decode([value], datetime(2026, 1, 14, 9, 0, tzinfo=UTC)).rejected) == 1
    assert len(decode([value], datetime(2026, 1, 14, 11, 0, tzinfo=UTC)).events) == 1


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
trees = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
)
bounds = st.sampled_from(NO_TIMES + EDGES_OF_TIME)
moments = st.integers(-3 * 86_400, int(RECEIVED.timestamp()) - int(EARLIEST.timestamp()) + 3 * 86_400)
times = moments.map(lambda s: (EARLIEST + timedelta(seconds=s, microseconds=s % 997)).isoformat()) | st.text(
    max_size=30
)
identifiers = st.text(min_size=1, max_size=12) | st.sampled_from(["player-1", "", "x" * 256])
types = st.sampled_from([*SCORING, "login", "match:finished", "bad type", ""])
score_data = st.fixed_dictionaries({}, optional={rule.field: scalars for rule in SCORING.values()})
events = st.fixed_dictionaries(
    {},
    optional={
        "event_type": types,
        "player_id": identifiers,
        "game_id": identifiers,
        "timestamp": times,
        "ingested_at": times | bounds,
        "event_id": st.uuids().map(str) | st.text(max_size=36),
        "data": score_data | trees,
        "other": trees,
    },
)


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """Draw an event's bytes: well formed, with escapes or without, and sometimes with a byte changed."""
    text = json.dumps(draw(events), ensure_ascii=draw(st.booleans()))
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    if draw(st.integers(0, 3)) == 0 and raw:
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


@given(st.lists(values(), max_size=8))
@settings(max_examples=300, deadline=None)
def test_it_agrees_with_the_judge_on_anything(batch: list[bytes | None]) -> None:
    assert_agrees(batch)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_it_agrees_with_the_judge_on_noise_in_data(noise: bytes) -> None:
    assert_agrees([with_data('{"x":"@"}').replace(b"@", noise), with_data('{"x":@}').replace(b"@", noise)])


@pytest.mark.parametrize(
    "value",
    [
        from_edge(b'{"score":1,"x":1e400}'),
        from_edge(b'{"score":1,"x":[1e400]}'),
        from_edge(b'{"score":1,"x":%s}' % (b"9" * 400)),
        from_edge(b'{"score":1,"x":"\\u0000"}'),
        from_edge(b'{"score":1,"x":"\\ud800"}'),
        from_edge(b'{"score":1,"x":"\xff"}'),
        from_edge(b'{"score":1,"x":%s1%s}' % (b"[" * 30, b"]" * 30)),
        from_edge(b'{"score":1,"x":%s1%s}' % (b"[" * 31, b"]" * 31)),
        from_edge(b'{"score":1,"score":"x"}'),
        from_edge(b'{"score":1}', "2026-02-30T10:30:00.123456Z"),
        from_edge(b'{"score":1}', "2026-01-15T24:00:00.000000Z"),
        from_edge(b'{"score":1}', "2026-01-15T23:59:60.000000Z"),
        from_edge(b'{"score":1}', "2026-01-15T10:30:00.1+02:00"),
        from_edge(b'{"score":1}', "2026-01-15T10:30:00.12345xZ"),
        from_edge(b'{"score":1}', "1999-12-31T23:59:59.999999Z"),
        from_edge(b'{"score":1}', ingested_at="2026-01-15T10:30:00.1-02:00"),
        from_edge(b'{"score":1}', player_id="\n"),
        from_edge(b'{"score":1}', player_id="\u00e4\u00f6"),
        from_edge(b"{}", event_type="login"),
        from_edge(b"{}", event_type="login").replace(b'"data":{}', b'"x":1e400'),
        from_edge(b"[1,2,3]", event_type="login"),
    ],
)  # fmt: skip
def test_it_agrees_on_what_only_looks_like_the_edges(value: bytes) -> None:
    """Where every record has the layout, fewer checks are made: alone, and beside an ordinary one."""
    assert_agrees([value])
    assert_agrees([value, from_edge(b'{"score":7}')])


def test_what_the_edge_writes_has_its_layout() -> None:
    """Plain or not, with an id and a time of its own or without; `data` as its client sent it."""
    sent = [
        b'{"event_type":"player_score","player_id":"p","game_id":"g","data":{"score":1}}',
        b'{"event_type":"player_score","player_id":"p","game_id":"g","data":{"score": -17, "level": 1.5}}',
        b'{"event_type":"boss_defeated","player_id":"p","game_id":"g","data":{}}',
        b' {"data" : {"a": [1, "x", null], "b": true }, "player_id":"\\u00e4", "game_id": "g", "event_type": "login"}',
        (
            b'{"event_id":"01890000-0000-7000-8000-000000000000","timestamp":"2026-01-15T10:30:00+02:00",'
            b'"event_type":"login","player_id":"p","game_id":"g","data":{"x":1}}'
        ),
    ]
    values = [ShortCut(SCORING).accept(raw, Stamps().now()).value for raw in sent]
    assert taken_by(LayoutLane(SCORING), values) == list(range(len(sent)))
    read = decode(values).events.sort("offset")
    assert read["score"].to_list() == [1, -17, 50, None, None]
    others = [encoded(), from_edge(b'{"x":{}}'), from_edge(b'{"x":"\\n"}'), from_edge(b'{"x" :1}'), None]
    assert taken_by(LayoutLane(SCORING), [*others, *values]) == list(range(len(others), len(others) + len(sent)))


pieces = st.sampled_from(
    ['"', "\\", ",", ":", '","player_id":"', '","game_id":"', '","data":', "}", "{", "a", "\u00e4", "\x7f"]
)
texts = st.lists(pieces, max_size=6).map("".join)


@given(texts, texts, texts, texts)
@settings(max_examples=300, deadline=None)
def test_it_agrees_where_markers_of_the_layout_lie_in_texts(kind: str, player: str, game: str, data: str) -> None:
    head = f'{{"event_type":"{kind}","player_id":"{player}","game_id":"{game}","event_id":"{uuid.UUID(int=7)}",'
    times = '"timestamp":"2026-01-15T10:30:00.123456Z","ingested_at":"2026-01-15T10:30:00.000000Z",'
    assert_agrees([(head + times + f'"data":{{{data}}}}}').encode(), from_edge(b'{"score":7}')])


odd = st.sampled_from(["-0", "0", "1.0", "1.5", "01", "-", "1e3", '"1"', ""])
numbers = st.integers(-(10**18), 10**18).map(str) | odd
members = st.tuples(st.sampled_from(["score", "points", "x", ""]), numbers).map(lambda one: f'"{one[0]}":{one[1]}')
spaces = st.sampled_from(["", " ", "\n\t"])


@given(st.lists(members, max_size=4), spaces, spaces, types)
@settings(max_examples=300, deadline=None)
def test_it_agrees_on_scores_in_the_edges_layout(found: list[str], before: str, after: str, kind: str) -> None:
    data = "{" + before + f"{before},{after}".join(found) + after + "}"
    assert_agrees([from_edge(data.encode(), event_type=kind)])


@given(st.lists(score_data.map(json.dumps) | trees.map(json.dumps), min_size=1, max_size=4), times, types, bounds)
@settings(max_examples=200, deadline=None)
def test_it_agrees_on_the_edges_layout(datas: list[str], timestamp: str, event_type: str, taken: str) -> None:
    assert_agrees([from_edge(data.encode(), timestamp, event_type=event_type) for data in datas])
    assert_agrees([from_edge(data.encode(), timestamp, event_type=event_type, ingested_at=taken) for data in datas])


def test_columns_have_the_declared_types() -> None:
    assert decode([encoded()]).events.schema == EVENT_SCHEMA
    assert decode([encoded(event_id=None)]).events.schema == EVENT_SCHEMA
    assert isinstance(decode([b"x"]).events, pl.DataFrame)


def test_a_row_counts_the_records_whichever_lane_and_slice_they_went_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PostgreSQL refuses is dead-lettered by its row: a wrong one would bury a good record's bytes."""
    monkeypatch.setattr("pipeline.epoch.decode._SLICE", 7)
    of_each = [encoded(), BAD_RECORDS[0].value, encoded(event_id=None), with_data('{"x":1e300}'), None]
    decoded = decode(of_each * 9)
    assert len(decoded.events) == 3 * 9
    assert decoded.events["row"].to_list() == decoded.events["offset"].to_list()
    assert decoded.records["value"].to_list() == of_each * 9
