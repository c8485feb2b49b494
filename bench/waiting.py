"""Waiting for a condition with a deadline."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


def eventually(observe: Callable[[], T | None], timeout: float, interval: float = 0.01) -> T:
    """Return the first true value of `observe`; raise TimeoutError after `timeout` seconds."""
    deadline = monotonic() + timeout
    pause = threading.Event()
    while not (seen := observe()):
        if monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:.0f} s")
        pause.wait(interval)
    return seen
