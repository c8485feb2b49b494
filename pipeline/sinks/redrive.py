"""A dead letter as it is read to be looked at or sent again, and what is sent in its place.

It keeps the identity it had: if it carried no event_id or no timestamp, it is given those of its first place in the
topic, so that sending it twice, or again after only some of several were acknowledged, is one event. If that place
has no time either (a record's own may be any number), it is the time at which the first service met it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, LiteralString, NamedTuple

import orjson

from pipeline.contract.event import EARLIEST, LATEST, format_timestamp, record_id

LETTER: Final[LiteralString] = (
    "id, created_at, consumer_service, code, error_message, topic, partition, record_offset, record_timestamp,"
    " record_key, record_value, original_event, redriven_at, dropped_at, (SELECT min(same.created_at)"
    " FROM dlq_events AS same WHERE (same.topic, same.partition, same.record_offset, same.record_timestamp)"
    " = (dlq_events.topic, dlq_events.partition, dlq_events.record_offset, dlq_events.record_timestamp)) AS first_met"
)
"""The columns of a `Letter`, in their order."""

VALUE_SIZE: Final[LiteralString] = "coalesce(octet_length(record_value), 0)"
"""How many bytes the value is; past MAX_EVENT_BYTES it is never sent: it would come back."""

SIZE: Final[LiteralString] = f"{VALUE_SIZE} + coalesce(octet_length(record_key), 0) + octet_length(original_event)"
"""How many bytes the letter is."""

WAITING: Final[LiteralString] = "redriven_at IS NULL AND dropped_at IS NULL"


MOST_REASON: Final = 1_000
"""How many characters a reason may have."""

NOTED: Final[LiteralString] = "INSERT INTO pipeline_audit (actor, action, reason, what, count)"
MARK: Final[LiteralString] = f"""
WITH sent AS (SELECT * FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::timestamptz[])
              AS one(topic, partition, record_offset, record_timestamp)),
marked AS (UPDATE dlq_events AS letter SET redriven_at = now() FROM sent
           WHERE letter.topic = sent.topic AND letter.partition = sent.partition
             AND letter.record_offset = sent.record_offset AND letter.record_timestamp = sent.record_timestamp
             AND letter.dropped_at IS NULL),
noted AS ({NOTED} VALUES (%s, %s, %s, %s::jsonb, %s))
SELECT count(*) FROM sent
"""  # noqa: S608 - constants of ours
"""Marks the letters of records that were sent, and notes it, in one statement; its parameters are `marking`'s."""

Action = Literal["redrive", "drop"]


class Author(NamedTuple):
    """Who does what, why, and to which letters (JSON): a row of the audit but for how many."""

    actor: str
    action: Action
    reason: str
    what: str


class Place(NamedTuple):
    """Which record a letter is of: its own time too, for a topic that is made anew gives its offsets out again."""

    topic: str
    partition: int
    record_offset: int
    record_timestamp: datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """One row of dlq_events; `first_met` is when the first service wrote one for the same record."""

    id: int
    created_at: datetime
    consumer_service: str
    code: str
    error_message: str
    topic: str
    partition: int
    record_offset: int
    record_timestamp: datetime
    record_key: bytes | None
    record_value: bytes | None
    original_event: str
    redriven_at: datetime | None
    dropped_at: datetime | None
    first_met: datetime

    @property
    def place(self) -> Place:
        """The record that it is of; letters of several services may be of one."""
        return Place(self.topic, self.partition, self.record_offset, self.record_timestamp)

    @property
    def state(self) -> str:
        """What became of it: open, redriven or dropped."""
        if self.dropped_at is not None:
            return "dropped"
        return "open" if self.redriven_at is None else "redriven"


def marking(places: Iterable[Place], author: Author) -> list[object]:
    """Return the parameters of MARK for some places, at least one."""
    columns = [list(column) for column in zip(*sorted(places), strict=True)]
    return [*columns, *author, len(columns[0])]


def mended(letter: Letter) -> tuple[bytes | None, list[tuple[str, str | bytes | None]]]:
    """Return the value to send, with its identity spliced in if it lacks one, and the headers that the edge sets.

    The bytes are not written anew: a value that JSON readers disagree about must come back as it was.
    """
    value = letter.record_value
    loaded = _object(value)
    if value is None or loaded is None:
        return value, []
    added = {}
    if "event_id" not in loaded:
        added["event_id"] = str(record_id(letter.topic, letter.partition, letter.record_offset))
    if "timestamp" not in loaded:
        own = letter.record_timestamp
        moment = own if EARLIEST <= own <= LATEST else letter.first_met
        added["timestamp"] = format_timestamp(moment.astimezone(UTC))
    if added:
        body = value.rstrip()[:-1]  # an object ends with its brace
        value = body + (b"," if loaded else b"") + orjson.dumps(added)[1:]
    named = {**loaded, **added}
    headers = [(name, named[name]) for name in ("event_type", "event_id") if isinstance(named.get(name), str)]
    return value, [(name, text.encode()) for name, text in headers]


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        loaded = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return loaded if isinstance(loaded, dict) else None
