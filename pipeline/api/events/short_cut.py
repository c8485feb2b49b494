"""From the bytes of an event to the record for Kafka.

`contract.event.parse_edge` is the judge, exact and slow. `ShortCut` takes a shorter way, which gives up (None) on the
least doubt and leaves the verdict to the judge; a differential test holds both to the same record or refusal for every
input. What it doubts is narrow, so that no ordinary event is slow, whatever its alphabet, escapes, numbers, nesting or
clock: orjson vouches for the whole as JSON, msgspec for the fields' types and the cut of `data`.
"""

import uuid
from typing import Annotated, Any, Final

import msgspec
import orjson

from pipeline.api.events.stamps import Tick
from pipeline.contract.event import (
    EARLIEST,
    MAX_EVENT_BYTES,
    MAX_ID_CHARACTERS,
    MAX_NESTING,
    MAX_OPEN,
    MAX_SCORE,
    Event,
    Origin,
    ScoreRule,
    Scoring,
    format_timestamp,
    is_event_type,
    is_identifier,
    is_uuid,
    nests_too_deep,
    numbers_are_odd,
    parse_edge,
    parse_timestamp,
)
from pipeline.errors import EventError
from pipeline.kafka.producer import Headers, Record

_BACKSLASH: Final = ord("\\")
_BRACKET: Final = ord("[")
_NUL: Final = rb"\u0000"
_NOTHING: Final = dict[str, Any]()
_REMEMBERED: Final = 4096
_REST: Final = ("", "", "00000Z", "0000Z", "000Z", "00Z", "0Z", "Z", "Z", "Z", "Z")
"""What makes a fraction six digits and Z, by its length with the point: one to nine digits, of which six are kept."""

_Given = Annotated[str, msgspec.Meta(min_length=1)]
_Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    event_type: str
    player_id: _Identifier
    game_id: _Identifier
    timestamp: _Given = ""
    event_id: _Given = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


_Kind = tuple[tuple[str, bytes], ScoreRule | None]
"""What is known of an event type: the header that names it, and how it scores."""


class Accepted(Record, gc=False, frozen=True):
    """An event that passed: what Kafka gets, and what a reply or a key's game list needs."""

    event_id: str
    timestamp: str
    game_id: str


class ShortCut:
    """Turns raw events into records. It remembers event types and seconds already found good."""

    __slots__ = ("_decode", "_scoring", "_seconds", "_types")

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._decode = msgspec.json.Decoder(_Plain).decode
        self._types: dict[str, _Kind] = {}
        self._seconds: dict[str, str] = {}

    def accept(self, raw: bytes, tick: Tick) -> Accepted:
        """Judge one event. Raises EventError naming the field."""
        return self.accept_plain(raw, tick) or self.accept_exact(raw, tick)

    def accept_exact(self, raw: bytes, tick: Tick) -> Accepted:
        """Judge one event by the reference. Raises EventError naming the field."""
        made = tick.next_id()
        event = parse_edge(raw, Origin(event_id=uuid.UUID(made), received_at=tick.moment), self._scoring)
        accepted = _accepted(event, tick)
        if len(accepted.value) > MAX_EVENT_BYTES:
            raise _too_long(len(accepted.value))
        return accepted

    def accept_plain(self, raw: bytes, tick: Tick) -> Accepted | None:  # noqa: C901, PLR0911 - each a reason to doubt
        """Judge one event if it is good and not suspect, and return None otherwise, whatever the reason."""
        if len(raw) > MAX_EVENT_BYTES:
            return None
        try:
            # The whole body, not only `data`: msgspec skips the first of two "data" keys, however spelled, unchecked.
            loaded = orjson.loads(raw)
            plain = self._decode(raw)
        except (orjson.JSONDecodeError, msgspec.MsgspecError, RecursionError):
            return None
        data = loaded.get("data", _NOTHING)
        kind = self._types.get(plain.event_type) or self._learn_type(plain.event_type)
        if type(data) is not dict or kind is None:
            return None
        header, rule = kind
        if rule is not None:
            # What `score_of` finds good, without a call: it was a fortieth of the whole.
            score = data.get(rule.field, rule.default)
            if type(score) is not int or abs(score) > MAX_SCORE:
                return None
        escaped = _BACKSLASH in raw
        brackets = raw.count(b"{") + (raw.count(b"[") if _BRACKET in raw else 0)
        if (escaped and _NUL in raw) or (brackets > MAX_NESTING and nests_too_deep(data)):
            return None
        # The first of two "data" keys may be the deep one.
        if brackets > MAX_OPEN and (escaped or raw.count(b'"data"') > 1):
            return None
        text = bytes(plain.data)
        if numbers_are_odd(text):
            return None
        event_id, player_id, game_id = plain.event_id, plain.player_id, plain.game_id
        timestamp = self._normal(plain.timestamp, tick) if plain.timestamp else None if event_id else tick.text
        if timestamp is None or (event_id and not is_uuid(event_id)):
            return None
        # What is printable holds no control character; some of what is not (a zero width joiner) is none either.
        if not ((player_id.isprintable() and game_id.isprintable()) or _are_identifiers(player_id, game_id)):
            return None
        event_id = event_id.lower() if event_id else tick.next_id()
        player, game = player_id, game_id
        if escaped:
            player, game = _escape(player_id), _escape(game_id)
        head = (
            f'{{"event_type":"{plain.event_type}","player_id":"{player}","game_id":"{game}","event_id":"{event_id}",'
            f'"timestamp":"{timestamp}","ingested_at":"{tick.text}","data":'
        )
        value = b"".join((head.encode(), text, b"}"))
        if len(value) > MAX_EVENT_BYTES:
            return None
        headers: Headers = [header, ("event_id", event_id.encode())]
        return Accepted(player_id.encode(), value, headers, tick.milliseconds, event_id, timestamp, game_id)

    def _learn_type(self, event_type: str) -> _Kind | None:
        if not is_event_type(event_type):
            return None
        if len(self._types) >= _REMEMBERED:
            self._types.clear()
        kind = ("event_type", event_type.encode()), self._scoring.get(event_type)
        return self._types.setdefault(event_type, kind)

    def _normal(self, text: str, tick: Tick) -> str | None:
        """Write a time as format_timestamp does, cut to microseconds."""
        if text[-1] in "Zz":
            given, fraction = text[:19], text[19:-1]
        else:
            given, fraction = text[:19] + text[-6:], text[19:-6]
        second = self._seconds.get(given) or self._learn_second(given)
        if second is None:
            return None
        size = len(fraction)
        if not size:
            normal = second + ".000000Z"
        elif size < len(_REST) and fraction[0] == "." and fraction[1:].isdigit() and fraction.isascii():
            normal = second + fraction[:7] + _REST[size]
        else:
            return None
        # Of one length and form, texts order as the times they mean.
        return normal if normal <= tick.latest else None

    def _learn_second(self, given: str) -> str | None:
        """Write a second such as `2026-11-18T10:30:00+02:00` (or without offset: UTC) as `2026-11-18T08:30:00`, in UTC.

        What holds for a second holds for its fractions, but for 24:00:00: newer Pythons read it as the next midnight,
        and refuse what is later.
        """
        try:
            moment = parse_timestamp(given if len(given) > len("2026-11-18T10:30:00") else given + "Z")
        except (ValueError, OverflowError):
            return None
        if moment < EARLIEST or given[11:13] == "24":
            return None
        if len(self._seconds) >= _REMEMBERED:
            self._seconds.clear()
        return self._seconds.setdefault(given, format_timestamp(moment)[:19])


def _are_identifiers(*texts: str) -> bool:
    return all(map(is_identifier, texts))


def _escape(text: str) -> str:
    """Write an identifier, which holds no control character, as the inside of a JSON string."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _accepted(event: Event, tick: Tick) -> Accepted:
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
    return Accepted(event.player_id.encode(), value, headers, tick.milliseconds, event_id, timestamp, event.game_id)


def _too_long(size: int) -> EventError:
    return EventError("", f"{size} bytes with its id and times; an event has at most {MAX_EVENT_BYTES}")
