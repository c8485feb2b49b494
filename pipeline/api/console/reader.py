"""Reads the topic beside the loop, one page at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pipeline.api.console.answers import unavailable
from pipeline.config import Settings
from pipeline.kafka.browser import Browser, Page

_MOST_WAITING: Final = 4


class Reader:
    """Reads pages in a thread of its own, with one client that is made when first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
        self._browser: Browser | None = None
        self._waiting = 0

    async def page(self, read: Callable[[Browser], Page]) -> Page:
        """Read a page. Raises Refusal (503) if too many wait for theirs, and what the browser raises."""
        if self._waiting >= _MOST_WAITING:
            raise unavailable("the topic is being read for others")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, read)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Close the client; a page that is being read has a deadline."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _read(self, read: Callable[[Browser], Page]) -> Page:
        if self._browser is None:
            self._browser = Browser(self._settings)
        return read(self._browser)

    def _close(self) -> None:
        if self._browser is not None:
            self._browser.close()
