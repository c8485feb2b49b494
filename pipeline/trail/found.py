"""What was found of an event, before anybody says what it means."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pipeline.contract.event import Event
from pipeline.contract.offsets import Watermark

Position = tuple[int, int]
"""A partition and an offset."""

_SAME: Final = timedelta(milliseconds=1)
_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMED: Final = 7  # the version of UUIDs whose first 48 bits are milliseconds since 1970 (RFC 9562)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which event: its time if it is known, and where records of it are said to lie."""

    player_id: str
    event_id: uuid.UUID
    timestamp: datetime | None = None
    positions: tuple[Position, ...] = ()

    @property
    def made_at(self) -> datetime | None:
        """When the id was made, if it tells; the edge's own do. No proof: anybody may write any id."""
        if self.event_id.version != _TIMED:
            return None
        return _UNIX + timedelta(milliseconds=self.event_id.int >> 80)


@dataclass(frozen=True, slots=True)
class Row:
    """The event's row in `events`. Its epoch is one transaction, which began at `created_at`."""

    event_timestamp: datetime
    event_type: str
    game_id: str
    ingested_at: datetime
    data: Mapping[str, Any]
    created_at: datetime
    committed_at: datetime | None


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record of the topic that holds the event; `event` is None if the judge refuses it."""

    partition: int
    offset: int
    moment: datetime | None
    game_id: str | None
    event: Event | None

    @property
    def position(self) -> Position:
        """Where it lies."""
        return self.partition, self.offset


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """A dead letter; `written` is its record's own time."""

    id: int
    service: str
    code: str
    error: str
    position: Position
    written: datetime
    game_id: str | None
    timestamp: datetime | None
    created_at: datetime
    redriven_at: datetime | None
    dropped_at: datetime | None

    def is_of(self, record: FoundRecord) -> bool:
        """Whether it is of a record: one of its place, and of its time, for a topic made anew gives offsets again."""
        same = record.moment is None or abs(self.written - record.moment) <= _SAME
        return same and record.position == self.position


@dataclass(frozen=True, slots=True)
class GroupStanding:
    """Where a group stands in the partition of the event, and whether it has counted it.

    `redis` is the offset below which all is in Redis: None for a group that has no counters there, or if it is not
    known; `redis_fault` says why.
    """

    id: str
    projections: frozenset[str]
    mark: Watermark | None
    counted: bool
    redis: int | None = None
    redis_fault: str = ""

    @property
    def counters(self) -> bool:
        """Whether it keeps counters in Redis."""
        return bool(self.projections & {"stats", "leaderboard"})


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found of an event.

    `record` is the one that is asked about, `original` the one that was counted. `events_since` and `log_since` are
    what is kept; `searched` says where it was looked for in the topic, and `log_fault` why that was not all.
    """

    timestamp: datetime | None = None
    row: Row | None = None
    record: FoundRecord | None = None
    original: FoundRecord | None = None
    letter: FoundLetter | None = None
    groups: tuple[GroupStanding, ...] = ()
    events_since: datetime | None = None
    log_since: datetime | None = None
    searched: str = ""
    log_fault: str = ""
    alike: int = field(default=0)
    """How many other events of the player have the id, with another time."""

    @property
    def counted(self) -> bool:
        """Whether some group has counted it."""
        return self.row is not None or any(one.counted for one in self.groups)

    @property
    def game_id(self) -> str | None:
        """The game of the event, if it is known."""
        if self.row is not None:
            return self.row.game_id
        if self.record is not None:
            return self.record.game_id
        return self.letter.game_id if self.letter is not None else None
