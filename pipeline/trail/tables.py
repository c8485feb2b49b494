"""What the tables hold of an event. Each statement locks a bounded number of partitions, however many days there are.

The bounds of time stand in the statements as literals: what a parameter bounds is planned over every partition once the
driver has prepared the statement, and a plan locks all its partitions and each of their indexes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import orjson

from pipeline.contract.event import format_timestamp, parse_timestamp
from pipeline.contract.offsets import Watermark
from pipeline.epoch.roles import ROLES
from pipeline.sinks.marks import OWNERS, WATERMARKS, watermarks_in
from pipeline.trail.found import Asked, FoundLetter, FoundRecord, Row

Rows = list[tuple[Any, ...]]
Query = tuple[str, Sequence[object]]
LEDGERS: Final[Mapping[str, str]] = {
    "events": "events",
    "stats": "stats_ledger",
    "leaderboard": "leaderboard_ledger",
}
"""Which table remembers identities, by the first of these projections that a group writes."""

_AT_ONCE: Final = 32
_AROUND: Final = timedelta(days=2)
_NEWEST_LETTERS: Final = 20_000
_LETTERS: Final = (
    "SELECT id, consumer_service, code, error_message, partition, record_offset, record_timestamp, record_value,"
    " original_event, created_at, redriven_at, dropped_at FROM {} WHERE topic = %s AND {} ORDER BY id {} LIMIT 10"
)
_LETTERS_AT: Final = _LETTERS.format("dlq_events", "partition = %s AND record_offset = %s", "")
_DAYS: Final = "SELECT lower_bound, upper_bound FROM day_partitions WHERE parent = %s::regclass ORDER BY 1 DESC"


class Tables(Protocol):
    """The database, as the edge has it. Each raises UnavailableError."""

    async def rows(self, query: str, parameters: Sequence[object] = ()) -> Rows:
        """Run one query."""

    async def transaction(self, *queries: Query) -> list[Rows]:
        """Run queries that see one moment."""


@dataclass(frozen=True, slots=True)
class GroupStates:
    """Which group writes each projection, and where the groups stand."""

    owners: Mapping[str, str]
    marks: Mapping[str, Mapping[int, Watermark]]

    def groups(self) -> dict[str, frozenset[str]]:
        """Return the projections of each group."""
        found: dict[str, set[str]] = {}
        for projection, group in self.owners.items():
            found.setdefault(group, set()).add(projection)
        return {group: frozenset(found[group]) for group in sorted(found)}

    def ledger(self) -> str:
        """Return the table that holds every identity that is counted by the group that tells an event's fate."""
        return LEDGERS[self._telling()]

    def services(self) -> frozenset[str]:
        """Return the services whose dead letters are of what that group did not count."""
        return frozenset(role.service for role in ROLES.values() if self._telling() in role.projections)

    def _telling(self) -> str:
        return next((one for one in LEDGERS if one in self.owners), "events")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the tables said at one moment; `ledgers` are those that hold the identity."""

    standings: GroupStates
    row: Row | None
    ledgers: frozenset[str]
    letters: list[FoundLetter]
    events_since: datetime | None


async def read_standings(tables: Tables, topic: str) -> GroupStates:
    """Read where the groups stand."""
    owners, marks = await tables.transaction((OWNERS, ()), (WATERMARKS, (topic,)))
    return GroupStates(dict(owners), watermarks_in(marks))


async def find_times(tables: Tables, asked: Asked, ledger: str) -> list[datetime]:
    """Return at which times the player has an event of this id, the newest first: all of one window, mostly one."""
    days = await tables.rows(_DAYS, (ledger,))
    for since, until in _windows([(lower, upper) for lower, upper in days], asked.made_at):
        found = await tables.rows(
            f"SELECT event_timestamp FROM {ledger} WHERE player_id = %s AND event_id = %s"  # noqa: S608 - our own names and times
            f" AND event_timestamp >= {_literal(since)} AND event_timestamp < {_literal(until)}"
            " ORDER BY event_timestamp DESC LIMIT 10",
            (asked.player_id, asked.event_id),
        )
        if found:
            return [moment.astimezone(UTC) for (moment,) in found]
    return []


async def read_snapshot(
    tables: Tables, topic: str, asked: Asked, timestamp: datetime | None, record: FoundRecord | None
) -> Snapshot:
    """Read all that is known of an identity (without its time: of its record) at one moment."""
    queries: list[Query] = [(OWNERS, ()), (WATERMARKS, (topic,)), (_DAYS, ("events",))]
    if timestamp is not None:
        queries += _identity(asked, timestamp)
    if record is not None:
        queries.append((_LETTERS_AT, (topic, *record.position)))
    owners, marks, days, *found = await tables.transaction(*queries)
    rows, known = (found[0], found[1][0]) if timestamp is not None else ([], (False, False))
    letters = [one for one in map(_letter, found[-1]) if one.is_of(record)] if record is not None else []
    row = _row(rows[0]) if rows else None
    ledgers = {name for name, there in zip(("stats_ledger", "leaderboard_ledger"), known, strict=True) if there}
    return Snapshot(
        GroupStates(dict(owners), watermarks_in(marks)),
        row,
        frozenset(ledgers | ({"events"} if row is not None else set())),
        letters,
        min((lower.astimezone(UTC) for lower, _ in days), default=None),
    )


async def find_letters(tables: Tables, topic: str, asked: Asked) -> list[FoundLetter]:
    """Look for an event among the newest dead letters, which are known by their place alone."""
    newest = f"(SELECT * FROM dlq_events ORDER BY id DESC LIMIT {_NEWEST_LETTERS}) AS newest"  # noqa: S608 - a number
    query = _LETTERS.format(
        newest, "(record_key = %s OR record_key IS NULL) AND position(%s IN lower(original_event)) > 0", "DESC"
    )
    found = await tables.rows(query, (topic, asked.player_id.encode(), str(asked.event_id)))
    letters = [_letter(one) for one in found if _tells(one, asked)]
    return sorted(letters, key=lambda one: one.game_id is None)  # what does not decode may be of anything


async def letters_at(tables: Tables, topic: str, record: FoundRecord) -> list[FoundLetter]:
    """Return the dead letters of a record."""
    found = map(_letter, await tables.rows(_LETTERS_AT, (topic, *record.position)))
    return [one for one in found if one.is_of(record)]


def _identity(asked: Asked, timestamp: datetime) -> list[Query]:
    same = f"player_id = %s AND event_timestamp = {_literal(timestamp)} AND event_id = %s"
    values = (asked.player_id, asked.event_id)
    row = (
        "SELECT event_timestamp, event_type, game_id, ingested_at, data, created_at,"  # noqa: S608 - our own times
        " CASE WHEN current_setting('track_commit_timestamp') = 'on' THEN pg_xact_commit_timestamp(xmin) END"
        f" FROM events WHERE {same}"
    )
    others = (
        f"SELECT EXISTS (SELECT FROM stats_ledger WHERE {same}), EXISTS (SELECT FROM leaderboard_ledger WHERE {same})"  # noqa: S608
    )
    return [(row, values), (others, (*values, *values))]


def _literal(moment: datetime) -> str:
    return f"timestamptz '{format_timestamp(moment.astimezone(UTC))}'"


def _windows(days: Sequence[tuple[datetime, datetime]], likely: datetime | None) -> Iterator[tuple[datetime, datetime]]:
    """Yield stretches of time of at most so many partitions each: the likely one, then all from the newest."""
    if not days:
        return
    first, last = days[-1][0], days[0][1]
    if likely is not None and first <= likely < last:
        yield max(first, likely - _AROUND), min(last, likely + _AROUND)
    for start in range(0, len(days), _AT_ONCE):
        part = days[start : start + _AT_ONCE]
        yield part[-1][0], part[0][1]


def _row(row: tuple[Any, ...]) -> Row:
    moment, event_type, game, ingested, data, created, committed = row
    return Row(
        moment.astimezone(UTC),
        event_type,
        game,
        ingested.astimezone(UTC),
        data,
        created.astimezone(UTC),
        committed.astimezone(UTC) if committed is not None else None,
    )


def _letter(row: tuple[Any, ...]) -> FoundLetter:
    number, service, code, error, partition, offset, written, value, shown, created, redriven, dropped = row
    content = _object(value, shown)
    game, moment = content.get("game_id"), content.get("timestamp")
    return FoundLetter(
        number,
        service,
        code,
        error,
        (partition, offset),
        written,
        game if isinstance(game, str) else None,
        _time(moment),
        created.astimezone(UTC),
        redriven,
        dropped,
    )


def _tells(row: tuple[Any, ...], asked: Asked) -> bool:
    """Whether a letter that holds the id is of the event; one that does not decode may well be."""
    content = _object(row[7], row[8])
    if not content:
        return True
    named = content.get("player_id") == asked.player_id and str(content.get("event_id")).lower() == str(asked.event_id)
    moment = _time(content.get("timestamp"))
    return named and (asked.timestamp is None or moment is None or moment == asked.timestamp)


def _object(value: bytes | None, shown: str) -> dict[str, Any]:
    try:
        content = orjson.loads(value if value is not None else shown)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        return parse_timestamp(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
