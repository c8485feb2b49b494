"""The short way through the judge gives the reference's verdict, to the byte, or none at all."""

import json
import string
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.api.events.short_cut import Accepted, ShortCut
from pipeline.api.events.stamps import Tick
from pipeline.contract.event import (
    MAX_EVENT_BYTES,
    MAX_NESTING,
    Origin,
    format_timestamp,
    load_scoring,
    parse_edge,
    parse_record,
)
from pipeline.errors import EventError
from tests.texts import (
    insides,
    name_insides,
    near_objects,
    near_texts,
    near_times,
    near_values,
    nested,
    spaces,
    ways_of,
)
from tests.ticks import tick_at

NOW = 1_795_000_000_000
PLAIN = {
    "event_type": "player_score",
    "player_id": "player-1",
    "game_id": "game 1",
    "timestamp": "2026-11-18T10:30:00.123Z",
    "data": {"score": 1500, "weapon": "sword", "accuracy": 0.25, "path": [1, {"x": None}]},
}


JUDGE = ShortCut(load_scoring())


class OneId(Tick):
    """A tick that gives one id, so that two verdicts can be compared."""

    __slots__ = ()

    @staticmethod
    def next_id() -> str:
        return "01a224a0-6eda-728d-9ed0-943b5b135b23"


def both(raw: bytes) -> tuple[Accepted | None, Accepted | EventError]:
    """Judge the same bytes both ways, with the same ids to give."""
    tick = OneId(NOW, tick_at(NOW).text[:19], tick_at(NOW).latest[:19])
    plain = JUDGE.accept_plain(raw, tick)
    try:
        return plain, JUDGE.accept_exact(raw, tick)
    except EventError as error:
        return plain, error


def agree(raw: bytes) -> bool:
    """Hold both ways to the same record or refusal; tell whether it is a record that did not go the short way.

    A record is then held to the consumer's judge, who must find in it what the client meant.
    """
    plain, exact = both(raw)
    assert plain is None or plain == exact, (raw, plain, exact)
    if isinstance(exact, EventError):
        return False
    read = parse_record(exact.value, Origin(uuid.uuid4(), tick_at(NOW).moment), load_scoring())
    sent = orjson.loads(raw)
    assert (read.player_id, read.game_id, read.event_type) == (sent["player_id"], sent["game_id"], sent["event_type"])
    assert orjson.loads(read.data) == sent.get("data", {})
    assert (str(read.event_id), format_timestamp(read.timestamp)) == (exact.event_id, exact.timestamp)
    assert (exact.key, exact.game_id) == (sent["player_id"].encode(), sent["game_id"])
    return plain is None


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
@settings(max_examples=400, deadline=None)
def test_agrees_on_events(event: dict[str, Any]) -> None:
    agree(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(spoiled())
@settings(max_examples=800, deadline=None)
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
@example(b'{"event_type":"a","player_id":"p","game_id":"g"}' + b" " * MAX_EVENT_BYTES)
@example(b'{"event_type":"a","player_id":"p","game_id":"g","data":{"x":"\xf0\x9f\x8e"}}')
def test_agrees_on_any_bytes(raw: bytes) -> None:
    agree(raw)


def written(data: str, player: str = "p", game: str = "g", timestamp: str = "2026-11-18T10:30:00Z") -> bytes:
    """Write an event of JSON texts."""
    return (
        f'{{"event_type":"player_score","player_id":"{player}","game_id":"{game}","timestamp":"{timestamp}","data":{data}}}'
    ).encode()


@given(name_insides, name_insides, st.lists(insides, max_size=4))
@settings(max_examples=300, deadline=None)
@example("\\u0022", "\\\\", ["\\ud83c\\udfae"])
@example("\U0001f468\u200d\U0001f469", "\u202e", ["\x7f"])
def test_text_in_any_spelling_goes_the_short_way(player: str, game: str, texts: list[str]) -> None:
    data = ",".join(['{"score":1', *(f'"k{at}{text}":["{text}"]' for at, text in enumerate(texts))]) + "}"
    raw = written(data, player, game)
    assert not agree(raw) or b"u0000" in raw


@given(near_objects, near_texts, near_texts)
@settings(max_examples=300, deadline=None)
def test_agrees_on_any_spelling_of_texts_and_numbers(data: str, player: str, game: str) -> None:
    agree(written(data, "p", "g"))
    agree(written(data.replace("{", '{"score":1,', 1) if data != "{}" else '{"score":7}', player, game))


@given(nested(st.one_of(st.integers(MAX_NESTING - 4, MAX_NESTING + 2), st.sampled_from([60, 253, 254, 255, 256]))))
@settings(max_examples=200, deadline=None)
def test_agrees_on_nesting_and_takes_what_is_allowed_the_short_way(data: str) -> None:
    assert not agree(written(data).replace(b"player_score", b"login"))


@pytest.mark.parametrize("levels", [30, 31, 32, 900, 1000, 1010, 1022, 1023, 1030])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_what_is_nested_too_deep_is_refused_and_never_raises(levels: int, pair: str) -> None:
    """The second finds its way past the judge of `data`: a later `data` replaces it."""
    deep = (pair[0] if pair == "[]" else '{"a":') * levels + "1" + pair[1] * levels
    assert not agree(written(f'{{"score":1,"x":{deep}}}'))
    agree(written(f'{{"x":{deep}}},"data":{{"score":1}}'))
    agree(written(f'{{"x":{deep}}},"d\\u0061ta":{{"score":1}}'))


@pytest.mark.parametrize("kind", [*sorted(load_scoring()), "login"])
@pytest.mark.parametrize(
    "score",
    [
        "9007199254740992",
        "-9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "1.0",
        "1e3",
        "true",
        "null",
        '"1"',
        "-0",
        "[]",
        '1,"sc\\u006fre":"x"',
    ],
)
def test_agrees_on_scores(kind: str, score: str) -> None:
    for field in {rule.field for rule in load_scoring().values()}:
        assert not agree(written(f'{{"{field}":{score}}}').replace(b"player_score", kind.encode()))


@given(near_times, st.uuids())
@settings(max_examples=1000, deadline=None)
@example("2000-01-01T01:59:59.999999+02:00", uuid.UUID(int=1))
@example("2026-11-18T10:30:00.\u0661Z", uuid.UUID(int=1))
@example("0001-01-01T00:00:00+23:59", uuid.UUID(int=1))
@example("9999-12-31T23:59:59-23:59", uuid.UUID(int=1))
@example("2026-11-19T16:13:20.000000999+02:00", uuid.UUID(int=1))
@example("2026-11-19T16:13:20.000001+02:00", uuid.UUID(int=1))
def test_times_of_every_form_go_the_short_way(timestamp: str, event_id: uuid.UUID) -> None:
    raw = written(f'{{"score":1}},"event_id":"{event_id}"', timestamp=timestamp)
    assert not agree(raw) or b"24:00:00" in raw


FIELDS = ["event_type", "player_id", "game_id", "timestamp", "event_id", "data"]
given_fields = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(['"player_score"', '"login"']),
        "player_id": name_insides.map('"{}"'.format),
        "game_id": name_insides.map('"{}"'.format),
        "timestamp": near_times.map('"{}"'.format),
        "event_id": st.uuids().map('"{}"'.format),
        "data": st.one_of(st.just('{"score":1,"data":{"data":[]}}'), near_objects),
    }
)


@st.composite
def foreign(draw: st.DrawFn) -> bytes:
    """An event in any order, spacing and spelling of its keys, some of them twice or missing, and bytes changed."""
    fields = draw(given_fields)
    found = [
        (name, fields[name]) for name in draw(st.permutations(FIELDS)) if name in FIELDS[:3] or draw(st.integers(0, 5))
    ]
    for name in draw(st.lists(st.sampled_from([*FIELDS, "data", "data"]), max_size=2)):
        at = draw(st.integers(0, len(found)))
        found.insert(at, (name, draw(st.one_of(near_values, st.just(fields[name]), st.just('{"a":"\udc80"}')))))
    keys = [draw(ways_of(name)) if draw(st.integers(0, 3)) == 0 else name for name, _ in found]
    text = ",".join(
        f'{draw(spaces)}"{key}"{draw(spaces)}:{draw(spaces)}{value}'
        for key, (_, value) in zip(keys, found, strict=True)
    )
    raw = bytearray(f"{draw(spaces)}{{{text}{draw(spaces)}}}{draw(spaces)}".encode("utf-8", "surrogateescape"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw)


@given(foreign())
@settings(max_examples=600, deadline=None)
@example(written('{"score":1,"x":"\udc80"},"data":{"score":1}'.replace("\udc80", "?")).replace(b"?", b"\x80"))
@example(written('{"x":"?"},"d\\u0061ta":{"score":1}').replace(b"?", b"\x80"))
@example(written('{"x":1e400},"\\u0064ata":{"score":1}'))
@example(written('{"x":"\\ud800"},"data":{"score":1}'))
def test_agrees_on_what_foreign_writers_send(raw: bytes) -> None:
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
        {"data": {"score": 1, "data": {"data": 1}, "tags": ["[ABC]", {"x": "}"}] * 40}},
        {"data": {"score": 1, "build": "release-2026.11", "small": 1.5e-7, "date": "size-1e-9"}},
        {"player_id": "Zo\u00eb \U0001f3ae \u200d", "game_id": 'the "one" \\ only'},
        {"timestamp": "2026-11-18t12:30:00.123456789+02:00"},
    ],
)
def test_what_clients_send_goes_the_short_way(change: dict[str, Any]) -> None:
    plain, exact = both(orjson.dumps({**PLAIN, **change}))
    assert plain is not None
    assert plain == exact


def test_the_record_is_what_the_consumer_reads() -> None:
    accepted = ShortCut(load_scoring()).accept(orjson.dumps({**PLAIN, "player_id": "Zoë"}), tick_at(NOW))
    record = accepted
    read = parse_record(record.value, Origin(uuid.uuid4(), tick_at(NOW).moment), load_scoring())
    assert record.key == "Zoë".encode()
    assert record.headers == [("event_type", b"player_score"), ("event_id", accepted.event_id.encode())]
    assert str(read.event_id) == accepted.event_id
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
