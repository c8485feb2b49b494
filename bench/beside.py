"""Two loads beside each other: consumed in turns in one run, so that what drifts is in both; never with wrong sums."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench import limit
from bench.limit import Limit
from bench.load import Load, Produced, produce, reference_load
from bench.rig import Fixture, Rig
from bench.throughput import Throughput, measure
from bench.truth import Truth, require, sum_up

Prepare = Callable[[Fixture], None]

_WARM_UP: Final = 20_000


@dataclass(frozen=True, slots=True)
class Backlog:
    """A fixture whose topic holds a load, and what must come of it."""

    fixture: Fixture
    produced: Produced
    truth: Truth


@dataclass(frozen=True, slots=True)
class Pair:
    """The median run of a load and of its reference, and the median of each turn's ratio."""

    run: Throughput
    reference: Throughput
    rate_ratio: float
    byte_ratio: float


@dataclass(frozen=True, slots=True)
class Limited:
    """A run, and what a bare client makes of its bytes."""

    run: Throughput
    limit: Limit

    @property
    def ratio(self) -> float:
        """The rate of the run as a share of its limit's."""
        return self.run.rate / self.limit.rate


def warm_up(rig: Rig) -> None:
    """Consume a little and throw it away: a broker's first group and first producer cost it seconds, once."""
    with rig.fixture() as fixture:
        measure(rig, fixture, produce(fixture, reference_load(_WARM_UP, seed=0)))


@contextmanager
def backlog(rig: Rig, load: Load) -> Iterator[Backlog]:
    """Lay a load into a topic of its own."""
    with rig.fixture() as fixture:
        yield Backlog(fixture, produce(fixture, load), sum_up(load.slices()))


def in_turns(rig: Rig, own: Backlog, reference: Backlog, turns: int, prepare: Prepare | None = None) -> Pair:
    """Consume both, `turns` times, each turn in the other order; `prepare` readies own databases before each run.

    Raises WrongSumsError. The first turn's sums are recounted from the topic as well.
    """
    runs, references = list[Throughput](), list[Throughput]()
    for turn in range(turns):
        both = [(own, runs, prepare), (reference, references, None)]
        for load, found, ready in both if turn % 2 == 0 else reversed(both):
            found.append(_consume(rig, load, ready, recount=turn == 0))
    pairs = list(zip(runs, references, strict=True))
    return Pair(
        run=_typical(runs),
        reference=_typical(references),
        rate_ratio=median(run.rate / beside.rate for run, beside in pairs),
        byte_ratio=median(run.byte_rate / beside.byte_rate for run, beside in pairs),
    )


def limited(rig: Rig, load: Backlog) -> Limited:
    """Consume a load in its own new fixture, and measure the limit of that run. Raises WrongSumsError."""
    run = measure(rig, load.fixture, load.produced)
    require(load.fixture, load.truth)
    return Limited(run, limit.measure(rig, load.fixture, load.truth))


def _consume(rig: Rig, load: Backlog, prepare: Prepare | None, *, recount: bool) -> Throughput:
    with rig.sibling(load.fixture) as own:
        if prepare is not None:
            prepare(own)
        run = measure(rig, own, load.produced)
        require(own, load.truth, recount=recount)
    return run


def _typical(runs: list[Throughput]) -> Throughput:
    """The run of the median rate."""
    return sorted(runs, key=lambda run: run.rate)[len(runs) // 2]
