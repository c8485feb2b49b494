"""Looking for an event's record in the topic: at the places and times where it should be, within bounds.

A record is known by what it holds. Its partition follows from the player, as every producer of ours and every Java
client has it; those of other producers may lie elsewhere, so the other partitions are looked through next.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import orjson
from confluent_kafka import Message

from pipeline.config import Settings
from pipeline.contract.event import Origin, Scoring, parse_record, record_id, record_time
from pipeline.errors import EventError, UnavailableError
from pipeline.kafka.lookup import Budget, Lookup, Stretch
from pipeline.kafka.partitioner import partition_of
from pipeline.trail.found import Asked, FoundLetter, FoundRecord, Row

_RECORDS: Final = 50_000
_WAITING: Final = 16
_CLOSE_SECONDS: Final = 5.0
_BEFORE_MS: Final = 5_000
_AFTER_MS: Final = 60_000
_SENDING_MS: Final = 70_000  # a redrive waits a minute at most for Kafka's word, and marks the letter then
_OF_PLACE: Final = 5  # the version of UUIDs that stand for a record's place
_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found: the record that is asked about, the one that was counted, and where it looked.

    `partition` is the player's, and `log_since` the time of the first record that it still has.
    """

    partition: int
    record: FoundRecord | None = None
    original: FoundRecord | None = None
    searched: str = ""
    log_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for: an event, its row if it is counted, and below which offsets a group has read everything.

    With `letters`, the record that was counted of an event that became these dead letters first.
    """

    asked: Asked
    row: Row | None
    read: Mapping[int, int]
    letters: tuple[FoundLetter, ...] = ()

    def may_have_counted(self, found: FoundRecord) -> bool:
        """Whether a record of the event may be the one that counted: it came in when the row says, and is no letter."""
        if any(letter.is_of(found) for letter in self.letters):
            return False
        return found.event is not None and (self.row is None or found.event.ingested_at == self.row.ingested_at)


class LogSearch:
    """One client in one thread, opened when first needed: one search at a time, and a few that wait for it."""

    def __init__(self, settings: Settings, scoring: Scoring) -> None:
        self._topic = settings.kafka_topic
        self._scoring = scoring
        self._lookup = Lookup(settings)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trail")
        self._waiting = 0

    async def find(self, wanted: Wanted, within: float) -> Search:
        """Look for an event's record. Raises UnavailableError, and ConfigurationError if there is no topic."""
        if self._waiting >= _WAITING:
            raise UnavailableError("too many events are being looked for")
        self._waiting += 1
        try:
            asking = asyncio.get_running_loop().run_in_executor(
                self._thread, self._find, wanted, Budget(_RECORDS, monotonic() + within)
            )
            return await asking
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the search that is under way, and the client."""
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._lookup.close)
        await asyncio.wait([closing], timeout=_CLOSE_SECONDS)
        self._thread.shutdown(wait=False)

    def _find(self, wanted: Wanted, budget: Budget) -> Search:
        if monotonic() > budget.deadline:
            raise UnavailableError("too many events are being looked for")
        partitions = self._lookup.partitions(budget)
        own = partition_of(wanted.asked.player_id.encode(), len(partitions))
        parts = [[own], [one for one in partitions if one != own]]
        record = self._at_positions(wanted.asked, set(partitions), budget)
        looked: list[str] = []
        if wanted.letters or wanted.row is not None:
            looking = self._sent_again if wanted.letters else self._original
            original = looking(wanted, parts, budget)
            return Search(own, record or original, original, "")
        for moment in _likely(wanted.asked):
            record = record or self._around(wanted.asked, moment, parts, budget)
            looked.append(f"around {moment:%Y-%m-%d %H:%M:%S} UTC")
        record = record or self._unread(wanted, parts, budget)
        looked.append("in what is not read yet" + (", of which only the beginning" if budget.spent else ""))
        since = self._begins(own, budget) if record is None else None
        return Search(own, record, None, " and ".join(looked), since)

    def _at_positions(self, asked: Asked, partitions: set[int], budget: Budget) -> FoundRecord | None:
        """Return the first record of the event at the places that were named."""
        for partition, offset in asked.positions:
            if partition in partitions and self._inside(partition, offset, budget):
                found = self._search(asked, [Stretch(partition, offset, offset + 1)], budget)
                if found is not None:
                    return found
        return None

    def _inside(self, partition: int, offset: int, budget: Budget) -> bool:
        first, end = self._lookup.bounds([partition], budget)[partition]
        return first <= offset < end

    def _original(self, wanted: Wanted, parts: Sequence[Sequence[int]], budget: Budget) -> FoundRecord | None:
        """Return the record that was counted: it came in when its row says."""
        assert wanted.row is not None
        moment = _milliseconds(wanted.row.ingested_at)
        return self._first(wanted, moment, moment, parts, budget)

    def _sent_again(self, wanted: Wanted, parts: Sequence[Sequence[int]], budget: Budget) -> FoundRecord | None:
        """Return the record that was counted of an event that became a dead letter first.

        A redrive sends the letter's own bytes: the two records differ in nothing but that of one there is a letter. Of
        those sent again the first counted, and so all is read from the letter on, within half the budget; if that does
        not reach, what came in shortly before the letter was marked, and before the epoch that counted it.
        """
        until = wanted.row.created_at if wanted.row is not None else None
        half = Budget(budget.records // 2, budget.deadline)
        budget.records -= half.records
        since = _milliseconds(min(letter.created_at for letter in wanted.letters)) - _BEFORE_MS
        found = self._first(wanted, since, _milliseconds(until) if until is not None else None, parts, half)
        if found is not None or not half.spent:
            return found
        marked = [one.redriven_at for one in wanted.letters if one.redriven_at is not None]
        moments = [one for one in (*marked, until) if one is not None and (until is None or one <= until)]
        for before in (_BEFORE_MS, _SENDING_MS):
            for moment in map(_milliseconds, moments):
                if (found := self._first(wanted, moment - before, moment, parts, budget)) is not None:
                    return found
        return None

    def _first(
        self, wanted: Wanted, since: int, until: int | None, parts: Sequence[Sequence[int]], budget: Budget
    ) -> FoundRecord | None:
        """Return the first record of a stretch of time that may have counted."""
        for partitions in parts:
            stretches = self._from(partitions, since, until, budget)
            if (found := self._search(wanted.asked, stretches, budget, wanted.may_have_counted)) is not None:
                return found
        return None

    def _around(
        self, asked: Asked, moment: datetime, parts: Sequence[Sequence[int]], budget: Budget
    ) -> FoundRecord | None:
        middle = _milliseconds(moment)
        for partitions in parts:
            stretches = self._from(partitions, middle - _BEFORE_MS, middle + _AFTER_MS, budget)
            if (found := self._search(asked, stretches, budget)) is not None:
                return found
        return None

    def _unread(self, wanted: Wanted, parts: Sequence[Sequence[int]], budget: Budget) -> FoundRecord | None:
        for partitions in parts:
            bounds = self._lookup.bounds(partitions, budget)
            stretches = [
                Stretch(partition, max(first, wanted.read.get(partition, first)), end)
                for partition, (first, end) in bounds.items()
            ]
            if (found := self._search(wanted.asked, stretches, budget)) is not None:
                return found
        return None

    def _from(self, partitions: Sequence[int], since: int, until: int | None, budget: Budget) -> list[Stretch]:
        starts = self._lookup.since(partitions, since, budget) if partitions else {}
        bounds = self._lookup.bounds(starts, budget)
        return [Stretch(p, max(start, bounds[p][0]), bounds[p][1], until) for p, start in starts.items()]

    def _begins(self, partition: int, budget: Budget) -> datetime | None:
        """Return the time of the first record that a partition has; the present if it lost all that it had."""
        first, end = self._lookup.bounds([partition], budget)[partition]
        if 0 < first == end:
            return datetime.now(UTC)
        for messages in self._lookup.read([Stretch(partition, first, min(first + 1, end))], budget):
            for message in messages:
                return record_time(message.timestamp()[1])
        return None

    def _search(
        self,
        asked: Asked,
        stretches: Iterable[Stretch],
        budget: Budget,
        wanted: Callable[[FoundRecord], bool] | None = None,
    ) -> FoundRecord | None:
        """Return the first record of the event, or the first of those that are wanted."""
        if budget.spent:
            return None
        doubtful: FoundRecord | None = None
        for messages in self._lookup.read(stretches, budget):
            for message in messages:
                found = self._match(message, asked)
                if found is None:
                    continue
                if wanted is None and found.game_id is None:
                    doubtful = doubtful or found
                elif wanted is None or wanted(found):
                    return found
        return doubtful

    def _match(self, message: Message, asked: Asked) -> FoundRecord | None:
        """Return what a record says, if it is of the event: by its bytes first, for nearly all are not."""
        value, key, player = message.value(), message.key(), asked.player_id.encode()
        partition, offset = message.partition(), message.offset()
        if value is None or partition is None or offset is None:
            return None
        name = str(asked.event_id).encode()
        named = name in value or (key == player and (name in value.lower() or b"\\u" in value))
        derived = asked.event_id.version == _OF_PLACE and record_id(self._topic, partition, offset) == asked.event_id
        if not named and not derived:
            return None
        moment = record_time(message.timestamp()[1])
        try:
            event = parse_record(value, Origin(record_id(self._topic, partition, offset), moment), self._scoring)
        except EventError:
            game = _game(value, asked, certain=key == player)
            return FoundRecord(partition, offset, moment, game or None, None) if game is not None else None
        same = (event.player_id, event.event_id) == (asked.player_id, asked.event_id)
        if not same or asked.timestamp not in {None, event.timestamp}:
            return None
        return FoundRecord(partition, offset, moment, event.game_id, event)


def _likely(asked: Asked) -> list[datetime]:
    """Return around which times a record of an event may have come in."""
    moments = [asked.made_at, asked.timestamp]
    return [one for one in moments if one is not None]


def _milliseconds(moment: datetime) -> int:
    return (moment - _UNIX) // timedelta(milliseconds=1)


def _game(value: bytes, asked: Asked, *, certain: bool) -> str | None:
    """Return the game that a refused record names, "" if it names none, or None if it is not of the event."""
    try:
        content = orjson.loads(value)
    except orjson.JSONDecodeError:
        return "" if certain else None
    if not isinstance(content, dict) or content.get("player_id") != asked.player_id:
        return None
    try:
        if uuid.UUID(str(content.get("event_id"))) != asked.event_id:
            return None
    except ValueError:
        return None
    game = content.get("game_id")
    return game if isinstance(game, str) else ""
