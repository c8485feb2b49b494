"""Whether what was proven of some events is still there, among those that came since: pure.

Of what was proven its number and the sum of its contents' hashes are known, not which events it was. It is what one
moment of PostgreSQL held. A player's epochs are written one after the other, so that is what was written first; but for
epochs over two partitions, of which one may have begun earlier and be there later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, combinations
from typing import Final

_UNDER_WAY: Final = timedelta(seconds=10)
_MOST_UNDER_WAY: Final = 3
_MOST_LATE: Final = 16
"""So many epochs with events of one player and type may have been under way at once, and so long; of the last few."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The events of one player and type that one epoch wrote: when, how many, and the sum of their hashes."""

    at: datetime
    events: int
    contents: int


def covers(moments: Sequence[Moment], events: int, contents: int) -> bool:
    """Whether so many events of this sum are what was there at some time; `moments` are in their order."""
    so_far = list(accumulate(moments, lambda seen, one: Moment(one.at, seen.events + one.events,
                                                               seen.contents + one.contents)))  # fmt: skip
    enough = [place for place, seen in enumerate(so_far) if seen.events >= events]
    for place in enough[:_MOST_LATE]:
        last = so_far[place]
        if last.at > so_far[enough[0]].at + _UNDER_WAY:
            return False
        late = [one for one in moments[max(0, place + 1 - _MOST_LATE) : place + 1] if one.at >= last.at - _UNDER_WAY]
        for count in range(_MOST_UNDER_WAY + 1):
            for left_out in combinations(late, count):
                if (
                    last.events - sum(one.events for one in left_out) == events
                    and last.contents - sum(one.contents for one in left_out) == contents
                ):
                    return True
    return False
