"""Records and keys that spoil, and nothing else spoilt by them."""

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract.boards import board_key, stats_key
from pipeline.sinks.level import Cache
from tests.chaos.children import SMALL, child
from tests.chaos.crashing import Crash, die
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consume_all, consuming
from tests.events import BAD_RECORDS, GOOD_BUT_RARE, now
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

IN_PROCESS: dict[str, Any] = {**SMALL, "dlq_halt_ratio": 1.0}


def test_every_bad_record_and_every_rare_one_across_deaths(place: Place, tmp_path: Path) -> None:
    values = [bad.value for bad in BAD_RECORDS if bad.value is not None] + [value for _, value in GOOD_BUT_RARE]
    random.Random(1).shuffle(values)
    with Feed(place, 1) as feed:
        feed.send_these(values)
        for nth in (1, 2, 3):
            with child(place, tmp_path, crash=Crash("dead letters", "after", nth), dlq_halt_ratio=1.0) as victim:
                eventually(functools.partial(victim.dead, None), timeout=90)
                assert victim.exit_code == -9, victim.said
        consume_all(place, **IN_PROCESS)
    truth = assert_exact(place)
    assert len(truth.bad) >= len(BAD_RECORDS) - 1


KEYS: dict[str, Callable[[], str]] = {
    "statistics": lambda: stats_key("p1"),
    "all time": lambda: board_key("g1", "alltime"),
    "today": lambda: board_key("g1", f"daily:{now()[:10]}"),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_another_type_is_reported_and_refilled_and_the_others_go_on(
    name: str, place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    with Feed(place, 2) as feed, consuming(place, **IN_PROCESS):
        feed.send(100)
        caught_up(place)
        key = KEYS[name]()
        with place.redis() as client:
            client.delete(key)
            client.set(key, "in the way")
        feed.send(200)
        caught_up(place)
        with place.redis() as client:
            eventually(lambda: client.type(key) != b"string")
        feed.send(50)
        caught_up(place)
    assert_exact(place)
    assert f"key={key}" in capfd.readouterr().out


def die_before_the_repair() -> None:
    Cache.repair = lambda *_: die()  # type: ignore[method-assign]


def test_a_refused_key_that_someone_deletes_before_the_repair_is_refilled(place: Place, tmp_path: Path) -> None:
    """The consumer dies after the refusal; then the key is free, and increments alone would leave it short."""
    with Feed(place, 3, bad=0) as feed:
        with place.redis() as client:
            client.set("player_stats:p1", "in the way")
        feed.send_these([feed.event() for _ in range(40)], partition=0)
        with child(place, tmp_path, setup=die_before_the_repair, batch_max_events=40) as victim:
            eventually(lambda: victim.dead(None), timeout=40)
        with place.redis() as client:
            client.delete("player_stats:p1")
        feed.send(60)
        consume_all(place, **IN_PROCESS)
    assert_exact(place)
