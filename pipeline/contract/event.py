"""The event: its fields, limits and scores, and the one judge of whether bytes are an event.

This module is the contract in code. The edge refuses by it, the consumer dead-letters by it, and the vectorized
decoder (`epoch.decode`) is held to the same verdicts by a differential test. It touches no socket and no clock.
"""

import functools
import itertools
import re
import tomllib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from pipeline.errors import ConfigurationError, EventError

MAX_EVENT_BYTES: Final = 64 * 1024
MAX_NESTING: Final = 32
MAX_TYPE_CHARACTERS: Final = 100
MAX_ID_CHARACTERS: Final = 255
MAX_SCORE: Final = 2**53
MAX_SCALE: Final = 16_383
"""Digits behind the point of a number, its exponent counted: what PostgreSQL's numeric, and so jsonb, can hold."""
MAX_EXPONENT_DIGITS: Final = 9
"""Digits of an exponent, zeros before them not counted: what PostgreSQL's numeric reads, be the number zero."""
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
MAX_AHEAD: Final = timedelta(hours=24)
LATEST: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""The last time of a record: a day on is still a time that every part of the pipeline can hold."""

_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
RECORD_TIMES: Final = range((EARLIEST - _UNIX) // _MILLISECOND, (LATEST - _UNIX) // _MILLISECOND + 1)
"""The times of records that are times, in milliseconds since 1970. Kafka takes any 64 bits: -1 for none, seconds or
microseconds by mistake; as dates such numbers raise, or wrap around."""

MAX_OPEN: Final = 500
"""How deep the bytes of an event may go: beyond it decoders run out of stack, sooner or later by who calls them."""

EVENT_TYPE_PATTERN: Final = rf"^[A-Za-z0-9_.:-]{{1,{MAX_TYPE_CHARACTERS}}}$"
EVENT_TYPE_RULE: Final = f"1-{MAX_TYPE_CHARACTERS} of A-Z a-z 0-9 _ . : -"
ID_PATTERN: Final = rf"^[^\x00-\x1f\x7f-\x9f]{{1,{MAX_ID_CHARACTERS}}}$"
ID_RULE: Final = f"1-{MAX_ID_CHARACTERS} characters, no control characters"
UUID_PATTERN: Final = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
EXAMPLE_UUID: Final = "550e8400-e29b-41d4-a716-446655440000"
UUID_RULE: Final = f"a UUID such as {EXAMPLE_UUID}"
TIMESTAMP_PATTERN: Final = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"

RECORD_FIELDS: Final = ("event_type", "player_id", "game_id", "event_id", "timestamp", "ingested_at", "data")
"""The fields of an event in Kafka, in the order in which the edge writes them."""
CLIENT_FIELDS: Final = frozenset(RECORD_FIELDS) - {"ingested_at"}
"""Those that a client may send."""
RECORD_NAMESPACE: Final = uuid.UUID("6f0c1f6e-8f43-5a5c-9d5b-3a8d0c6f5e21")
"""UUIDv5 namespace of the ids of records that carry none; the name is `topic/partition/offset`."""

TIMESTAMP_SIZE: Final = len("2026-01-15T10:30:00.000000Z")
POLARS_TIMESTAMP: Final = "%Y-%m-%dT%H:%M:%S.%6fZ"
"""What `format_timestamp` writes: its characters, and its form in the letters of polars."""
UUID_SIZE: Final = len(EXAMPLE_UUID)

is_event_type: Final = re.compile(EVENT_TYPE_PATTERN.replace("$", r"\Z")).match
is_identifier: Final = re.compile(ID_PATTERN.replace("$", r"\Z")).match
is_uuid: Final = re.compile(UUID_PATTERN.replace("$", r"\Z")).match
_MINUS: Final = ord("-")
_CAPITAL: Final = ord("E")
_NUL: Final = rb"\u0000"
_WRITTEN_LEVELS: Final = 254
"""orjson writes objects and arrays nested so deep, and refuses deeper ones."""
_COVER: Final = functools.reduce(lambda inner, _: (inner,), range(_WRITTEN_LEVELS - MAX_NESTING + 1), object())
"""Something that orjson asks about, under as many levels as leave room for `data`, which lies one deep in an event."""
_STEPS: Final = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")
_NO_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"[{]}")))

_LONG_FRACTION: Final = MAX_SCALE - 999
# All of these are linear in what they search, whatever it is, for a judge that can be slowed down is a way to stop it;
# and each begins with a character or two, for which re searches ten times faster.
_odd_exponent = re.compile(rb"[eE](?<=[0-9].)(?:-[0-9]{4}|\+?[0-9]{%d})" % (MAX_EXPONENT_DIGITS + 1))
_odd_fraction = re.compile(rb"\.[0-9]{%d}" % _LONG_FRACTION)
_odd_tail = re.compile(
    rb"\.[0-9]+e[-+]?0*[1-9][0-9]{3,}|\.[0-9]{%d,}(?:e[-+]?[0-9]+)?|e[-+]?0*[1-9][0-9]{3,}" % _LONG_FRACTION
)
_strings = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_timestamp = re.compile(TIMESTAMP_PATTERN.replace("$", r"\Z"), re.ASCII)


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """How one event type scores: the key of `data`, and the score when that key is absent (None: it is required)."""

    field: str
    default: int | None = None


Scoring = Mapping[str, ScoreRule]
_Matches = Callable[[str], re.Match[str] | None]


@dataclass(frozen=True, slots=True)
class Event:
    """One valid event: `data` is the JSON text as it was sent, `score` is None if the type has none."""

    event_id: uuid.UUID
    event_type: str
    player_id: str
    game_id: str
    timestamp: datetime
    ingested_at: datetime
    data: bytes
    score: int | None


@dataclass(frozen=True, slots=True)
class Origin:
    """What stands in for fields an event does not carry: where it was met, and when (aware, UTC).

    `event_id` is used only when the event has none. `received_at` is the event's time when it has none, and the
    moment against which a time is judged too far ahead, so that a replay of the topic judges as the first pass did.
    It is None for a record whose own time is none (`record_time`): an event of such a record needs a time of its own,
    and may lie ahead as far as LATEST, for there is nothing to judge that by which a replay would find again. Whether
    a day is too far ahead is then asked of the ledger, which has no partition for it.
    """

    event_id: uuid.UUID
    received_at: datetime | None


class _Fields(msgspec.Struct):
    """The raw bytes of `data`, cut out of an event that is already known to be valid JSON."""

    data: msgspec.Raw = msgspec.Raw(b"{}")


_cut_data = msgspec.json.Decoder(_Fields).decode


@functools.cache
def load_scoring(path: Path | None = None) -> Scoring:
    """Read the scoring table, the packaged one unless `path` names another.

    Raises ConfigurationError when the file is missing or not a table of `field` and `default`.
    """
    source = path or Path(__file__).with_name("scoring.toml")
    try:
        return msgspec.toml.decode(source.read_bytes(), type=dict[str, ScoreRule])
    except (OSError, tomllib.TOMLDecodeError, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"SCORING_FILE: {source}: {error}") from error


def parse_edge(raw: bytes, origin: Origin, scoring: Scoring) -> Event:
    """Judge the bytes of one event from a client.

    Stricter than `parse_record` in two things: an unknown top-level field is refused, and an event_id needs a
    timestamp, because only both together make a retry the same event. Raises EventError naming the field.
    """
    return parse_object(load_object(raw), raw, origin, scoring, from_client=True)


def parse_record(raw: bytes | None, origin: Origin, scoring: Scoring) -> Event:
    """Judge the value of one Kafka record, whoever produced it. Raises EventError naming the field."""
    return parse_object(load_object(raw), raw or b"", origin, scoring, from_client=False)


def load_object(raw: bytes | None) -> dict[str, Any]:
    """Turn the bytes of one event into a JSON object. Raises EventError when they are not one, or are over a limit."""
    if raw is None:
        raise EventError("", "the record is a tombstone: it has no value")
    if not raw:
        raise EventError("", "the value is empty")
    if len(raw) > MAX_EVENT_BYTES:
        raise EventError("", f"{len(raw)} bytes; an event has at most {MAX_EVENT_BYTES}")
    try:
        loaded = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise EventError("", f"not JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise EventError("", f"not a JSON object but {_kind(loaded)}")
    return loaded


def parse_object(loaded: dict[str, Any], raw: bytes, origin: Origin, scoring: Scoring, *, from_client: bool) -> Event:
    """Judge a loaded event whose bytes are `raw`. Raises EventError naming the field."""
    if from_client:
        _refuse_unknown(loaded)
    event_type = _matching(loaded, "event_type", is_event_type, EVENT_TYPE_RULE)
    player_id = _matching(loaded, "player_id", is_identifier, ID_RULE)
    game_id = _matching(loaded, "game_id", is_identifier, ID_RULE)
    timestamp = _time(loaded, "timestamp", origin.received_at)
    if not EARLIEST <= timestamp <= (origin.received_at + MAX_AHEAD if origin.received_at else LATEST):
        raise EventError("timestamp", f"{format_timestamp(timestamp)} is not between 2000 and 24 hours from now")
    event_id = origin.event_id
    if "event_id" in loaded:
        event_id = uuid.UUID(_matching(loaded, "event_id", is_uuid, UUID_RULE))
        if from_client and "timestamp" not in loaded:
            raise EventError("timestamp", "required with an event_id, so that a retry is the same event")
    data = loaded.get("data", {})
    if not isinstance(data, dict):
        raise EventError("data", f"must be an object, not {_kind(data)}")
    if raw.count(b"[") + raw.count(b"{") > MAX_NESTING and nests_too_deep(data):
        raise EventError("data", f"nested deeper than {MAX_NESTING}")
    text = _raw_data(raw)
    if _NUL in text and _NUL in text.replace(rb"\\", b""):
        raise EventError("data", "a string holds NUL, which PostgreSQL cannot store")
    if numbers_are_odd(text):
        _check_numbers(text)
    ingested_at = _time(loaded, "ingested_at", origin.received_at or timestamp)
    if not EARLIEST <= ingested_at <= LATEST:
        raise EventError("ingested_at", f"must be between {EARLIEST:%Y-%m-%d} and {LATEST:%Y-%m-%d}")
    return Event(
        event_id=event_id,
        event_type=event_type,
        player_id=player_id,
        game_id=game_id,
        timestamp=timestamp,
        ingested_at=ingested_at,
        data=text,
        score=score_of(event_type, data, scoring),
    )


def score_of(event_type: str, data: Mapping[str, Any], scoring: Scoring) -> int | None:
    """Return the score of an event, or None if its type does not score. Raises EventError for a bad score."""
    rule = scoring.get(event_type)
    if rule is None:
        return None
    score = data.get(rule.field, rule.default)
    path = f"data.{rule.field}"
    if score is None and rule.field not in data:
        raise EventError(path, f"required for {event_type}")
    if type(score) is not int:
        raise EventError(path, f"must be an integer, not {_kind(score)}")
    if abs(score) > MAX_SCORE:
        raise EventError(path, f"{score} is beyond +-2^53")
    return score


def record_time(milliseconds: int) -> datetime | None:
    """Turn a Kafka record's own time into one, or None if it is none (RECORD_TIMES)."""
    return _UNIX + milliseconds * _MILLISECOND if milliseconds in RECORD_TIMES else None


def record_id(topic: str, partition: int, offset: int) -> uuid.UUID:
    """Return the id of a record that carries none: a UUIDv5 (RFC 9562) of its place, the same at every replay."""
    return uuid.uuid5(RECORD_NAMESPACE, f"{topic}/{partition}/{offset}")


def parse_timestamp(text: str) -> datetime:
    """Read an RFC 3339 time with offset as UTC, cut to microseconds. Raises ValueError."""
    if not _timestamp.match(text):
        raise ValueError(text)
    return datetime.fromisoformat(text.upper()).astimezone(UTC)


def format_timestamp(moment: datetime) -> str:
    """Write a UTC time as the edge does: RFC 3339, always six digits of fraction and Z (TIMESTAMP_SIZE)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# -- rules ---------------------------------------------------------------------------------------------------------


def _refuse_unknown(loaded: dict[str, Any]) -> None:
    for name in loaded:
        if name not in CLIENT_FIELDS:
            raise EventError(name[:100], f"unknown field; an event has {', '.join(sorted(CLIENT_FIELDS))}")


def _matching(loaded: dict[str, Any], field: str, matches: _Matches, rule: str) -> str:
    if field not in loaded:
        raise EventError(field, "required")
    value = loaded[field]
    if not isinstance(value, str):
        raise EventError(field, f"must be a string, not {_kind(value)}")
    if not matches(value):
        raise EventError(field, f"must be {rule}")
    return value


def _time(loaded: dict[str, Any], field: str, missing: datetime | None) -> datetime:
    if field not in loaded:
        if missing is None:
            raise EventError(field, "required, for the record's own time is out of range")
        return missing
    value = loaded[field]
    if not isinstance(value, str):
        raise EventError(field, f"must be a string, not {_kind(value)}")
    try:
        return parse_timestamp(value)
    except (ValueError, OverflowError):
        raise EventError(field, "must be an RFC 3339 time with offset, such as 2026-01-15T10:30:00Z") from None


def _raw_data(raw: bytes) -> bytes:
    """Cut `data` out of an event's bytes. Raises EventError for one so deep that this would exhaust the stack.

    What the loaded object shows is checked by `nests_too_deep`; this is of unknown fields, and of all but the last of
    equal keys, which are passed over. Judged by the bytes alone, or the verdict would depend on the caller's stack.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_OPEN and _depth(raw) > MAX_OPEN:
        raise EventError("", f"nested deeper than {MAX_OPEN}")
    return bytes(_cut_data(raw).data)


def _depth(raw: bytes) -> int:
    brackets = _strings.sub(b"", raw).translate(_STEPS, _NO_BRACKETS)
    return max(itertools.accumulate(memoryview(brackets).cast("b")), default=0)


def nests_too_deep(data: dict[str, Any]) -> bool:
    """Tell whether the `data` of an event is nested too deep for one.

    Levels cannot be told from the bytes alone, for strings hold brackets too, and a walk in Python took as long as all
    else. orjson counts them as it writes: it is given `data` under as many levels as leave room for a good one.
    """
    try:
        orjson.dumps(_COVER, default=lambda _: data)
    except orjson.JSONEncodeError:
        return True
    return False


def numbers_are_odd(data: bytes) -> bool:
    """Tell whether JSON text may hold a number that a double holds and numeric does not; never False if it does."""
    # By `count`: `in` tries first whether it is given a number, which took a tenth of the edge's judging, and `find`
    # takes twice as long. Of positive exponents only a zero's can be long: what else has one is past a double, no JSON.
    if (
        (_MINUS in data and data.count(b"e-"))
        or data.count(b"0e")
        or (_CAPITAL in data and (data.count(b"E-") or data.count(b"0E")))
    ) and _odd_exponent.search(data):
        return True
    return len(data) > _LONG_FRACTION and _odd_fraction.search(data) is not None


def _check_numbers(data: bytes) -> None:
    """Refuse numbers such as 1e-20000 and 0e9999999999, which a double takes for 0 and jsonb does not take.

    In the text and not in what was loaded, for jsonb reads the values of all equal keys, and keeps the last.
    """
    for tail in _odd_tail.findall(_strings.sub(b"", data).lower()):
        fraction, _, exponent = tail.partition(b"e")
        power = exponent.lstrip(b"+-0")
        scale = len(fraction.lstrip(b"."))
        if exponent.startswith(b"-"):
            # An exponent's digits are an event's at most, and more than four of them are too many without reading them.
            scale += int(power[:6] or b"0")
        elif len(power) > MAX_EXPONENT_DIGITS:
            raise EventError("data", f"a number's exponent has more than {MAX_EXPONENT_DIGITS} digits")
        if scale > MAX_SCALE:
            raise EventError("data", f"a number has more than {MAX_SCALE} digits behind the point")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
