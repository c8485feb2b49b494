"""`python -m bench --shapes`: each shape beside a flat load of the same size, two stages alone and the whole job."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from bench import alone
from bench.alone import Alone
from bench.beside import Limited, Pair, backlog, in_turns, limited, warm_up
from bench.findings import Machine, now, this_machine
from bench.load import Load, reference_load
from bench.rig import Rig, running_rig
from bench.shapes import SHAPES, padded_like

EVENTS: Final = 300_000
_TURNS: Final = 3
_LIMITED: Final = "mixed"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """The whole job with a shape, in turns with a flat load padded to its size; and for the mix its limit."""

    pair: Pair
    limited: Limited | None


@dataclass(frozen=True, slots=True)
class Shaped:
    """What was found of one shape; no job if it was not asked for, or if the edge makes flat records of it."""

    name: str
    about: str
    alone: Alone
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a run of `--shapes` found; `events` are those of each whole job."""

    at: str
    machine: Machine
    events: int
    shapes: list[Shaped]


def run(events: int, say: Say, *, job: bool = True, names: Iterable[str] = tuple(SHAPES), seed: int = 1) -> Shapes:
    """Measure shapes. Raises WrongSumsError when any sum is off: then no figure is worth anything."""
    at, machine, names = now(), this_machine(), list(names)
    stages = {}
    for name, found in alone.measure(names, events, seed):
        say(f"decoder and judge alone: {name}")
        stages[name] = found
    jobs = dict(_jobs(names, events, seed, say)) if job else {}
    return Shapes(
        at, machine, events, [Shaped(name, SHAPES[name].about, stages[name], jobs.get(name)) for name in names]
    )


def _jobs(names: Iterable[str], events: int, seed: int, say: Say) -> Iterator[tuple[str, Job]]:
    with running_rig() as rig:
        say("warming up the servers")
        warm_up(rig)
        for name in names:
            if not SHAPES[name].edge_only:
                say(f"the whole job: {name}")
                yield name, measure_job(rig, reference_load(events, seed, SHAPES[name]), _TURNS)


def measure_job(rig: Rig, load: Load, turns: int) -> Job:
    """Consume a load in turns with the flat one padded to its size."""
    padded = Load(load.count, load.workload, padded_like(load.shape, load.workload))
    with backlog(rig, load) as own, backlog(rig, padded) as reference:
        pair = in_turns(rig, own, reference, turns)
        return Job(pair, limited(rig, own) if load.shape.name == _LIMITED else None)
