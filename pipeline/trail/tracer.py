"""Asks Kafka, PostgreSQL and Redis for one event, in an order in which the answers fit together."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from pipeline.config import Settings
from pipeline.contract.boards import Expiry, watermark_key
from pipeline.contract.event import load_scoring
from pipeline.errors import PipelineError, UnavailableError
from pipeline.sinks.marks import standings_in
from pipeline.trail.fates import Teller
from pipeline.trail.found import Asked, Found, FoundLetter, FoundRecord, GroupStanding
from pipeline.trail.log import LogSearch, Search, Wanted
from pipeline.trail.tables import (
    LEDGERS,
    GroupStates,
    Snapshot,
    Tables,
    find_letters,
    find_times,
    letters_at,
    read_snapshot,
    read_standings,
)
from pipeline.trail.told import Trail

Hash = Callable[[str], Awaitable[Mapping[bytes, bytes]]]
"""Reads a hash of Redis. Raises UnavailableError."""
SEARCH_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Traced:
    """A trail, and the game of its event, if that is known: who may see only some games asks for it."""

    trail: Trail
    game_id: str | None


class Tracer:
    """Follows events of one topic; close it."""

    def __init__(self, settings: Settings, tables: Tables, read_hash: Hash) -> None:
        scoring = load_scoring(settings.scoring_file)
        self._topic = settings.kafka_topic
        self._tables = tables
        self._hash = read_hash
        self._log = LogSearch(settings, scoring)
        self._teller = Teller(scoring, Expiry(settings.board_daily_days, settings.board_weekly_days))

    async def close(self) -> None:
        """Close the client of Kafka."""
        await self._log.close()

    async def trace(self, asked: Asked, within: float = SEARCH_SECONDS) -> Traced:
        """Tell what became of an event. Raises UnavailableError if that cannot be said now.

        Kafka is asked before the tables are read for good: what was not read when its record was found may be counted
        by then, but never the other way round. A record below the watermark, of which there is no row, would look lost.
        """
        standings = await read_standings(self._tables, self._topic)
        times = [asked.timestamp] if asked.timestamp else await find_times(self._tables, asked, standings.ledger())
        asked_for = replace(asked, timestamp=times[0] if times else None)
        first = await read_snapshot(self._tables, self._topic, asked_for, asked_for.timestamp, None)
        letters = [] if first.row is not None else await find_letters(self._tables, self._topic, asked)
        places = (*asked.positions, *(letter.position for letter in letters))
        search, again, fault = Search(0), list[FoundLetter](), ""
        try:
            deadline = monotonic() + within
            wanted = Wanted(replace(asked_for, positions=places), first.row, _read_by_all(standings))
            search = await self._log.find(wanted, within)
            again = await self._letters_before(asked, first, search)
            if again:
                wanted = Wanted(replace(asked_for, positions=asked.positions), first.row, wanted.read, tuple(again))
                search = await self._log.find(wanted, deadline - monotonic())
                fault = "" if search.original is not None else "the record that was sent again was not found"
        except PipelineError as error:
            if not first.ledgers and not letters:
                raise UnavailableError(f"the topic cannot be searched: {error}") from error
            fault = f"the topic cannot be searched: {error}"
        event = search.record.event if search.record is not None else None
        timestamp = asked_for.timestamp or (event.timestamp if event is not None else None)
        last = await read_snapshot(self._tables, self._topic, asked, timestamp, search.record)
        found = Found(
            timestamp=timestamp,
            row=last.row,
            record=search.record,
            original=_original(search, last, again),
            letter=_letter(last, letters, search.record) or _before(last, [*again, *letters]),
            groups=await self._groups(last, _partition(search, letters)),
            events_since=last.events_since,
            log_since=search.log_since,
            searched=search.searched,
            log_fault=fault,
            alike=max(0, len(times) - 1),
        )
        return Traced(self._teller.tell(asked, found, datetime.now(UTC)), found.game_id)

    async def _letters_before(self, asked: Asked, first: Snapshot, search: Search) -> list[FoundLetter]:
        """Return the dead letters of an event that is counted, if the record that was found cannot be what counted.

        One that became a dead letter did not; and one that is nowhere when its row says that it came in may have been
        sent again since.
        """
        if not first.ledgers:
            return []
        counted = search.original if first.row is not None else search.record
        known: list[FoundLetter] = []
        if counted is not None:
            known = _of(first, await letters_at(self._tables, self._topic, counted))
            if not known:
                return []
        others = _of(first, await find_letters(self._tables, self._topic, asked))
        return known + [one for one in others if one.id not in {letter.id for letter in known}]

    async def _groups(self, snapshot: Snapshot, partition: int) -> tuple[GroupStanding, ...]:
        """Read where the groups stand in Redis: after PostgreSQL, which Redis follows."""
        found = []
        for group, projections in snapshot.standings.groups().items():
            ledger = next(LEDGERS[one] for one in LEDGERS if one in projections)
            mark = snapshot.standings.marks.get(group, {}).get(partition)
            standing = GroupStanding(group, projections, mark, ledger in snapshot.ledgers)
            if standing.counters:
                try:
                    marks = standings_in(await self._hash(watermark_key(group)), self._topic)
                    offset = marks[partition].offset if partition in marks else None
                    standing = replace(standing, redis=offset)
                except UnavailableError as error:
                    standing = replace(standing, redis_fault=str(error))
            found.append(standing)
        return tuple(found)


def _read_by_all(standings: GroupStates) -> dict[int, int]:
    """Return below which offset of each partition every group that there is has read."""
    read: dict[int, int] = {}
    for group in standings.groups():
        for partition, mark in standings.marks.get(group, {}).items():
            read[partition] = min(read.get(partition, mark.next_offset), mark.next_offset)
    return read


def _of(snapshot: Snapshot, letters: Iterable[FoundLetter]) -> list[FoundLetter]:
    """Return the letters of the group by which fates are told: what it refused it did not count."""
    services = snapshot.standings.services()
    return [letter for letter in letters if letter.service in services]


def _original(search: Search, last: Snapshot, again: Sequence[FoundLetter]) -> FoundRecord | None:
    """Return the record that was counted: that of the row, or, if it was counted meanwhile, the one that was found."""
    record = search.record
    if search.original is not None:
        return search.original
    if record is None or any(letter.is_of(record) for letter in (*again, *_of(last, last.letters))):
        return None
    if last.row is None:
        return record if last.ledgers else None
    same = record.event is not None and record.event.ingested_at == last.row.ingested_at
    return record if same else None


def _letter(last: Snapshot, letters: list[FoundLetter], record: FoundRecord | None) -> FoundLetter | None:
    if last.letters:
        return last.letters[0]
    return letters[0] if letters and (record is None or record.position == letters[0].position) else None


def _before(last: Snapshot, letters: Iterable[FoundLetter]) -> FoundLetter | None:
    """Return the dead letter that a counted event was first."""
    return next(iter(_of(last, letters)), None) if last.ledgers else None


def _partition(search: Search, letters: list[FoundLetter]) -> int:
    """Return the partition in which the event lies, or should."""
    if search.record is not None:
        return search.record.partition
    return letters[0].position[0] if letters else search.partition
