"""What is told of an event, as types: the API's reply, and what `gamemetrics trace --json` prints."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Fate = Literal["counted", "duplicate", "dead_letter", "not_read", "unknown", "expired", "refused"]
Step = Literal["acknowledged", "read", "counted", "redis"]
State = Literal["done", "waiting", "none"]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Hop(msgspec.Struct, frozen=True):
    """A step on the way of an event."""

    hop: Step
    state: Annotated[State, Meta(description="none: it does not come to that, or nobody knows")]
    at: Annotated[Moment | None, Meta(description="When; null if no time is kept of it")]
    after_ms: Annotated[float | None, Meta(description="Milliseconds since the hop before it whose time is known")]
    detail: str


class Counted(msgspec.Struct, frozen=True):
    """What an event added to a player's statistics."""

    event_type: str
    added: int


class Scored(msgspec.Struct, frozen=True):
    """What an event added to a board, by its key in Redis, and by what that is made of."""

    key: str
    added: int
    game_id: str
    period: str
    stamp: Annotated[str | None, Meta(description="Which day or week, as its key ends; null of all time")]
    first_day: Annotated[
        str | None,
        Meta(description="A `date` to ask for it by; null of all time", extra_json_schema={"format": "date"}),
    ]


class Effects(msgspec.Struct, frozen=True):
    """What an event added."""

    statistics: list[Counted]
    boards: list[Scored]


class RecordPlace(msgspec.Struct, frozen=True):
    """A record of the topic."""

    partition: int
    offset: int


class LetterTold(msgspec.Struct, frozen=True):
    """The dead letter that an event became."""

    id: int
    code: str
    error: str


class Behind(msgspec.Struct, frozen=True):
    """How far the consumer is from an event: what it reads until it has it, and how long that has waited."""

    records: int
    seconds: float | None


class Trail(msgspec.Struct, frozen=True):
    """What became of an event, and the way that it went."""

    player_id: str
    event_id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    timestamp: Annotated[Moment | None, Meta(description="The event's time; null if it is not known")]
    fate: Fate
    summary: Annotated[str, Meta(description="The same in a sentence")]
    hops: list[Hop]
    effects: Effects
    duplicate_of: Annotated[RecordPlace | None, Meta(description="The record that was counted in its place")]
    dead_letter: LetterTold | None
    lag: Annotated[Behind | None, Meta(description="Of an event that is not read yet")]
