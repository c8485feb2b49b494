"""Events for tests: a valid one to vary, and every way the contract says one can be bad."""

import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from pipeline.epoch.batch import RECORD_COLUMNS, Records


def valid(**changes: Any) -> dict[str, Any]:
    """A valid record's value as an object; a change to None removes the field."""
    event: dict[str, Any] = {
        "event_type": "player_score",
        "player_id": "player-1",
        "game_id": "game-1",
        "event_id": str(uuid.uuid4()),
        "timestamp": now(),
        "data": {"score": 10},
    }
    event |= changes
    return {name: value for name, value in event.items() if value is not None}


def encoded(**changes: Any) -> bytes:
    return json.dumps(valid(**changes)).encode()


def now(shift: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + shift).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def with_data(text: str, event_type: str = "login") -> bytes:
    """A valid event whose `data` is this JSON text, byte for byte."""
    return encoded(event_type=event_type, data="@").replace(b'"@"', text.encode("utf-8", "surrogatepass"))


def records_of(rows: Iterable[tuple[int, int, int, bytes | None]]) -> Records:
    """Kafka records without keys: partition, offset, milliseconds since 1970, value."""
    return Records(pl.DataFrame([(*row[:3], None, row[3]) for row in rows], schema=RECORD_COLUMNS, orient="row"))


def from_edge(data: bytes = b'{"score":1}', timestamp: str = "2026-01-15T10:30:00.123456Z", **changed: str) -> bytes:
    """Write a record in the edge's own layout, whatever is in it."""
    fields = {
        "event_type": "player_score",
        "player_id": "player-1",
        "game_id": "game-1",
        "event_id": "01890000-0000-7000-8000-000000000000",
        "timestamp": timestamp,
        "ingested_at": "2026-01-15T10:30:00.000000Z",
        **changed,
    }
    head = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)[:-1]
    return head.encode() + b',"data":' + data + b"}"


NO_TIMES = [
    "0000-01-01T00:00:00.000000Z",
    "0001-01-01T00:00:00.000000Z",
    "1969-12-31T23:59:59.999999Z",
    "1999-12-31T23:59:59.999999Z",
    "2000-01-01T00:30:00+01:00",
    "9999-12-30T00:00:00.000001Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-12:00",
]
"""RFC 3339, and no times that every part of the pipeline can hold: before 2000, or in the year 10000 or near it."""
EDGES_OF_TIME = ["2000-01-01T00:00:00.000000Z", "9999-12-30T00:00:00.000000Z", "2000-01-01T01:00:00+01:00"]


class Bad(NamedTuple):
    """One bad value: what it is, its bytes, and the field that the refusal must name ("" for the event as a whole)."""

    name: str
    value: bytes | None
    field: str


BAD: list[Bad] = [
    Bad("not JSON", b"{not json", ""),
    Bad("truncated", encoded()[:-5], ""),
    Bad("two values", encoded() + b" {}", ""),
    Bad("byte order mark", b"\xef\xbb\xbf" + encoded(), ""),
    Bad("array", b"[1,2]", ""),
    Bad("string", b'"event"', ""),
    Bad("number", b"12", ""),
    Bad("null", b"null", ""),
    Bad("empty value", b"", ""),
    Bad("blank value", b"  ", ""),
    Bad("invalid UTF-8 in an id", encoded(player_id="@").replace(b"@", b"\xff"), ""),
    Bad("invalid UTF-8 in data", with_data('{"x":"@"}').replace(b"@", b"\xc3\x28"), ""),
    Bad("overlong UTF-8 in data", with_data('{"x":"@"}').replace(b"@", b"\xc0\x80"), ""),
    Bad("surrogate bytes in data", with_data('{"x":"\ud800"}'), ""),
    Bad("lone surrogate escape in data", with_data(r'{"x":"\ud800"}'), ""),
    Bad("lone surrogate escape in an id", encoded(player_id="@").replace(b"@", rb"\udc00"), ""),
    Bad("bare control character in data", with_data('{"x":"a\nb"}'), ""),
    Bad("oversize", with_data('{"x":"' + "a" * 66_000 + '"}'), ""),
    Bad("1e-20000", with_data('{"x":1e-20000}'), "data"),
    Bad("1e-16384", with_data('{"x":[{"y":-1E-0016384}]}'), "data"),
    Bad("1.5e-16383", with_data('{"x":1.5e-16383}'), "data"),
    Bad("an exponent of twenty digits", with_data('{"x":1e-' + "9" * 20 + "}"), "data"),
    Bad("20,000 digits behind the point", with_data('{"x":0.' + "1" * 20_000 + "}"), "data"),
    Bad("1e400", with_data('{"x":1e400}'), ""),
    Bad("-1e400 in a list", with_data('{"x":[1, -1e400]}'), ""),
    Bad("400 digits", with_data('{"x":' + "9" * 400 + "}"), ""),
    Bad("NaN", with_data('{"x":NaN}'), ""),
    Bad("leading zero", with_data('{"x":01}'), ""),
    Bad("no event_type", encoded(event_type=None), "event_type"),
    Bad("event_type null", encoded().replace(b'"player_score"', b"null"), "event_type"),
    Bad("event_type empty", encoded(event_type=""), "event_type"),
    Bad("event_type too long", encoded(event_type="a" * 101), "event_type"),
    Bad("event_type with a space", encoded(event_type="a b"), "event_type"),
    Bad("event_type with a line feed at its end", encoded(event_type="login\n"), "event_type"),
    Bad("event_type in other letters", encoded(event_type="évent"), "event_type"),
    Bad("event_type a number", encoded(event_type=7), "event_type"),
    Bad("no player_id", encoded(player_id=None), "player_id"),
    Bad("player_id empty", encoded(player_id=""), "player_id"),
    Bad("player_id a number", encoded(player_id=5), "player_id"),
    Bad("player_id too long", encoded(player_id="x" * 256), "player_id"),
    Bad("player_id with NUL", encoded(player_id="a\0b"), "player_id"),
    Bad("player_id with a tab", encoded(player_id="a\tb"), "player_id"),
    Bad("player_id with a C1 control", encoded(player_id="a\x85b"), "player_id"),
    Bad("no game_id", encoded(game_id=None), "game_id"),
    Bad("game_id an object", encoded(game_id={}), "game_id"),
    Bad("game_id with a line feed", encoded(game_id="g\n"), "game_id"),
    Bad("timestamp a number", encoded(timestamp=1700000000), "timestamp"),
    Bad("timestamp null", encoded(timestamp="@").replace(b'"@"', b"null"), "timestamp"),
    Bad("timestamp without offset", encoded(timestamp="2026-01-15T10:30:00"), "timestamp"),
    Bad("timestamp a date", encoded(timestamp="2026-01-15"), "timestamp"),
    Bad("timestamp on 30 February", encoded(timestamp="2024-02-30T10:30:00Z"), "timestamp"),
    Bad("timestamp at hour 24", encoded(timestamp="2024-02-10T24:00:00Z"), "timestamp"),
    Bad("timestamp at a leap second", encoded(timestamp="2016-12-31T23:59:60Z"), "timestamp"),
    Bad("timestamp with other digits", encoded(timestamp="２024-02-10T10:00:00Z"), "timestamp"),  # noqa: RUF001
    Bad("timestamp before 2000", encoded(timestamp="1999-12-31T23:59:59Z"), "timestamp"),
    Bad("timestamp before 2000 by its offset", encoded(timestamp="2000-01-01T00:30:00+01:00"), "timestamp"),
    Bad("timestamp far ahead", encoded(timestamp=now(timedelta(hours=36))), "timestamp"),
    Bad("timestamp in year 9999", encoded(timestamp="9999-12-31T23:59:59-23:00"), "timestamp"),
    Bad("event_id not a UUID", encoded(event_id="abc"), "event_id"),
    Bad("event_id with braces", encoded(event_id="{550e8400-e29b-41d4-a716-446655440000}"), "event_id"),
    Bad("event_id null", encoded(event_id="@").replace(b'"@"', b"null"), "event_id"),
    Bad("data null", with_data("null"), "data"),
    Bad("data an array", with_data("[]"), "data"),
    Bad("data a string", with_data('"{}"'), "data"),
    Bad("NUL in data", with_data(r'{"x":"a\u0000b"}'), "data"),
    Bad("NUL behind a repeated key", with_data(r'{"a":"\u0000","a":1}'), "data"),
    Bad("NUL in a list behind a repeated key", with_data(r'{"a":["x",{"b":"\u0000"}],"a":1}'), "data"),
    Bad("NUL in a key behind a repeated key", with_data(r'{"a":{"\u0000":1},"\u0061":1}'), "data"),
    Bad("NUL after backslashes", with_data(r'{"x":"\\\\\u0000"}'), "data"),
    Bad("a lone surrogate behind a repeated key", with_data(r'{"a":["\udc00"],"a":1}'), ""),
    Bad("1e-20000 behind a repeated key", with_data('{"a":[1e-20000],"a":1}'), "data"),
    Bad("1e400 behind a repeated key", with_data('{"a":[1e400],"a":1}'), ""),
    Bad("zero with an exponent of ten digits", with_data('{"x":0e9999999999}'), "data"),
    Bad("such a zero behind a repeated key", with_data('{"x":[-0.00E+1073741824],"x":1}'), "data"),
    Bad("NUL in a key of data", with_data(r'{"x":{"\u0000":1}}'), "data"),
    Bad("nested 33 deep", with_data('{"x":' + "[" * 31 + "]" * 31 + "}"), "data"),
    Bad("nested 900 deep", with_data('{"x":' + "[" * 900 + "]" * 900 + "}"), "data"),
    Bad("nested 20,000 deep", with_data('{"x":' + "[" * 20_000 + "]" * 20_000 + "}"), ""),
    Bad("score missing", encoded(data={}), "data.score"),
    Bad("score a string", encoded(data={"score": "10"}), "data.score"),
    Bad("score a boolean", encoded(data={"score": True}), "data.score"),
    Bad("score null", encoded(data={"score": None}), "data.score"),
    Bad("score a fraction", encoded(data={"score": 1.5}), "data.score"),
    Bad("score past 2^53", encoded(data={"score": 2**53 + 1}), "data.score"),
    Bad("score past 2^63", encoded(data={"score": 2**63}), "data.score"),
    Bad("score past -2^53", encoded(data={"score": -(2**53) - 1}), "data.score"),
    Bad(
        "reward_points a string",
        encoded(event_type="quest_completed", data={"reward_points": "x"}),
        "data.reward_points",
    ),
    Bad("last of two scores bad", with_data('{"score":1,"score":"x"}', "player_score"), "data.score"),
]

BAD_RECORDS: list[Bad] = [
    *BAD,
    Bad("tombstone", None, ""),
    Bad("ingested_at not a time", encoded(ingested_at="yesterday"), "ingested_at"),
    *(Bad(f"ingested_at {time}", encoded(ingested_at=time), "ingested_at") for time in NO_TIMES),
    *(Bad(f"ingested_at {time} as the edge writes", from_edge(ingested_at=time), "ingested_at") for time in NO_TIMES),
]
"""What only a record can be, too: at the edge these cannot come in, or are another refusal."""

GOOD_BUT_RARE: list[tuple[str, bytes]] = [
    ("no data", encoded(event_type="login", data=None)),
    ("no event_id", encoded(event_id=None)),
    ("no timestamp", encoded(timestamp=None, event_id=None)),
    ("an unknown field", encoded(platform="pc")),
    ("an unknown field that is deep", encoded(extra={"a": [[{"b": 1}]]})),
    ("escapes in an id", encoded(player_id='a\\"é', game_id="日本")),
    ("astral characters", encoded(player_id="🎮" * 10)),
    ("255 characters of an id", encoded(player_id="é" * 255)),
    ("escaped astral data", with_data(r'{"x":"\ud83c\udfae"}')),
    ("exponents", with_data('{"x":1e5,"y":-2.5E-3}')),
    ("as fine as PostgreSQL holds", with_data('{"x":1e-16383,"y":0.' + "1" * 16_383 + "}")),
    ("what looks like NUL", with_data(r'{"x":"\\u0000","y\\\\u0000":["\\\\\\u0000"],"x":1}')),
    ("a repeated key", with_data(r'{"a":[1,"\u0001",1e-16383],"b":{"a":1},"\u0061":null}')),
    ("zeros of long exponents", with_data('{"x":0e999999999,"y":-0.0E+000000000000001,"z":1e-0000000000000001}')),
    ("what looks like a number in a string", with_data('{"x":"1e-20000","y\\"1e-99999":"0e9999999999"}')),
    ("large but finite", with_data('{"x":1e308,"y":' + "9" * 300 + "}")),
    ("an integer past 64 bits", with_data('{"x":99999999999999999999999}')),
    ("braces in a string", with_data('{"x":"' + "{[" * 40 + '"}')),
    ("nested 32 deep", with_data('{"x":' + "[" * 30 + "]" * 30 + "}")),
    ("spaces and line feeds", b'\n{ "event_type" : "login" ,\n "player_id":"p", "game_id":"g"\t, "data" : { } } \n'),
    ("the last of two keys", b'{"player_id":"a","player_id":"b","event_type":"login","game_id":"g"}'),
    ("an offset", encoded(timestamp="2026-01-15T10:30:00.5+02:00")),
    ("nine digits of a second", encoded(timestamp="2026-01-15T10:30:00.123456789Z")),
    ("lower-case t and z", encoded(timestamp="2026-01-15t10:30:00z")),
    ("upper-case event_id", encoded(event_id="550E8400-E29B-41D4-A716-446655440000")),
    *((f"ingested_at {time}", encoded(ingested_at=time)) for time in EDGES_OF_TIME),
    *(
        (f"ingested_at {time} as the edge writes", from_edge(ingested_at=time, event_id=str(uuid.uuid4())))
        for time in EDGES_OF_TIME
    ),
    ("year 2000", encoded(timestamp="2000-01-01T00:00:00Z")),
    ("23 hours ahead", encoded(timestamp=now(timedelta(hours=23)))),
    # Players of their own: a total that passes 2^53 on its way is rounded in Redis, by the order of arrival.
    ("score of 2^53", encoded(player_id="richest", data={"score": 2**53})),
    ("score of -2^53", encoded(player_id="poorest", data={"score": -(2**53)})),
    ("a default score", encoded(event_type="quest_completed", data={})),
    ("a default score without data", encoded(event_type="boss_defeated", data=None)),
    ("a type that does not score, with a score", encoded(event_type="login", data={"score": "x"})),
    ("another type's score field", encoded(data={"score": 3, "points": "x"})),
    ("the last of two scores", with_data('{"score":"x","score":4}', "player_score")),
    ("a score among nested scores", with_data('{"a":{"score":9},"score":4}', "player_score")),
]
"""Valid, each for a reason that a fast decoder might overlook."""
