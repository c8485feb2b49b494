"""What was proven is found again among what came since, in whatever order epochs ended; not if any of it changed."""

import random
from datetime import UTC, datetime, timedelta

from pipeline.verify.contents import Moment, covers

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def written(chance: random.Random, count: int) -> list[Moment]:
    """Epochs of one player: when each wrote, how many events, and the sum of their hashes."""
    moments, at = [], BEGAN
    for _ in range(count):
        at += timedelta(seconds=chance.choice([0.02, 0.5, 3, 600]))
        moments.append(Moment(at, chance.randrange(1, 5), chance.randrange(-(2**63), 2**63)))
    return moments


def total(moments: list[Moment]) -> tuple[int, int]:
    return sum(one.events for one in moments), sum(one.contents for one in moments)


def test_what_was_written_first_is_found_however_much_came_since() -> None:
    chance = random.Random(1)
    for _ in range(200):
        moments = written(chance, chance.randrange(1, 60))
        proven = moments[: chance.randrange(1, len(moments) + 1)]
        assert covers(moments, *total(proven))


def test_epochs_that_were_under_way_at_that_moment_may_come_between() -> None:
    chance = random.Random(2)
    for _ in range(200):
        moments = written(chance, chance.randrange(6, 60))
        last = chance.randrange(1, len(moments))
        late = [one for one in moments[:last] if one.at > moments[last].at - timedelta(seconds=9)]
        missing = chance.sample(late, min(len(late), 3))
        assert covers(moments, *total([one for one in moments[: last + 1] if one not in missing]))


def test_what_changed_or_is_gone_is_not_covered() -> None:
    chance = random.Random(3)
    for _ in range(200):
        moments = written(chance, chance.randrange(2, 60))
        proven = total(moments[: chance.randrange(1, len(moments) + 1)])
        place = chance.randrange(len(moments))
        if total(moments[:place])[0] >= proven[0]:
            continue  # it came since
        other = Moment(moments[place].at, moments[place].events, chance.randrange(-(2**63), 2**63))
        assert not covers([*moments[:place], other, *moments[place + 1 :]], *proven)
        assert not covers([*moments[:place], *moments[place + 1 :]], *proven)
    assert not covers([], 1, 5)
    assert not covers([Moment(BEGAN, 1, 5), Moment(BEGAN + timedelta(hours=1), 1, 7)], 1, 7)
