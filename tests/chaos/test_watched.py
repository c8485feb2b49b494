"""`gamemetrics verify --watch` beside consumers that are killed under load: no false alarm, and everything proven."""

import functools
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.children import SMALL, child
from tests.chaos.crashing import Crash
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consuming
from tests.place import Place
from tests.waiting import eventually
from tests.watching import watching

pytestmark = [pytest.mark.real, pytest.mark.chaos]

IN_PROCESS: dict[str, Any] = {**SMALL}
DEATHS = [Crash("written", "after", 3), Crash("written", "before", 4), Crash("Redis done", "before", 3)]


def test_no_false_alarm_beside_consumers_that_die(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Feed(place, 5, again=0.2) as feed, watching(place, monkeypatch) as seen:
        for crash in DEATHS:
            with child(place, tmp_path, crash=crash) as victim:
                eventually(functools.partial(victim.dead, feed), timeout=120)
                assert victim.exit_code == -9
        with consuming(place, **IN_PROCESS):
            feed.send(100)
            caught_up(place)
            proven = seen.told("records_total")
            feed.send(10)
            caught_up(place)
            eventually(lambda: seen.told("records_total") > proven and seen.told("behind_records") == 0, 120)
        assert seen.alarms == []
        assert seen.told("age_seconds") < 120
    assert_exact(place)
