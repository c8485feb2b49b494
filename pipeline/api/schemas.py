"""What requests and replies hold, as types: handlers build them, and the OpenAPI document is made of them.

What a POST answers is built as bytes, for speed, and a test reads it back as these types. A struct's docstring and the
descriptions of its fields are published as they are.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipeline.contract import event
from pipeline.contract.boards import PERIODS
from pipeline.trail.told import Trail as Trail  # noqa: PLC0414 - published with what the API defines itself

MOST_EVENT_TYPES: Final = 1000
"""In one reply: how many types a player's events have is the sender's choice."""
EXAMPLE_TIME: Final = "2024-01-15T10:35:00Z"
EXAMPLE_PLAYER: Final = "player-test-001"
EXAMPLE_GAME: Final = "game-test-001"
EXAMPLE_DAY: Final = event.parse_timestamp(EXAMPLE_TIME).date()

Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Rank = Annotated[int, Meta(ge=1)]
Label = Annotated[str, Meta(description=" or ".join(period.label(EXAMPLE_DAY) for period in PERIODS.values()))]

_IDENTIFIER: Final = Meta(min_length=1, max_length=event.MAX_ID_CHARACTERS, pattern=event.ID_PATTERN)
Identifier = Annotated[str, _IDENTIFIER]


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """One thing that a player did in a game."""

    event_type: Annotated[str, Meta(pattern=event.EVENT_TYPE_PATTERN, examples=["player_score"])]
    player_id: Annotated[Identifier, Meta(examples=[EXAMPLE_PLAYER])]
    game_id: Annotated[Identifier, Meta(examples=[EXAMPLE_GAME])]
    timestamp: (
        Annotated[
            Time,
            Meta(
                pattern=event.TIMESTAMP_PATTERN,
                description=f"RFC 3339 with offset, from the year {event.EARLIEST.year} to "
                f"{event.MAX_AHEAD.total_seconds() / 3600:.0f} hours ahead; missing: the server's time",
                examples=[EXAMPLE_TIME],
            ),
        ]
        | UnsetType
    ) = UNSET
    event_id: (
        Annotated[
            Uuid,
            Meta(
                pattern=event.UUID_PATTERN,
                description="Missing: the server makes a UUIDv7. With it, timestamp is required",
            ),
        ]
        | UnsetType
    ) = UNSET
    data: (
        Annotated[
            dict[str, Any],
            Meta(
                description=f"Missing: {{}}. The whole event has at most {event.MAX_EVENT_BYTES} bytes and "
                f"{event.MAX_NESTING} levels; no NUL, and numbers are finite."
            ),
        ]
        | UnsetType
    ) = UNSET


class Accepted(msgspec.Struct):
    """Every in-sync replica of Kafka has the event."""

    status: Literal["success"]
    event_id: Uuid


class Rejected(msgspec.Struct):
    """An event of a batch that breaks the contract, by its place in the request."""

    index: int
    error: str


class Unconfirmed(msgspec.Struct):
    """An event of a batch that may have been stored or not: sent again with these, it counts once."""

    index: int
    event_id: Uuid
    timestamp: Time


class BatchResult(msgspec.Struct):
    """What became of each event of a batch."""

    accepted: int
    rejected: list[Rejected]
    event_ids: list[Uuid | None]
    error: str | UnsetType = UNSET
    unconfirmed: list[Unconfirmed] | UnsetType = UNSET


class Statistics(msgspec.Struct, frozen=True):
    """A player's counters: events in all, events by type, the time of the last one."""

    player_id: str
    total_events: int
    events: Annotated[dict[str, int], Meta(description=f"Events by type, of at most {MOST_EVENT_TYPES} types")]
    last_event: Time | None
    types_left_out: Annotated[int, Meta(description="How many more types there are; missing: none")] | UnsetType = UNSET


class Entry(msgspec.Struct, frozen=True):
    """One place on a board; rank 1 is the best."""

    rank: Rank
    player_id: str
    score: int


class Board(msgspec.Struct, frozen=True):
    """A page of a board."""

    game_id: str
    period: Label
    total: Annotated[int, Meta(description="How many players are on the board")]
    entries: list[Entry]
    next_offset: Annotated[int | None, Meta(description="Where the next page starts; null after the last")]


class Place(msgspec.Struct, frozen=True):
    """A player's place on a board, and its neighbours, itself among them."""

    game_id: str
    period: Label
    player_id: str
    rank: Rank
    score: int
    total: int
    neighbours: list[Entry]


class RefusedEvent(msgspec.Struct, frozen=True):
    """An event that was refused: when, of which key and why, and which it was as far as it said so itself."""

    at: Time
    key: Annotated[str, Meta(description="The name of the key that sent it")]
    reason: Annotated[str, Meta(description="What its sender was told")]
    field: Annotated[str, Meta(description="The field at fault; empty if it is the event or the body as a whole")]
    event_type: str | None
    player_id: str | None
    event_id: str | None
    game_id: str | None
    data: Annotated[Any, Meta(description="The kinds and lengths of its values in their places; no value is kept")]


class RefusedEvents(msgspec.Struct, frozen=True):
    """The last refusals of some keys, the newest first."""

    refusals: list[RefusedEvent]


class Status(msgspec.Struct):
    """How the process stands."""

    status: Literal["live", "ready", "unavailable"]
    error: str | UnsetType = UNSET


class Error(msgspec.Struct):
    """Why a request was not answered as it was meant."""

    error: Annotated[str, Meta(description="What is wrong, with the field's or parameter's name first")]
    event_id: Annotated[Uuid, Meta(description="503 unconfirmed: send it again with this")] | UnsetType = UNSET
    timestamp: Annotated[Time, Meta(description="503 unconfirmed: and with this")] | UnsetType = UNSET
