"""The days for which a ledger has partitions, and the clock that they go by."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl
import psycopg
from psycopg import sql

from pipeline.epoch.roles import Role

CLOCKS_APART: Final = timedelta(hours=1)
"""How far PostgreSQL's clock may be from the consumer's for work that goes by it."""

_A_DAY: Final = timedelta(days=1)
_FOREVER: Final = 1_000_000
_FOUND: Final = (
    "SELECT array_agg(lower_bound ORDER BY lower_bound), max(upper_bound) FROM day_partitions"
    " WHERE parent = {}::regclass AND upper_bound > date_trunc('day', now()) - make_interval(days => {})"
)


@dataclass(frozen=True, slots=True)
class Days:
    """The time that a ledger's partitions cover, [start, end), and where each of them begins, in order (UTC).

    Without those that retention is about to drop. `apart` says how far PostgreSQL's clock is from this process's,
    if that is too far; empty otherwise.
    """

    start: datetime
    end: datetime
    begins: pl.Series
    apart: str = ""

    @property
    def left(self) -> timedelta:
        """How far ahead of now there are partitions."""
        return self.end - datetime.now(UTC)

    @property
    def lacking(self) -> str:
        """Why valid events could meet no partition, which a day ahead may be; empty if none does."""
        if self.left >= _A_DAY:
            return ""
        return f"{self.apart or 'day partitions were not made'}, and no partition holds today's events"

    def numbers(self, events: pl.DataFrame) -> pl.Series:
        """Return the number of each event's partition, from 1 on; 0 stands for none."""
        return self.begins.search_sorted(events["event_timestamp"], side="right")

    def few(self, events: pl.DataFrame, most: int) -> bool:
        """Whether events lie in so many partitions at most; may deny it of those that lie wide apart."""
        if not len(events):
            return True
        times = events["event_timestamp"]
        ends = self.begins.search_sorted(pl.Series([times.min(), times.max()], dtype=times.dtype), side="right")
        return int(ends[1]) - int(ends[0]) < most

    def ranges(self, events: pl.DataFrame) -> list[tuple[datetime, datetime]]:
        """Return the bounds of the partitions in which events lie; neighbours together."""
        bounds = [*self.begins.to_list(), self.end]
        found = list[tuple[datetime, datetime]]()
        for number in self.numbers(events).unique().sort():
            first, stop = bounds[number - 1], bounds[number]
            if found and found[-1][1] == first:
                first = found.pop()[0]
            found.append((first, stop))
        return found


def clocks_apart(connection: psycopg.Connection) -> str:
    """Say how far PostgreSQL's clock is from ours if that is too far; empty if they agree.

    Its time is that of the transaction: what is done in the same one goes by the clock that was compared.
    """
    row = connection.execute("SELECT now()").fetchone()
    ahead = row[0] - datetime.now(UTC) if row is not None else timedelta()
    if abs(ahead) <= CLOCKS_APART:
        return ""
    which = "ahead of" if ahead > timedelta() else "behind"
    return f"PostgreSQL's clock is {abs(ahead)} {which} the consumer's; they may differ by {CLOCKS_APART}"


def read_days(connection: psycopg.Connection, role: Role, keep: int) -> Days:
    """Read which days a role's ledger covers; `keep` is for how many days past (0: for ever).

    Locks no partition. A clock that leapt leaves no day out.
    """
    with connection.transaction():
        apart = clocks_apart(connection)
        kept = keep if keep and not apart else _FOREVER
        row = connection.execute(sql.SQL(_FOUND).format(sql.Literal(role.ledger), sql.Literal(kept))).fetchone()
    begins, end = row if row is not None else (None, None)
    if not begins or end is None:
        begins, end = [], datetime.min.replace(tzinfo=UTC)
    starts = pl.Series(begins, dtype=pl.Datetime("us", "UTC"))
    return Days(begins[0].astimezone(UTC) if begins else end, end.astimezone(UTC), starts, apart)
