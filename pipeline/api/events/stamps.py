"""The server's time, and its UUIDv7s.

One `Tick` serves every event of a millisecond: formatting a time costs far more than an event may.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from uuid_utils import uuid7

from pipeline.contract.event import MAX_AHEAD, format_timestamp

MOST_AHEAD_MS: Final = 1_000
"""How far the server's own stamp may be ahead of the present, after the wall clock went back."""

_LEAP_MS: Final = 60_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Tick:
    """One millisecond of the wall clock: its text, and the latest time an event may carry in it."""

    __slots__ = ("latest", "milliseconds", "text")

    def __init__(self, milliseconds: int, second: str, latest_second: str) -> None:
        self.milliseconds = milliseconds
        fraction = f".{milliseconds % 1000:03d}000Z"
        self.text = second + fraction
        self.latest = latest_second + fraction

    @staticmethod
    def next_id() -> str:
        """Return a UUIDv7 (RFC 9562) of now, greater than every one that this process made before."""
        return str(uuid7())

    @property
    def moment(self) -> datetime:
        """The time as a datetime, in UTC."""
        return EPOCH + timedelta(milliseconds=self.milliseconds)


class Stamps:
    """The process's source of ticks. It goes back only if it was further ahead than MOST_AHEAD_MS of the wall clock.

    A clock that is slewed or steps a little does not show. One that was wrong is not believed for longer than it says
    so: otherwise one reading two days ahead would stamp every event of the process with it, and none of them count. A
    reading that leaps is read again at once, and of two that differ the one nearer to the last tick is taken.
    """

    __slots__ = ("_latest", "_second", "_seconds", "_tick")

    def __init__(self, milliseconds: int | None = None) -> None:
        self._seconds = -1
        self._second = self._latest = ""
        self._tick = self._next(time.time_ns() // 1_000_000 if milliseconds is None else milliseconds)

    def last(self) -> Tick:
        """Return the last tick given, without asking the clock."""
        return self._tick

    def now(self) -> Tick:
        """Return the tick of this millisecond."""
        milliseconds = time.time_ns() // 1_000_000
        passed = milliseconds - self._tick.milliseconds
        if passed > _LEAP_MS:
            passed = min(passed, time.time_ns() // 1_000_000 - self._tick.milliseconds)
        elif passed < -MOST_AHEAD_MS:
            passed = max(passed, time.time_ns() // 1_000_000 - self._tick.milliseconds)
        if passed > 0 or passed < -MOST_AHEAD_MS:
            self._tick = self._next(self._tick.milliseconds + passed)
        return self._tick

    def _next(self, milliseconds: int) -> Tick:
        seconds = milliseconds // 1000
        if seconds != self._seconds:
            moment = EPOCH + timedelta(seconds=seconds)
            self._seconds = seconds
            self._second = format_timestamp(moment)[:19]
            self._latest = format_timestamp(moment + MAX_AHEAD)[:19]
        return Tick(milliseconds, self._second, self._latest)
