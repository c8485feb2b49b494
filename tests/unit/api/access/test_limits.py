"""An allowance under many callers at once; the limits themselves are tried on a real Valkey, in test_edge_access."""

import asyncio
import time
from typing import Final

import pytest

from pipeline.api.access.limits import Allowance, bounded
from pipeline.api.http.replies import Refusal

_MANY: Final = 500
_ROUNDS: Final = 5


class Lessor:
    """Answers a question for a lease when told to, by what the allowance itself has."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def __call__(
        self, allowance: Allowance, _needs: list[int], wants: list[float]
    ) -> tuple[bool, list[float], float, float]:
        self.asked += 1
        await self.may_answer.wait()
        passes, _, wait, left = allowance.charge_locally([int(want) for want in wants], 0.0)
        return passes, wants if passes else [0.0, 0.0], wait, left


async def rounds(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def waiting(allowance: Allowance, lessor: Lessor) -> list["asyncio.Task[None]"]:
    tasks = [asyncio.create_task(allowance.refill(1, 100, lessor)) for _ in range(_MANY)]
    await rounds(2)
    assert lessor.asked == 1, "one question at a time"
    return tasks


def test_those_who_waited_for_a_lease_go_on_together() -> None:
    """In turns, the last of them waited for as many rounds of the loop as there were before it."""

    async def scenario() -> None:
        allowance, lessor = Allowance("busy", 1e6, 1e9, 0.0), Lessor()
        tasks = await waiting(allowance, lessor)
        lessor.may_answer.set()
        await rounds(_ROUNDS)
        assert all(task.done() for task in tasks)
        assert lessor.asked == 2, "once for the first of them, once for all that came meanwhile"

    asyncio.run(scenario())


def test_those_who_waited_are_refused_together() -> None:
    async def scenario() -> None:
        allowance, lessor = Allowance("slow", 0.01, 0, 0.0), Lessor()  # so slow that no time passes meanwhile
        assert allowance.charge_locally([1, 0], 0.0)[0], "the burst"
        tasks = await waiting(allowance, lessor)
        lessor.may_answer.set()
        await rounds(_ROUNDS)
        assert all(isinstance(task.exception(), Refusal) for task in tasks)
        assert lessor.asked == 1

    asyncio.run(scenario())


def test_who_asked_and_went_away_keeps_nobody_waiting() -> None:
    async def scenario() -> None:
        allowance, lessor = Allowance("busy", 1e6, 1e9, 0.0), Lessor()
        first, *others = await waiting(allowance, lessor)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        lessor.may_answer.set()
        await rounds(2 * _ROUNDS)
        assert all(task.done() and task.exception() is None for task in others)
        assert lessor.asked == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 1e308, 5e-324, 1e-9, -1.0, 0.5, 1e6])
def test_any_rate_of_the_table_can_be_reckoned_with(rate: float) -> None:
    held = bounded(rate)
    assert 0.001 <= held <= 1e9
    allowance = Allowance("any", held, held, 0.0)
    for need in (1, 2_000):
        allowance.charge_locally([need, 4 << 20], 0.0)
        assert int(allowance.refusal(allowance.charge_locally([need, 4 << 20], 0.0)[2]).headers[0][1]) < 1e12


def test_a_wait_that_another_clock_told_is_asked_about_again() -> None:
    """Valkey's clock leapt two days ahead for one question; the next is asked within a second."""

    async def wrong(
        _allowance: Allowance, needs: list[int], _wants: list[float]
    ) -> tuple[bool, list[float], float, float]:
        return False, [float(need) for need in needs], 172_800.0, 5.0

    async def scenario() -> None:
        allowance = Allowance("slow", 10, 0, 0.0)
        with pytest.raises(Refusal):
            await allowance.refill(1, 100, wrong)
        started = time.monotonic()
        with pytest.raises(Refusal):
            allowance.take(1, 100, started)
        assert not allowance.take(1, 100, started + 1.1), "it asks"

    asyncio.run(scenario())
