"""From the bytes of an event to the record for Kafka.

`pipeline.event.parse_edge` is the judge, exact and slow. Nearly every event is plain: ASCII, no escapes, fields of the
expected types, a time in UTC. For those `Judge` takes a shorter way, which gives up (None) on the least doubt and
leaves the verdict to the judge; a differential test holds both to the same record or refusal for every input.
"""

import re
import uuid
from typing import Annotated, Final

import msgspec
import orjson

from pipeline.api.stamps import Tick
from pipeline.errors import EventError
from pipeline.event import (
    EVENT_TYPE_PATTERN,
    MAX_EVENT_BYTES,
    MAX_ID_CHARACTERS,
    MAX_NESTING,
    UUID_PATTERN,
    Event,
    Origin,
    Scoring,
    format_timestamp,
    may_be_too_fine,
    parse_edge,
    parse_timestamp,
    score_of,
)
from pipeline.ingest import Headers, Record

_BACKSLASH: Final = ord("\\")
_BRACKET: Final = ord("[")
_EARLIEST: Final = "2000-01-01T00:00:00.000000Z"
_REMEMBERED: Final = 4096
_event_type = re.compile(EVENT_TYPE_PATTERN.replace("$", r"\Z"))
_uuid = re.compile(UUID_PATTERN.replace("$", r"\Z"))
_second = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\Z", re.ASCII)

_Given = Annotated[str, msgspec.Meta(min_length=1)]
_Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    event_type: str
    player_id: _Identifier
    game_id: _Identifier
    timestamp: _Given = ""
    event_id: _Given = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Admitted(Record, gc=False, frozen=True):
    """An event that passed: what Kafka gets, and what a reply or a key's game list needs."""

    event_id: str
    timestamp: str
    game_id: str


class Judge:
    """Turns raw events into records. It remembers event types and seconds already found good."""

    __slots__ = ("_decode", "_scoring", "_seconds", "_types")

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._decode = msgspec.json.Decoder(_Plain).decode
        self._types: dict[str, bytes] = {}
        self._seconds: set[str] = set()

    def admit(self, raw: bytes, tick: Tick) -> Admitted:
        """Judge one event. Raises EventError naming the field."""
        return self.admit_plain(raw, tick) or self.admit_exact(raw, tick)

    def admit_exact(self, raw: bytes, tick: Tick) -> Admitted:
        """Judge one event by the reference. Raises EventError naming the field."""
        made = tick.next_id()
        event = parse_edge(raw, Origin(event_id=uuid.UUID(made), received_at=tick.moment), self._scoring)
        admitted = _admitted(event, tick)
        if len(admitted.value) > MAX_EVENT_BYTES:
            raise _too_long(len(admitted.value))
        return admitted

    def admit_plain(self, raw: bytes, tick: Tick) -> Admitted | None:  # noqa: PLR0911 (each a reason to doubt)
        """Judge one event if it is plain and good, and return None otherwise, whatever the reason."""
        # Two "data" keys: the first one's bytes would be skipped without a check. A backslash would let a key or a
        # string be something other than its bytes.
        if len(raw) > MAX_EVENT_BYTES or not raw.isascii() or _BACKSLASH in raw or raw.count(b'"data"') > 1:
            return None
        try:
            plain = self._decode(raw)
            data = bytes(plain.data)
            loaded = orjson.loads(data)
            if (
                may_be_too_fine(data)
                or type(loaded) is not dict
                or (_nests(data) and data.count(b"{") + data.count(b"[") >= MAX_NESTING)
            ):
                return None
            score_of(plain.event_type, loaded, self._scoring)
        except (msgspec.MsgspecError, orjson.JSONDecodeError, EventError, RecursionError):
            return None
        kind = self._types.get(plain.event_type) or self._learn_type(plain.event_type)
        player_id, game_id = plain.player_id, plain.game_id
        timestamp = self._normal(plain.timestamp, tick) if plain.timestamp else None if plain.event_id else tick.text
        # In ASCII, what is not printable is what the identifiers' rule forbids: the controls and DEL.
        if not kind or timestamp is None or not player_id.isprintable() or not game_id.isprintable():
            return None
        event_id = plain.event_id
        if not event_id:
            event_id = tick.next_id()
        elif _uuid.match(event_id):
            event_id = event_id.lower()
        else:
            return None
        value = (
            f'{{"event_type":"{plain.event_type}","player_id":"{player_id}","game_id":"{game_id}","event_id":"{event_id}",'
            f'"timestamp":"{timestamp}","ingested_at":"{tick.text}","data":'
        ).encode() + data + b"}"  # fmt: skip
        if len(value) > MAX_EVENT_BYTES:
            return None
        headers: Headers = [("event_type", kind), ("event_id", event_id.encode())]
        return Admitted(player_id.encode(), value, headers, event_id, timestamp, game_id)

    def _learn_type(self, event_type: str) -> bytes | None:
        if not _event_type.match(event_type):
            return None
        if len(self._types) >= _REMEMBERED:
            self._types.clear()
        return self._types.setdefault(event_type, event_type.encode())

    def _normal(self, text: str, tick: Tick) -> str | None:
        """Write a UTC time of whole, milli- or microseconds in the 27 characters of format_timestamp."""
        second = text[:19]
        if second not in self._seconds and not self._learn_second(second):
            return None
        size = len(text)
        if size == len("2000-01-01T00:00:00.000Z") and text[19] == "." and text[23] == "Z" and text[20:23].isdigit():
            normal = text[:23] + "000Z"
        elif size == len(_EARLIEST) and text[19] == "." and text[26] == "Z" and text[20:26].isdigit():
            normal = text
        elif text[19:] == "Z":
            normal = second + ".000000Z"
        else:
            return None
        # Of one length and form, texts order as the times they mean.
        return normal if _EARLIEST <= normal <= tick.latest else None

    def _learn_second(self, second: str) -> bool:
        if not _second.match(second):
            return False
        try:
            parse_timestamp(second + "Z")
        except ValueError:
            return False
        if len(self._seconds) >= _REMEMBERED:
            self._seconds.clear()
        self._seconds.add(second)
        return True


def _nests(data: bytes) -> bool:
    """Tell whether an object may hold another object or an array."""
    return _BRACKET in data or data.find(b"{", 1) >= 0


def _admitted(event: Event, tick: Tick) -> Admitted:
    event_id, timestamp = str(event.event_id), format_timestamp(event.timestamp)
    fields = {
        "event_type": event.event_type,
        "player_id": event.player_id,
        "game_id": event.game_id,
        "event_id": event_id,
        "timestamp": timestamp,
        "ingested_at": tick.text,
    }
    value = b"".join((orjson.dumps(fields)[:-1], b',"data":', event.data, b"}"))
    headers: Headers = [("event_type", event.event_type.encode()), ("event_id", event_id.encode())]
    return Admitted(event.player_id.encode(), value, headers, event_id, timestamp, event.game_id)


def _too_long(size: int) -> EventError:
    return EventError("", f"{size} bytes with its id and times; an event has at most {MAX_EVENT_BYTES}")
