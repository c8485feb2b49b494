"""The server's time and the UUIDv7s made from it.

One `Tick` serves every event of a millisecond: formatting a time and drawing randomness cost far more than an
event may, and a UUIDv7 needs no finer clock than that.
"""

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.event import MAX_AHEAD, format_timestamp

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Tick:
    """One millisecond of the wall clock: its text, the latest time an event may carry in it, and its ids."""

    __slots__ = ("_counter", "_prefix", "latest", "milliseconds", "moment", "text")

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds
        self.moment = EPOCH + timedelta(milliseconds=milliseconds)
        self.text = format_timestamp(self.moment)
        self.latest = format_timestamp(self.moment + MAX_AHEAD)
        # RFC 9562, 6.2, method 2: 74 bits, random anew in each millisecond, of which the low 48 then count up. The
        # top bit of the count starts at 0, so that it cannot overflow within the millisecond.
        stamp, drawn = f"{milliseconds:012x}", secrets.randbits(73)
        self._counter = drawn & (2**47 - 1)
        self._prefix = f"{stamp[:8]}-{stamp[8:]}-{0x7000 | drawn >> 61:04x}-{0x8000 | drawn >> 47 & 0x3FFF:04x}-"

    def next_id(self) -> str:
        """Return a UUIDv7 greater than every one before it."""
        self._counter += 1
        return f"{self._prefix}{self._counter:012x}"


class Stamps:
    """The process's source of ticks. It never goes back, though the wall clock may."""

    __slots__ = ("_tick",)

    def __init__(self) -> None:
        self._tick = Tick(time.time_ns() // 1_000_000)

    def now(self) -> Tick:
        """Return the tick of this millisecond."""
        milliseconds = time.time_ns() // 1_000_000
        if milliseconds > self._tick.milliseconds:
            self._tick = Tick(milliseconds)
        return self._tick
