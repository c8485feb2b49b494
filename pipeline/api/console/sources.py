"""What the overview is made of: each server asked on its own, again and again, and what it said last.

One that is away, frozen or slow delays nobody but itself: each has a task of its own, each question a deadline, and
what is shown meanwhile is the last answer with how old it is.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, get_args

from redis.exceptions import NoPermissionError

from pipeline.api.console.schemas import Proof, ProofState
from pipeline.api.database import Database
from pipeline.api.valkey import Valkey
from pipeline.config import Settings
from pipeline.contract.boards import watermark_key
from pipeline.epoch.rejected import Code
from pipeline.errors import PipelineError, RefusedError, UnavailableError
from pipeline.kafka.ends import Bounds, LogEnds
from pipeline.sinks.marks import PROGRESS, Mark, marks_in, standings_in
from pipeline.sinks.redrive import WAITING

WATCHED_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 5.0
_KAFKA_SECONDS: Final = 3.0
LETTERS_SECONDS: Final = 5.0
PROOF_STALE_SECONDS: Final = 4_200.0
"""As old as this the alert PipelineProofStale fires, too: an hour, and ten minutes."""
MOST_COUNTED: Final = 50_000
"""Dead letters of one code are counted up to here: to count millions every few seconds costs more than it tells."""

T = TypeVar("T")


class Pace:
    """How often a server is asked: each second while somebody watches, otherwise every five."""

    def __init__(self) -> None:
        self._watched = asyncio.Event()

    def watch(self, *, watched: bool) -> None:
        """Note whether somebody watches; those that rest wake up when somebody begins to."""
        if watched:
            self._watched.set()
        else:
            self._watched.clear()

    async def rest(self, began: float, least: float = WATCHED_SECONDS) -> None:
        """Wait for the next turn after the one that began then (the loop's time), `least` seconds at least."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._watched.wait(), max(0.0, began + IDLE_SECONDS - loop.time()))
        await asyncio.sleep(max(0.0, began + least - loop.time()))


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What a server said, and when (the loop's time)."""

    value: T
    at: float


class Question(Generic[T]):
    """One question, put again and again. `reading` is the last answer, `fault` why the last try had none.

    `refused`: the server is there, and denies the account a right.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], least: float = WATCHED_SECONDS) -> None:
        self._ask = ask
        self._least = least
        self.reading: Reading[T] | None = None
        self.fault = "not asked yet"
        self.asked = self.refused = False

    async def keep_asking(self, pace: Pace) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                answer = await self._ask()
                self.reading, self.fault, self.refused = Reading(answer, loop.time()), "", False
            except PipelineError as error:
                self.fault, self.refused = str(error), isinstance(error, RefusedError)
            self.asked = True
            await pace.rest(began, self._least)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many dead letters wait, by code; of one that has `MOST_COUNTED`, at least so many."""

    by_code: dict[str, int]

    @property
    def total(self) -> int:
        """How many there are in all."""
        return sum(self.by_code.values())


class Kafka:
    """Asks for the bounds of the topic's logs, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._ends = LogEnds(settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-ends")

    async def bounds(self) -> Bounds:
        """Return the bounds. Raises PipelineError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ends.ask, _KAFKA_SECONDS)

    def close(self) -> None:
        """Let the thread end after the question at hand, which has a deadline."""
        self._thread.shutdown(wait=False, cancel_futures=True)


async def ask_marks(database: Database, topic: str) -> list[Mark]:
    """Return the watermarks of all groups. Raises UnavailableError."""
    return marks_in(await database.rows(PROGRESS, [topic]))


async def ask_waiting(database: Database) -> Waiting:
    """Count the dead letters that wait. Raises UnavailableError."""
    rows = await database.rows(_COUNT_WAITING, [MOST_COUNTED, list(get_args(Code))])
    return Waiting({code: count for code, count in rows if count})


async def ask_proof(database: Database, topic: str) -> Proof | None:
    """Return how the verifier's last step found the topic; None before its first. Raises UnavailableError."""
    rows = await database.rows(_PROOF, [topic])
    if not rows:
        return None
    unproven: dict[str, int] = {}
    for row in rows:
        for reason, amount in row[-1].items():
            if amount:
                unproven[reason] = unproven.get(reason, 0) + amount
    ages = [max(0.0, float(row[3])) for row in rows if row[3] is not None]
    differences = sum(row[1] for row in rows)
    state, reason = max((_proof_state(row) for row in rows), key=lambda one: _WORST_LAST.index(one[0]))
    behind, age = sum(row[2] for row in rows), round(max(ages), 1) if ages else None
    return Proof(state, reason, differences, behind, age, unproven)


def _proof_state(row: Sequence[Any]) -> tuple[ProofState, str]:
    """Say how one group's proof stands, and why it is not ok."""
    ended, differences, _, age, owes_redis, _ = row
    if differences:
        return "down", ""
    if not ended or age is None:
        return "unknown", "a proof of everything has begun and has not ended"
    if age > PROOF_STALE_SECONDS:
        return "degraded", "for more than an hour nobody has proven what was counted"
    if owes_redis:
        return "degraded", "Redis was not compared in all that was proven: the verifier ended before that"
    return "ok", ""


async def ask_redis(valkey: Valkey, topic: str, groups: Callable[[], list[str]]) -> dict[str, dict[int, int]]:
    """Return where Redis stands, by group and partition. Raises UnavailableError."""
    found = {}
    await valkey.call("TIME")  # which the edge's account may ask for anyway
    for group in groups():
        try:
            stored = await valkey.hash(watermark_key(group))
        except UnavailableError as error:
            raise RefusedError(str(error)) if isinstance(error.__cause__, NoPermissionError) else error from error
        found[group] = {partition: one.offset for partition, one in standings_in(stored, topic).items()}
    return found


def told(source: Question[T]) -> T:
    """Return a source's last answer. Raises UnavailableError if its server has none now."""
    if source.reading is None or source.fault:
        raise UnavailableError(source.fault)
    return source.reading.value


# By an index of those that wait alone; each code's count ends at a bound.
_COUNT_WAITING: Final = f"""
SELECT code, (SELECT count(*) FROM (SELECT FROM dlq_events WHERE dlq_events.code = codes.code AND {WAITING}
                                    LIMIT %s) AS found)
FROM unnest(%s::text[]) AS codes(code)
"""  # noqa: S608 - a constant of ours


_WORST_LAST: Final = ("ok", "unknown", "degraded", "down")
# A proof of everything ends when each sum was proven once, unless they cannot be any more. A watch owes Redis a
# comparison for some seconds of each turn: owed for long, it is nobody's work.
_PROOF: Final = """
SELECT state <> 'begun' AND (sums_gone OR (swept_to IS NULL AND round_seconds IS NOT NULL)),
       differences, behind_records,
       extract(epoch FROM now() - CASE WHEN sums_gone THEN checked_at ELSE level_at END),
       redis_owed IS NOT NULL AND checked_at < now() - interval '2 minutes', unproven
FROM (SELECT *, coalesce((unproven->>'sums')::bigint, 0) > 0 AS sums_gone FROM pipeline_proof_state
      WHERE topic = %s) AS told
"""
