"""Statistics and boards outside the pipeline: the periods of boards, and the names of keys and fields in Redis.

Who writes, reads, fills or checks them asks here: Python by functions of a day, polars by the same as expressions, SQL
by what it is composed of; the API tells a board's name and days. Three places cannot ask, and tests hold them to this
one: `sinks/apply.lua`, the view `leaderboards` in migrations/, and the console's words for periods, in `periods.js`.
polars is not imported: the edge does without it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, LiteralString

from pipeline.contract.event import format_timestamp
from pipeline.contract.names import is_text

if TYPE_CHECKING:
    import polars as pl

_SECONDS_A_DAY: Final = 86_400
_UNIX: Final = date(1970, 1, 1)
_MONDAY: Final = 1  # as ISO 8601, polars and PostgreSQL's isodow count

# -- periods -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Period:
    """What a board is of: all time, or each day, or each ISO week (Monday to Sunday), in UTC.

    days: its length; 0 for all time, which has no days and never ends.
    stamp: the name of one by any of its days, in strftime's letters as polars reads them.
    sql_first_day: its first day, from a column `day`.
    """

    name: str
    days: int
    stamp: str
    sql_first_day: LiteralString

    @property
    def dated(self) -> bool:
        """Whether it ends, and its boards with it."""
        return self.days > 0

    def first_day(self, day: date) -> date:
        """Return the first day of the period that a day is in; of all time, date.min."""
        if not self.dated:
            return date.min
        return day - timedelta(days=day.isoweekday() - _MONDAY) if self.days > 1 else day

    def last_day(self, day: date) -> date:
        """Return the last day of the period that a day is in; of all time, date.max."""
        first = self.first_day(day)
        return first + min(timedelta(days=self.days - 1), date.max - first) if self.dated else date.max

    def first_days(self, day: "pl.Expr") -> "pl.Expr":
        """Return `first_day` of days (Date), where it ends."""
        return day.dt.truncate("1w" if self.days > 1 else "1d")  # polars' weeks begin on Mondays

    def label(self, day: date) -> str:
        """Name the period that a day is in, as boards' keys end: `alltime`, `daily:2026-01-15`, `weekly:2026-W03`."""
        return f"{self.name}:{self.stamp_of(day)}" if self.dated else self.name

    def stamp_of(self, day: date) -> str:
        """Write what follows the name in the label of a day: `2026-01-15`, `2026-W03`, nothing of all time.

        Not by `stamp`: Python's strftime writes years before 1000 with fewer digits.
        """
        if not self.dated:
            return ""
        year, week, _ = day.isocalendar()
        return f"{year:04}-W{week:02}" if self.days > 1 else day.isoformat()

    def stamps(self, day: "pl.Expr") -> "pl.Expr":
        """Write what follows the name in the labels of days (Date)."""
        return day.dt.strftime(self.stamp)

    def labels(self, day: "pl.Expr") -> "pl.Expr":
        """Write the labels of days (Date)."""
        return day.dt.strftime(f"{self.name}:{self.stamp}")

    def gone_on(self, day: date, keep: int) -> date:
        """Return the day on which the board that a day is in leaves Redis, `keep` days after its period."""
        return self.first_day(day) + timedelta(days=self.days + keep)

    def expires_at(self, day: date, keep: int) -> int:
        """Return when the board that a day is in leaves Redis, in Unix seconds."""
        return (self.gone_on(day, keep) - _UNIX).days * _SECONDS_A_DAY

    def expire_at(self, day: "pl.Expr", keep: int) -> "pl.Expr":
        """Return `expires_at` of days (Date)."""
        number = day.to_physical().cast(int)  # days since 1970
        first = number - day.dt.weekday().cast(int) + _MONDAY if self.days > 1 else number
        return (first + self.days + keep) * _SECONDS_A_DAY

    def lives(self, day: date, keep: int, now: datetime) -> bool:
        """Whether the board that a day is in should be in Redis at a time (UTC)."""
        return not self.dated or now.astimezone(UTC).date() < self.gone_on(day, keep)

    def days_back(self, keep: int) -> int:
        """Return how many days before today the oldest day may lie whose board is still in Redis."""
        return self.days + keep - 1


ALLTIME: Final = Period("alltime", 0, "", "NULL::date")
DAILY: Final = Period("daily", 1, "%Y-%m-%d", "day")
WEEKLY: Final = Period("weekly", 7, "%G-W%V", "date_trunc('week', day)::date")
PERIODS: Final = {one.name: one for one in (ALLTIME, DAILY, WEEKLY)}
"""Each score counts once in each."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """How many days a daily and a weekly board stay in Redis after their period; PostgreSQL keeps them."""

    daily_days: int
    weekly_days: int

    def of(self, period: Period) -> int:
        """Return the days of one period's boards; 0 for those that do not expire."""
        return {DAILY: self.daily_days, WEEKLY: self.weekly_days}.get(period, 0)


# -- keys ----------------------------------------------------------------------------------------------------------

_STATS: Final = "player_stats:"
_BOARDS: Final = "leaderboard:"
STATS_KEYS: Final = f"{_STATS}*"
BOARD_KEYS: Final = f"{_BOARDS}*"
_FILLING: Final = "pipeline:filling:"
FILLING_KEYS: Final = f"{_FILLING}*"


def stats_key(player_id: str) -> str:
    """Name the hash of a player's statistics."""
    return _STATS + player_id


def is_counter(key: str) -> bool:
    """Tell whether a key is named as a hash of statistics or a board."""
    try:
        return is_text(key) and bool(stats_player(key) or (key.startswith(_BOARDS) and read_board_key(key)[0]))
    except ValueError:
        return False


def stats_player(key: str) -> str | None:
    """Return the player whose hash a key names, or None if it names none."""
    return key.removeprefix(_STATS) if key.startswith(_STATS) else None


def board_key(game_id: str, label: str) -> str:
    """Name the sorted set of a board; `label` is that of its period."""
    return f"{_BOARDS}{game_id}:{label}"


def read_board_key(key: str) -> tuple[str, Period, date]:
    """Read a board's key as game, period and first day (of all time: date.min). Raises ValueError if it is none."""
    name = key.removeprefix(_BOARDS)
    game, period, day = name.removesuffix(f":{ALLTIME.name}"), ALLTIME, date.min
    if game == name:
        game, kind, stamp = name.rsplit(":", 2)
        if kind == WEEKLY.name:
            period, day = WEEKLY, date.fromisocalendar(int(stamp[:4]), int(stamp[6:8]), _MONDAY)
        else:
            period, day = DAILY, date.fromisoformat(stamp)
    if board_key(game, period.label(day)) != key:  # such as `daily:20260115`, which fromisoformat reads too
        raise ValueError(key)
    return game, period, day


def watermark_key(group_id: str) -> str:
    """Name the hash of a group's watermarks, beside the counters so that they are saved and lost together."""
    return f"pipeline:watermarks:{group_id}"


def refused_key(group_id: str) -> str:
    """Name the set of keys that refused an increment of a group's, and were not refilled since."""
    return f"{watermark_key(group_id)}:refused"


def made_key(group_id: str) -> str:
    """Name the sorted set of the dated boards that a group made, by when they end."""
    return f"{watermark_key(group_id)}:boards"


def keep_field(period: Period) -> str:
    """Name the field of `watermark_key` that says for how few days boards were kept since the last refill."""
    return f"keep:{period.name}"


def filling_key(refill: str, key: str) -> str:
    """Name a board while it is filled by the refill of an id: nobody reads it there."""
    return f"{_FILLING}{refill}:{key}"


# -- the hash of a player's statistics -------------------------------------------------------------------------------

TOTAL_EVENTS: Final = "total_events"
LAST_EVENT: Final = "last_event"
_COUNT: Final = "event_"
_COUNTS_END: Final = 2**63
_count: Final = re.compile(r"[0-9]{1,19}\Z").match


def count_field(event_type: str) -> str:
    """Name the field that counts a player's events of one type."""
    return _COUNT + event_type


def count_fields(counts: Mapping[str, int]) -> dict[str, str]:
    """Write the counts of some types of a player's events as fields of the hash; without a total it is not whole."""
    return {count_field(event_type): str(count) for event_type, count in counts.items()}


def stats_fields(total: int, counts: Mapping[str, int], last: datetime) -> dict[str, str]:
    """Write a player's statistics as the hash: events in all and by type, and the last one's time (UTC)."""
    return count_fields(counts) | {TOTAL_EVENTS: str(total), LAST_EVENT: format_timestamp(last)}


def counts_in(fields: Mapping[str, str]) -> dict[str, int]:
    """Read the counts by type from the hash. Raises ValueError for one that is no count."""
    return {name.removeprefix(_COUNT): count_of(text) for name, text in fields.items() if name.startswith(_COUNT)}


def count_of(text: str) -> int:
    """Read a count. Raises ValueError for what the function in Redis cannot have written: somebody else did."""
    if not _count(text) or (count := int(text)) >= _COUNTS_END:
        raise ValueError("no count")
    return count
