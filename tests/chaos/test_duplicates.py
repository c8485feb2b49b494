"""The same events again: shuffled, to other partitions, half-new, across restarts, to two consumers at once."""

import functools
import random
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.children import SMALL, child
from tests.chaos.crashing import Crash
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consume_all, consuming
from tests.dialects import IN_BOTH_DIALECTS
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos, IN_BOTH_DIALECTS]

IN_PROCESS: dict[str, Any] = {**SMALL}


def test_everything_again_shuffled_over_other_partitions_and_half_new(place: Place) -> None:
    shuffled = random.Random(1)
    with Feed(place, 1, again=0) as feed:
        feed.send(200)
        consume_all(place, **IN_PROCESS)
        for size in (7, 500):  # across small epochs, and all within one
            again = list(feed.sent)
            shuffled.shuffle(again)
            feed.send_these(
                [value for pair in zip(again, map(new, [feed] * len(again)), strict=True) for value in pair]
            )
            consume_all(place, **(IN_PROCESS | {"batch_max_events": size, "batch_max_wait_ms": 300}))
    truth = assert_exact(place)
    assert sum(truth.records.values()) > len(truth.events) + len(truth.bad) + 400


def new(feed: Feed) -> bytes:
    value = feed.event()
    feed.sent.append(value)
    return value


def test_the_same_events_to_two_consumers_at_the_same_time(place: Place) -> None:
    """Each partition gets every event: whichever consumer admits one first, the other finds it known."""
    with Feed(place, 2, bad=0) as feed, consuming(place, **IN_PROCESS), consuming(place, **IN_PROCESS):
        for _ in range(6):
            batch = [feed.event() for _ in range(40)]
            for partition in range(3):
                feed.send_these(batch if partition % 2 else batch[::-1], partition=partition)
        caught_up(place)
    truth = assert_exact(place)
    assert len(truth.events) == 240
    assert sum(truth.records.values()) == 720


def test_duplicates_across_a_death(place: Place, tmp_path: Path) -> None:
    with Feed(place, 3, again=0.5) as feed:
        feed.send(150)
        for nth in (2, 4):
            with child(place, tmp_path, crash=Crash("written", "after", nth)) as victim:
                eventually(functools.partial(victim.dead, feed), timeout=40)
                assert victim.exit_code == -9
            feed.send_these(feed.sent[-40:])
        consume_all(place, **IN_PROCESS)
    assert_exact(place)
