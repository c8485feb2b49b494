"""Waiting until both sinks have what a receipt names: one watch on their watermarks, however many wait.

While anybody waits, one task asks PostgreSQL and Redis where they stand, 40 times a second at most; a waiter is an
entry in a heap of its partition, and is looked at when it is that heap's first and its offset is passed. One timer
stands for the earliest deadline. So five thousand waiters cost what one costs, and each its entry and its end.

Nothing is known from before: what releases a waiter was asked for after it came, about a topic that was asked who it is
after that as well. What is remembered would be a false answer once the topic is created again.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import structlog

from pipeline.api.http.replies import Refusal
from pipeline.contract.boards import watermark_key
from pipeline.errors import PipelineError
from pipeline.kafka.facts import Facts
from pipeline.sinks.marks import OWNED_WATERMARKS, Standing, standings_in
from pipeline.tasks import cancel, watched

Reads = Literal["stats", "leaderboard", "every"]
"""What a read is of: a projection, whose group it waits for, or every one that has a group."""

_PAUSE_SECONDS: Final = 0.025
_FACTS_PAUSE_SECONDS: Final = 0.05
_ASK_SECONDS: Final = 2.0
_CREATED_AGAIN: Final = "the topic was created again"

_log = structlog.get_logger("arrivals")


class Tables(Protocol):
    """The database."""

    async def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one query. Raises UnavailableError."""


@dataclass(frozen=True, slots=True)
class Level:
    """Where a group stands in one partition of a topic; `redis` is None if it knows nothing, or is not used."""

    group: str
    topic_id: str
    postgres: int
    redis: int | None
    uses_redis: bool

    def passed(self, offset: int) -> bool:
        """Whether both sinks have what lies at an offset."""
        return offset < self.postgres and (not self.uses_redis or (self.redis is not None and offset < self.redis))

    def __str__(self) -> str:
        redis = f", Redis at {self.redis if self.redis is not None else 'none'}" if self.uses_redis else ""
        return f"{self.group} stands at {self.postgres} in PostgreSQL{redis}"


@dataclass(slots=True, eq=False)
class _Waiter:
    """One read that waits: for how many places yet, and whether they were found to be in the topic."""

    reads: Reads
    places: Mapping[int, int]
    answer: "asyncio.Future[None]"
    left: int
    verified_at: float | None = None


_Entry = tuple[int, int, _Waiter]


@dataclass(slots=True)
class _Known:
    """What was asked last: the levels, by what is read and partition; the topic; why something did not answer."""

    levels: dict[tuple[str, int], list[Level]] = field(default_factory=dict)
    facts: Facts | None = None
    facts_at: float = 0.0
    levels_at: float = 0.0
    """When the levels were asked for that were the last to release anybody, or could have."""
    fault: str = ""
    topic_fault: str = ""
    differs_at: float = 0.0
    """When a group was first seen to stand in another topic than the one that is known."""


class Arrivals:
    """The one watch. `ask` asks what the topic is; it blocks, and is called in a thread."""

    def __init__(
        self,
        topic: str,
        tables: Tables,
        read_hash: Callable[[str], Awaitable[Mapping[bytes, bytes]]],
        ask: Callable[[float], Facts],
    ) -> None:
        self._topic = topic
        self._tables = tables
        self._hash = read_hash
        self._ask = ask
        self._known = _Known()
        self._arrived: list[_Waiter] = []
        self._unverified: list[_Waiter] = []
        self._heaps: dict[tuple[str, int], list[_Entry]] = {}
        self._deadlines: list[tuple[float, int, _Waiter]] = []
        self._overdue: list[_Waiter] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._dead = 0
        self.waiting = 0
        self.looks = 0

    async def reached(self, reads: Reads, places: Mapping[int, int], within: float) -> None:
        """Return once both sinks have every place, an offset by partition.

        Raises Refusal: 400 for a place that the topic does not have, 504 after `within` seconds, or once the servers
        were asked, however little that is.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(reads, places, loop.create_future(), len(places))
        self._arrived.append(waiter)
        heapq.heappush(self._deadlines, (loop.time() + within, next(self._numbers), waiter))
        self.waiting += 1
        self._arm()
        if self._watching is None or self._watching.done():
            self._watching = watched(self._watch())
        try:
            await waiter.answer
        finally:
            self.waiting -= 1
            self._dead += waiter.left

    async def close(self) -> None:
        """End the watch."""
        for task in (self._watching, self._asking):
            if task is not None:
                await cancel(task)
        if self._timer is not None:
            self._timer.cancel()

    # -- the watch -----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Look again and again while anybody waits."""
        self._known.fault = self._known.topic_fault = ""
        while self.waiting:
            self._take_in()
            self._keep_facts()
            began = time.monotonic()
            try:
                levels = await self._look()
            except PipelineError as error:
                self._known.fault = str(error)
            else:
                self._known.levels, self._known.fault = levels, ""
                self._release(began)
            self._end_overdue()
            self._forget_the_dead()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _take_in(self) -> None:
        """Enter those who came since: what is asked from now on is an answer to them."""
        arrived, self._arrived = self._arrived, []
        for waiter in arrived:
            if waiter.answer.done():
                self._dead -= waiter.left
                continue
            self._unverified.append(waiter)
            for partition, offset in waiter.places.items():
                heap = self._heaps.setdefault((waiter.reads, partition), [])
                heapq.heappush(heap, (offset, next(self._numbers), waiter))

    async def _look(self) -> dict[tuple[str, int], list[Level]]:
        """Ask both sinks where each group stands. Raises UnavailableError."""
        self.looks += 1
        rows = await self._tables.rows(OWNED_WATERMARKS, (self._topic,))
        counters = {group for projection, group, *_ in rows if projection in {"stats", "leaderboard"}}
        redis = {group: standings_in(await self._hash(watermark_key(group)), self._topic) for group in sorted(counters)}
        levels: dict[tuple[str, int], list[Level]] = {}
        groups: dict[int, dict[str, Level]] = {}
        for projection, group, partition, topic_id, offset in rows:
            if partition is not None:
                level = _level(group, topic_id, offset, redis.get(group), partition)
                levels[projection, partition] = [level]
                groups.setdefault(partition, {})[group] = level
        wanted = {group for _, group, *_ in rows}
        for partition, found in groups.items():
            levels["every", partition] = list(found.values()) if found.keys() == wanted else []
        return levels

    def _release(self, now: float) -> None:
        """Let those go whose places are passed, and refuse those of a topic that is no more."""
        facts = self._known.facts
        if facts is None:
            return
        self._known.levels_at = now
        differs_at = 0.0
        for key, heap in self._heaps.items():
            levels = self._known.levels.get(key, [])
            if stale := next((level for level in levels if level.topic_id != facts.topic_id), None):
                differs_at = self._known.differs_at or now
                if differs_at < self._known.facts_at:  # the topic was asked again since: it is the group that lags
                    self._refuse_all(heap, f"{_CREATED_AGAIN}, and {stale.group} stands in the one before")
                continue
            while heap and levels and all(level.passed(heap[0][0]) for level in levels):
                if heap[0][2].verified_at is None and not heap[0][2].answer.done():
                    break  # soon: whoever came before the topic is asked is judged by one answer
                self._arrive(heapq.heappop(heap)[2])
        self._known.differs_at = differs_at
        self._heaps = {key: heap for key, heap in self._heaps.items() if heap}

    def _arrive(self, waiter: _Waiter) -> None:
        if waiter.answer.done():
            self._dead -= 1
            return
        waiter.left -= 1
        if not waiter.left:
            waiter.answer.set_result(None)

    def _refuse_all(self, heap: list[_Entry], why: str) -> None:
        for _, _, waiter in heap:
            if not waiter.answer.done():
                waiter.answer.set_exception(Refusal(400, f"after: {why}"))

    def _forget_the_dead(self) -> None:
        """Drop the entries of those who went before their places were passed, once they are most of all."""
        if self._dead <= 64 + sum(map(len, self._heaps.values())) // 2:
            return
        for key, heap in list(self._heaps.items()):
            self._heaps[key] = [entry for entry in heap if not entry[2].answer.done()]
            heapq.heapify(self._heaps[key])
        self._dead = 0

    # -- the topic -----------------------------------------------------------------------------------------------------

    def _keep_facts(self) -> None:
        """Have the topic asked, by one call at a time: for new waiters, and where a group stands in another one."""
        if self._asking is not None and not self._asking.done():
            return
        wanted = self._known.differs_at > self._known.facts_at
        self._unverified = [one for one in self._unverified if not one.answer.done()]
        if (wanted or self._unverified) and time.monotonic() - self._known.facts_at > _FACTS_PAUSE_SECONDS:
            self._asking = watched(self._learn())

    async def _learn(self) -> None:
        """Ask what the topic is, and judge the places of those who came before that."""
        asked, self._unverified = self._unverified, []
        began = time.monotonic()
        try:
            facts = await asyncio.to_thread(self._ask, _ASK_SECONDS)
        except PipelineError as error:
            _log.debug("the topic was not asked", reason=str(error))
            self._known.topic_fault = str(error)
            self._unverified += asked
        else:
            if self._known.facts is not None and self._known.facts.topic_id != facts.topic_id:
                for heap in self._heaps.values():
                    self._refuse_all([one for one in heap if one[2].verified_at is not None], _CREATED_AGAIN)
            self._known.facts, self._known.facts_at, self._known.topic_fault = facts, began, ""
            for waiter in asked:
                waiter.verified_at = time.monotonic()
                fault = _not_there(waiter.places, facts)
                if fault and not waiter.answer.done():
                    waiter.answer.set_exception(Refusal(400, f"after: {fault}"))
        self._end_overdue()

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the one timer to the earliest deadline."""
        while self._deadlines and self._deadlines[0][2].answer.done():
            heapq.heappop(self._deadlines)
        if self._timer is not None:
            if self._deadlines and self._timer.when() <= self._deadlines[0][0] and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if self._deadlines:
            self._timer = asyncio.get_running_loop().call_at(self._deadlines[0][0], self._expire)

    def _expire(self) -> None:
        """End those whose time is up."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._deadlines and self._deadlines[0][0] <= now:
            self._overdue.append(heapq.heappop(self._deadlines)[2])
        self._end_overdue()
        self._arm()

    def _end_overdue(self) -> None:
        """Answer those whose time is up, once they were looked for: it may be a 200 or a 400 as well."""
        left = []
        for waiter in self._overdue:
            if waiter.answer.done():
                continue
            looked_for = waiter.verified_at is not None and self._known.levels_at >= waiter.verified_at
            if looked_for or self._known.fault or self._known.topic_fault:
                waiter.answer.set_exception(self._late(waiter))
            else:
                left.append(waiter)
        self._overdue = left

    def _late(self, waiter: _Waiter) -> Refusal:
        """Say how far it is."""
        if fault := self._known.fault or self._known.topic_fault:
            return Refusal(504, f"after: it is not known how far it is: {fault}", [("Retry-After", "1")])
        far = []
        for partition, offset in sorted(waiter.places.items()):
            levels = self._known.levels.get((waiter.reads, partition), [])
            facts = self._known.facts
            other = {level.topic_id for level in levels} - ({facts.topic_id} if facts is not None else set())
            behind = [str(level) for level in levels if level.topic_id in other or not level.passed(offset)]
            if behind or not levels:
                stands = "; ".join(behind) or "no consumer has begun to read it"
                far.append(f"partition {partition}, offset {offset}: {stands}")
        return Refusal(504, f"after: not counted yet: {'; '.join(far[:5])}", [("Retry-After", "1")])


def _level(group: str, topic_id: str, offset: int, redis: Mapping[int, Standing] | None, partition: int) -> Level:
    if redis is None:
        return Level(group, topic_id, offset, None, uses_redis=False)
    standing = redis.get(partition)
    return Level(group, topic_id, offset, standing.offset if standing is not None else None, uses_redis=True)


def _not_there(places: Mapping[int, int], facts: Facts) -> str:
    """Say which place the topic does not have; "" if it has all."""
    for partition, offset in places.items():
        if partition not in facts.ends:
            return f"there is no partition {partition}; the topic has {len(facts.ends)}"
        if offset >= facts.ends[partition]:
            return (
                f"the topic has no offset {offset} in partition {partition}, which ends at {facts.ends[partition]}: "
                "the receipt is of another topic, or of one that was created again"
            )
    return ""
