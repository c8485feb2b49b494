"""kill -9 at every boundary between two effects, before and after, alone and beside a peer, over several epochs."""

import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chaos.children import SMALL, child
from tests.chaos.crashing import SENT, STEPS, Crash, Moment
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.conftest import MakePlace
from tests.consuming import caught_up, consuming
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

ADDING = ("one table upserted", "upserted", "commit sent")
"""The steps around what the dialects do differently; the others touch nothing of it."""


class Case(NamedTuple):
    """Die at a moment of a step, beside a peer or alone."""

    step: str
    moment: Moment
    peer: bool


def cases(step: str) -> list[Case]:
    moments: tuple[Moment, ...] = ("before",) if step in SENT else ("before", "after")
    return [Case(step, moment, peer) for moment in moments for peer in (False, True)]


def die_and_recover(place: Place, directory: Path, case: Case, epochs: range, seed: int) -> None:
    """Let a consumer die at the step in its 1st, 2nd, … epoch, each time taken up by the next; then let one finish."""
    with ExitStack() as cleanup:
        feed = cleanup.enter_context(Feed(place, seed))
        feed.send(20)
        if case.peer:
            cleanup.enter_context(consuming(place, **SMALL))  # type: ignore[arg-type]
        for epoch in epochs:
            with child(place, directory, crash=Crash(case.step, case.moment, epoch)) as victim:
                eventually(functools.partial(victim.dead, feed), timeout=60)
                assert victim.exit_code == -9, victim.said
        feed.send(30)
        if not case.peer:
            cleanup.enter_context(consuming(place, **SMALL))  # type: ignore[arg-type]
        caught_up(place)
    truth = assert_exact(place)
    assert len(truth.events) > 30


@pytest.mark.parametrize("step", [*STEPS, *SENT])
def test_death_at_a_step_loses_nothing_and_doubles_nothing(step: str, make_place: MakePlace, tmp_path: Path) -> None:
    die_in_every_way(step, make_place, tmp_path, range(2, 3))


@pytest.mark.parametrize("dialect", ["distributed"])
@pytest.mark.parametrize("step", ADDING)
def test_death_while_sums_are_added_as_a_distributed_server_needs_it(
    step: str, make_place: MakePlace, tmp_path: Path
) -> None:
    die_in_every_way(step, make_place, tmp_path, range(2, 3))


@pytest.mark.long
@pytest.mark.parametrize("step", [*STEPS, *SENT])
def test_death_at_a_step_in_many_epochs(step: str, make_place: MakePlace, tmp_path: Path) -> None:
    die_in_every_way(step, make_place, tmp_path, range(1, 7))


def die_in_every_way(step: str, make_place: MakePlace, tmp_path: Path, epochs: range) -> None:
    found = cases(step)
    places = [make_place() for _ in found]
    with ThreadPoolExecutor(len(found)) as pool:
        runs = []
        for seed, (case, place) in enumerate(zip(found, places, strict=True)):
            directory = tmp_path / str(seed)
            directory.mkdir()
            runs.append(pool.submit(die_and_recover, place, directory, case, epochs, seed))
        for run in runs:
            run.result()
