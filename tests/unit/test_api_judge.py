"""The short way through the judge gives the reference's verdict, to the byte, or none at all."""

import copy
import json
import string
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.api.judge import Admitted, Judge
from pipeline.api.stamps import tick_at
from pipeline.errors import EventError
from pipeline.event import MAX_EVENT_BYTES, Origin, load_scoring, parse_edge, parse_record

NOW = 1_795_000_000_000
PLAIN = {
    "event_type": "player_score",
    "player_id": "player-1",
    "game_id": "game 1",
    "timestamp": "2026-11-18T10:30:00.123Z",
    "data": {"score": 1500, "weapon": "sword", "accuracy": 0.25, "path": [1, {"x": None}]},
}


def both(raw: bytes) -> tuple[Admitted | None, Admitted | EventError]:
    """Judge the same bytes both ways, with the same ids to give."""
    judge, tick = Judge(load_scoring()), tick_at(NOW)
    plain = judge.admit_plain(raw, copy.copy(tick))
    try:
        return plain, judge.admit_exact(raw, copy.copy(tick))
    except EventError as error:
        return plain, error


def agree(raw: bytes) -> None:
    plain, exact = both(raw)
    assert plain is None or plain == exact, (raw, plain, exact)


texts = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=string.printable, max_size=300),
    st.sampled_from(["", "a", "player-1", "a" * 255, "a" * 256, "\x7f", "\0", "é", "\ud7ff", '"', "\\", "\x85"]),
)
times = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
    st.from_regex(
        r"20\d\d-[01]\d-[0-3]\d[Tt ][0-2]\d:[0-6]\d:[0-6]\d(\.\d{0,10})?([Zz]|[+-]\d\d:\d\d|)", fullmatch=True
    ),
    st.sampled_from(
        [
            "1999-12-31T23:59:59.999999Z",
            "2000-01-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2024-02-29T00:00:00.5Z",
            "2026-11-18T24:00:00Z",
            "2026-11-18T10:30:60Z",
            "2026-11-18T10:30:00+00:00",
            "2026-11-19T14:13:20.000000Z",
            "2026-11-19T14:13:20.000001Z",
            "\u0662\u066026-11-18T10:30:00Z",
            "",
        ]
    ),
)
uuids = st.one_of(
    st.uuids().map(str), st.uuids().map(lambda one: str(one).upper()), st.sampled_from(["", "x", "0" * 32])
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), texts
)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
datas = st.one_of(
    st.dictionaries(st.one_of(texts, st.sampled_from(["score", "points", "data"])), trees, max_size=4),
    st.fixed_dictionaries({"score": st.one_of(st.integers(-(2**54), 2**54), leaves)}),
    trees,
)
kinds = st.one_of(
    st.sampled_from(["player_score", "quest_completed", "boss_defeated", "achievement_unlocked", "a.b:c-d"]), texts
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Events that are mostly good: each field is now and then missing, or of any type."""
    fields = {
        "event_type": kinds,
        "player_id": texts,
        "game_id": texts,
        "timestamp": times,
        "event_id": uuids,
        "data": datas,
    }
    event: dict[str, Any] = dict(PLAIN)
    for name in draw(st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=4)):
        how = draw(st.integers(0, 9))
        if how == 0:
            event.pop(name, None)
        else:
            event[name] = draw(trees if how == 1 else fields[name])
    if draw(st.integers(0, 9)) == 0:
        event[draw(texts)] = draw(leaves)
    return event


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """The bytes of an event, in some order and spacing, with a few bytes changed, put in or taken out."""
    event = draw(events())
    names = draw(st.permutations(sorted(event)))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    text = json.dumps(
        {name: event[name] for name in names}, separators=separators, ensure_ascii=draw(st.booleans()), default=str
    )
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        piece = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"\\u0000", b"e400", b"{", b"]", b",", b"0"]))
        )
        raw[at : at + draw(st.integers(0, 2))] = piece
    return bytes(raw)


@given(events())
@settings(max_examples=600, deadline=None)
def test_agrees_on_events(event: dict[str, Any]) -> None:
    agree(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(spoiled())
@settings(max_examples=1500, deadline=None)
@example(b"")
@example(b"[]")
@example(b'{"event_type":"a","player_id":"p","game_id":"g","data":{"x":1e400}}')
@example(b'{"event_type":"a","player_id":"p","game_id":"g","data":{"x":1e400},"data":{}}')
@example(b'{"event_type":"a","player_id":"p","game_id":"g","data":{"x":-0,"y":01}}')
@example(b'{"event_type":"a","player_id":"p","game_id":"g","data":' + b'{"a":' * 31 + b"1" + b"}" * 31 + b"}")
@example(b'{"event_type":"a","player_id":"p","game_id":"g","data":' + b'{"a":' * 32 + b"1" + b"}" * 32 + b"}")
@example(b'{"event_type":"a","player_id":"p","game_id":"g","data":{"a":' + b"[" * 30000 + b"]" * 30000 + b"}}")
@example(b'{"event_type":"a","player_id":1,"player_id":"p","game_id":"g"}')
@example(b'{"event_type":"a","player_id":"p","game_id":"g","timestamp":""}')
@example(b'{"event_type":"a","player_id":"p","game_id":"g","event_id":""}')
@example(b'\xef\xbb\xbf{"event_type":"a","player_id":"p","game_id":"g"}')
@example(b'{"event_type":"a","player_id":"p\x01","game_id":"g"}')
@example(b'{"event_type":"a","player_id":"p","game_id":"g"} x')
@example(b'{"event_type":"a","player_id":"p","game_id":"g","data":{"s":"' + b"x" * 65470 + b'"}}')
def test_agrees_on_any_bytes(raw: bytes) -> None:
    agree(raw)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"event_id": "550E8400-e29b-41d4-a716-446655440000"},
        {"timestamp": "2026-11-18T10:30:00Z"},
        {"timestamp": "2026-11-18T10:30:00.123456Z"},
        {"data": {"score": 0}},
        {"event_type": "quest_completed", "data": {}},
    ],
)
def test_what_clients_send_goes_the_short_way(change: dict[str, Any]) -> None:
    plain, exact = both(orjson.dumps({**PLAIN, **change}))
    assert plain is not None
    assert plain == exact


def test_the_record_is_what_the_consumer_reads() -> None:
    admitted = Judge(load_scoring()).admit(orjson.dumps({**PLAIN, "player_id": "Zoë"}), tick_at(NOW))
    record = admitted
    read = parse_record(record.value, Origin(uuid.uuid4(), tick_at(NOW).moment), load_scoring())
    assert record.key == "Zoë".encode()
    assert record.headers == [("event_type", b"player_score"), ("event_id", admitted.event_id.encode())]
    assert str(read.event_id) == admitted.event_id
    assert read.data == orjson.dumps(PLAIN["data"])
    assert read.ingested_at == tick_at(NOW).moment
    assert b'"timestamp":"2026-11-18T10:30:00.123000Z"' in record.value
    assert record.value.rindex(b',"data":') > record.value.index(b'"ingested_at"')


@pytest.mark.parametrize("filler", ["x", "é"])
@pytest.mark.parametrize("room", range(0, 260, 20))
def test_an_event_that_grows_past_the_limit_is_refused(filler: str, room: int) -> None:
    """The consumer judges the record, which is longer than what the client sent: what is taken here must pass there."""
    text = filler * ((MAX_EVENT_BYTES - 150 - room) // len(filler.encode()))
    raw = json.dumps({**PLAIN, "data": {"score": 1, "s": text}}, ensure_ascii=False).encode()
    assert parse_edge(raw, Origin(uuid.uuid4(), tick_at(NOW).moment), load_scoring())
    plain, exact = both(raw)
    if isinstance(exact, EventError):
        assert "at most 65536" in str(exact)
        assert plain is None
    else:
        assert len(exact.value) <= MAX_EVENT_BYTES
