"""What a consumer process does: one role for all projections, or the guide's three, one each."""

from dataclasses import dataclass
from typing import Final, Literal

from pipeline.epoch.frame import EVENT_COLUMNS, IDENTITY

Projection = Literal["events", "stats", "leaderboard"]
RoleName = Literal["all", "logger", "stats", "leaderboard"]


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
