"""Housekeeping: day partitions made and dropped, boards settled.

On a connection of its own, and never waiting long for a lock: it is no condition of ingestion, and who waits for a lock
has others wait behind him. Each step is a transaction, so that the locks of one are gone before the next.
"""

from typing import Final, Literal

from psycopg import sql

from pipeline.config import Settings
from pipeline.epoch.roles import Role
from pipeline.errors import UnavailableError
from pipeline.sinks.connection import Held
from pipeline.sinks.days import clocks_apart
from pipeline.sinks.postgres import SETTLING_LOCK

Chore = Literal["make", "drop", "settle"]

PATIENCE_MS: Final = 200
"""How long a step waits for a lock. Also set by the functions themselves (migrations/), for whoever else calls them."""


class Housekeeping:
    """Sees to the tables of one role. One thread."""

    def __init__(self, settings: Settings, role: Role) -> None:
        ledger = sql.Literal(role.ledger)
        self._held = Held(settings, f"{role.service}-housekeeping")
        self._steps: dict[Chore, sql.Composed] = {
            "make": sql.SQL("SELECT make_day_partitions({}, {})").format(ledger, settings.partition_days_ahead)
        }
        if keep := settings.events_keep_days:
            self._steps["drop"] = sql.SQL("SELECT drop_day_partitions({}, {})").format(ledger, keep)
        if "leaderboard" in role.projections:
            self._steps["settle"] = sql.SQL("SELECT settle_boards({})").format(SETTLING_LOCK)

    @property
    def chores(self) -> tuple[Chore, ...]:
        """What there is to do."""
        return tuple(self._steps)

    def close(self) -> None:
        """Close the connection."""
        self._held.close()

    def step(self, chore: Chore) -> bool:
        """Do a little of a chore, if something is due; whether there may be more of it.

        Raises UnavailableError if somebody is in its way, and while PostgreSQL's clock and this process's differ: a
        clock that leapt would let days go that are wanted, or make partitions of years.
        """
        with self._held.use() as connection, connection.transaction():
            if apart := clocks_apart(connection):
                raise UnavailableError(apart)
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(PATIENCE_MS))
            row = connection.execute(self._steps[chore]).fetchone()
        return row is not None and bool(row[0])
