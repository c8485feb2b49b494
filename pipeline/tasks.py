"""Ending asyncio tasks."""

import asyncio
from typing import Any, Final

_AGAIN_S: Final = 0.1


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and again until it has ended; what it raises is dropped.

    Once is not enough: `asyncio.wait_for`, which psycopg waits with, loses a cancellation that comes in the moment of
    its answer (https://github.com/python/cpython/issues/86296, mended in Python 3.12).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
    if not task.cancelled():
        task.exception()  # else it is reported as never retrieved
