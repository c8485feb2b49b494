"""One watch for all who wait: what thousands of them cost, and what they leave behind."""

import asyncio
import math
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pipeline.api.boards.arrivals import Arrivals, Reads
from pipeline.api.database import Database
from pipeline.api.http.replies import Refusal
from pipeline.api.valkey import Valkey
from pipeline.kafka.facts import TopicFacts
from tests.consuming import consume_all
from tests.events import encoded
from tests.place import Place
from tests.topics import create_again

pytestmark = pytest.mark.real

MANY = 5_000


@asynccontextmanager
async def arrivals_at(place: Place) -> AsyncIterator[Arrivals]:
    """The edge's watch, without the edge."""
    database, valkey = Database(place.settings), Valkey(place.settings)
    await database.open()
    arrivals = Arrivals(place.topic, database, valkey.hash, TopicFacts(place.settings).ask)
    try:
        yield arrivals
    finally:
        await arrivals.close()
        await valkey.aclose()
        await database.close()


async def looks(arrivals: Arrivals, count: int) -> None:
    """Wait for so many looks at the watermarks."""
    until = arrivals.looks + count
    while arrivals.looks < until:
        await asyncio.sleep(0)
        await asyncio.to_thread(time.monotonic)


async def cost_of_a_look(arrivals: Arrivals, places: list[dict[int, int]], within: float) -> float:
    """Let readers wait; return the median CPU time of the watch for a look, in seconds."""
    waiting = [asyncio.create_task(arrivals.reached("stats", one, within)) for one in places]
    try:
        await looks(arrivals, 5)  # the first ones take them in
        assert arrivals.waiting == len(places)
        return statistics.median([await one_look(arrivals) for _ in range(15)])
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def one_look(arrivals: Arrivals) -> float:
    """Return the CPU time of the loop's thread between two looks, in which nobody else does anything."""
    before, seen, done = time.thread_time(), arrivals.looks, asyncio.Event()

    def ask() -> None:
        if arrivals.looks > seen:
            done.set()
        else:
            asyncio.get_running_loop().call_later(0.005, ask)

    ask()
    await done.wait()
    return time.thread_time() - before


def test_thousands_who_wait_cost_a_look_no_more_than_one(place: Place) -> None:
    placed = place.produce([encoded(player_id=f"p{number}") for number in range(300)])
    few, many = [dict([placed[0]])], [dict([placed[number % 300]]) for number in range(4 * MANY)]

    async def compare() -> tuple[float, float]:
        async with arrivals_at(place) as arrivals:
            one = thousands = math.inf
            for _ in range(8):  # a cost that grows with those who wait holds in none; a busy moment in some
                one = min(one, await cost_of_a_look(arrivals, few, 600))
                thousands = min(thousands, await cost_of_a_look(arrivals, many, 600))
                if thousands < 1.5 * one + 0.0005:
                    break
        return one, thousands

    one, thousands = asyncio.run(compare())
    assert thousands < 1.5 * one + 0.0005, (one, thousands)


def test_all_who_wait_are_let_go_by_what_is_counted(place: Place) -> None:
    placed = place.produce([encoded(player_id=f"p{number}") for number in range(300)])

    async def wait() -> list[BaseException | None]:
        async with arrivals_at(place) as arrivals:
            wanted = [dict([placed[number % 300]]) for number in range(MANY)]
            reads: list[Reads] = ["stats", "leaderboard", "every"]
            waiting = [
                asyncio.create_task(arrivals.reached(reads[number % 3], one, 600)) for number, one in enumerate(wanted)
            ]
            await looks(arrivals, 3)
            assert arrivals.waiting == MANY
            await asyncio.to_thread(consume_all, place)
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert arrivals.waiting == 0
            assert not arrivals._heaps  # noqa: SLF001 - what is left is what leaks
            return ended

    assert asyncio.run(wait()) == [None] * MANY


def test_those_who_give_up_leave_nothing_behind(place: Place) -> None:
    placed = place.produce([encoded(player_id=f"p{number}") for number in range(30)])
    wanted = [dict([placed[number % 30]]) for number in range(MANY)]

    async def wait() -> None:
        async with arrivals_at(place) as arrivals:
            patient = asyncio.create_task(arrivals.reached("stats", wanted[0], 600))
            for _ in range(4):
                ended = await asyncio.gather(
                    *(arrivals.reached("stats", one, 0.05) for one in wanted), return_exceptions=True
                )
                assert {error.status for error in ended if isinstance(error, Refusal)} == {504}
                assert len(ended) == MANY
            await looks(arrivals, 3)
            entries = sum(map(len, arrivals._heaps.values()))  # noqa: SLF001 - what is left is what leaks
            assert entries < MANY
            assert arrivals.waiting == 1
            assert len(arrivals._deadlines) < MANY  # noqa: SLF001
            await asyncio.to_thread(consume_all, place)
            await patient

    asyncio.run(wait())


def test_who_waits_while_the_topic_is_created_again_is_told(place: Place) -> None:
    (placed,) = place.produce([encoded(player_id="p")])

    def count_another() -> None:
        create_again(place)
        place.produce([encoded(player_id="p")] * 3, partition=placed[0])
        consume_all(place)

    async def wait() -> None:
        async with arrivals_at(place) as arrivals:
            waiting = asyncio.create_task(arrivals.reached("stats", dict([placed]), 600))
            await looks(arrivals, 3)
            await asyncio.to_thread(count_another)
            with pytest.raises(Refusal, match="created again") as refused:
                await waiting
            assert refused.value.status == 400

    asyncio.run(wait())


def test_a_quiet_watch_asks_nobody(place: Place) -> None:
    (placed,) = place.produce([encoded()])
    consume_all(place)

    async def wait() -> None:
        async with arrivals_at(place) as arrivals:
            await arrivals.reached("stats", dict([placed]), 60)
            watching = arrivals._watching  # noqa: SLF001 - its end is what is tested
            assert watching is not None
            await watching
            seen = arrivals.looks
            await arrivals.reached("stats", dict([placed]), 60)
            assert arrivals.looks > seen

    asyncio.run(wait())
