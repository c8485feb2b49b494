"""How old a position of a log is, told by when its end was seen to pass it; and how fast a number grows.

No record is read for it, and no metric asked: the ends of the logs are sampled anyway.
"""

from bisect import bisect_right
from collections import deque
from operator import itemgetter
from typing import Final

_SAMPLES: Final = 240


class LogClock:
    """Remembers when the end of each log was seen where. Times are the loop's, in seconds."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[tuple[float, int]]] = {}

    def saw(self, partition: int, end: int, at: float) -> None:
        """Note that a log ended there at a time. One that stands still needs two samples, however long."""
        seen = self._seen.setdefault(partition, deque(maxlen=_SAMPLES))
        if seen and end < seen[-1][1]:
            seen.clear()  # the topic was made anew
        if len(seen) > 1 and seen[-2][1] == seen[-1][1] == end:
            seen.pop()
        seen.append((at, end))

    def age(self, partition: int, offset: int, now: float) -> tuple[float, bool]:
        """Return for how many seconds the log has reached past an offset, and whether that is exact.

        0 if it does not; if it did already when it was first seen, the time since then, which is the least.
        Between two samples the log is taken to have grown steadily.
        """
        seen = self._seen.get(partition)
        if not seen or seen[-1][1] <= offset:
            return 0.0, True
        after = bisect_right(seen, offset, key=itemgetter(1))
        (at, end) = seen[after]
        if after == 0:
            return max(0.0, now - at), False
        (before, start) = seen[after - 1]
        return max(0.0, now - (before + (at - before) * (offset + 0.5 - start) / (end - start))), True


class Rate:
    """A number that grows, by the second."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self.per_second: float | None = None

    def note(self, value: int | None, at: float) -> float | None:
        """Take in the number as of a time; return its rate, None if it is not known.

        The same time again is the same sample: the rate stands. A number that fell began anew.
        """
        if value is None:
            self._last = self.per_second = None
            return None
        if self._last is None or value < self._last[1]:
            self.per_second = None
        elif at > self._last[0]:
            self.per_second = round((value - self._last[1]) / (at - self._last[0]), 1)
        if self._last is None or at > self._last[0] or value < self._last[1]:
            self._last = (at, value)
        return self.per_second
