"""Starting and ending asyncio tasks."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.1


def watched(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Run work that ends only when it is cancelled; what else ends it is told to the loop's exception handler, at once.

    Otherwise a task that nobody awaits dies alone: what it raised is told when it is collected, which may be never.
    """
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_tell)
    return task


def _tell(task: "asyncio.Task[None]") -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        name = task.get_coro().__qualname__  # type: ignore[union-attr]  # it is a coroutine's
        task.get_loop().call_exception_handler({"message": f"{name} ended", "exception": error})


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and again until it has ended; what it raises is dropped.

    Once is not enough: `asyncio.wait_for`, which psycopg waits with, loses a cancellation that comes in the moment of
    its answer (https://github.com/python/cpython/issues/86296, mended in Python 3.12).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)
    if not task.cancelled():
        task.exception()  # otherwise it is reported as never retrieved
