"""What a consumer process does: one role for all projections, or the guide's three, one each.

polars is not imported: the edge asks whose dead letters are whose.
"""

from dataclasses import dataclass
from typing import Final, Literal

Projection = Literal["events", "stats", "leaderboard"]
RoleName = Literal["all", "logger", "stats", "leaderboard"]

IDENTITY: Final = ("player_id", "event_timestamp", "event_id")
EVENT_COLUMNS: Final = (
    "event_id", "event_type", "player_id", "game_id", "event_timestamp", "ingested_at", "data",
)  # fmt: skip
"""The columns of the ledgers: of those that hold identities only, and of `events`."""


@dataclass(frozen=True, slots=True)
class Role:
    """A set of projections, the consumer group that reads for them, and the table that remembers identities."""

    name: RoleName
    service: str
    group_id: str
    projections: frozenset[Projection]
    ledger: str
    ledger_columns: tuple[str, ...]

    @property
    def uses_redis(self) -> bool:
        """Whether the role keeps counters in Redis."""
        return bool(self.projections & {"stats", "leaderboard"})


ROLES: Final[dict[RoleName, Role]] = {
    role.name: role
    for role in (
        Role(
            "all",
            "event-consumer",
            "event-pipeline-group",
            frozenset({"events", "stats", "leaderboard"}),
            "events",
            EVENT_COLUMNS,
        ),
        Role("logger", "event-consumer-logger", "event-logger-group", frozenset({"events"}), "events", EVENT_COLUMNS),
        Role("stats", "event-consumer-stats", "event-stats-group", frozenset({"stats"}), "stats_ledger", IDENTITY),
        Role(
            "leaderboard",
            "event-consumer-leaderboard",
            "event-leaderboard-group",
            frozenset({"leaderboard"}),
            "leaderboard_ledger",
            IDENTITY,
        ),
    )
}
