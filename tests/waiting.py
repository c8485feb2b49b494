"""Waiting for a condition instead of sleeping."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(observe: Callable[[], T], timeout: float = 15.0, interval: float = 0.05) -> T:
    """Return the first true value of `observe`, asked again and again; fail with its last value after `timeout` s."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        seen = observe()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s; the last value was {seen!r}")
        pause.wait(interval)
