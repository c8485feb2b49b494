"""Ending tasks that do not end at the first word."""

import asyncio

from pipeline.tasks import cancel


async def _deaf_once(heard: list[str]) -> None:
    """Lose one cancellation, as `asyncio.wait_for` does before Python 3.12."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        heard.append("lost")
    await asyncio.Event().wait()


async def _fail() -> None:
    raise ValueError("of no interest any more")


def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    async def run() -> tuple[bool, list[str]]:
        heard: list[str] = []
        task = asyncio.create_task(_deaf_once(heard))
        await asyncio.sleep(0)
        await asyncio.wait_for(cancel(task), timeout=10)
        return task.cancelled(), heard

    assert asyncio.run(run()) == (True, ["lost"])


def test_what_an_ended_task_raised_is_dropped() -> None:
    async def run() -> bool:
        task = asyncio.create_task(_fail())
        await asyncio.sleep(0)
        await cancel(task)
        return task.done() and not task.cancelled()

    assert asyncio.run(run())
