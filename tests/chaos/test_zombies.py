"""A consumer that is frozen past its session, replaced, and thawed: it writes nothing, in either sink."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sinks import session
from tests.chaos import crashing
from tests.chaos.children import child
from tests.chaos.crashing import Crash
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

FREEZING = (
    "decoded",
    "half a COPY",
    "watermarks locked",
    "copied",
    "watermarks moved",
    "written",
    "Redis chunk",
    "offsets committed",
)
"""Where a consumer freezes: with an epoch in memory, with locks held, with half an epoch in Redis."""


def shorten_the_standstill() -> None:
    session.STANDSTILL_SECONDS = 3  # type: ignore[misc]


def freeze_at(step: str) -> Callable[[], None]:
    """Make the setup by which a child freezes itself the second time it passes a step."""
    return FREEZERS[step]


def _freezer(step: str) -> Callable[[], None]:
    def setup() -> None:
        shorten_the_standstill()
        crashing.arm(Crash(step, "after", 2), crashing.freeze)

    setup.__qualname__ = setup.__name__ = f"freeze_{step.replace(' ', '_')}"
    globals()[setup.__name__] = setup
    return setup


FREEZERS = {step: _freezer(step) for step in FREEZING}


SHORT = ("half a COPY", "decoded", "copied", "watermarks moved", "Redis chunk")


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step in SHORT else [pytest.mark.long]) for step in FREEZING]
)
def test_a_zombie_writes_nothing(step: str, place: Place, tmp_path: Path) -> None:
    with Feed(place, 1) as feed, child(place, tmp_path, setup=freeze_at(step)) as zombie:
        feed.send(20)
        eventually(lambda: "partitions assigned" in zombie.said, timeout=30)
        eventually(lambda: zombie.frozen or feed_one(feed), timeout=30)
        with child(place, tmp_path, setup=shorten_the_standstill) as peer:
            feed.send(50)
            caught_up(place)
            zombie.thaw()
            eventually(lambda: "partitions lost" in zombie.said or "partitions revoked" in zombie.said, timeout=30)
            feed.send(50)
            caught_up(place)
            assert peer.stop() == 0
        caught_up(place)
        assert zombie.stop() == 0
    assert_exact(place)


def feed_one(feed: Feed) -> bool:
    feed.send(4)
    return False
