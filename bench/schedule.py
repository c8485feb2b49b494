"""The schedule of a run: its measurements, their order and fixtures; figures only if the sums are right."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from bench import chaos, flat, freshness, guide, limit, sweep, throughput
from bench.beside import Backlog, backlog, limited, warm_up
from bench.findings import Findings, now, this_machine
from bench.load import produce, reference_load
from bench.rig import Rig, running_rig
from bench.shapes import SHAPES
from bench.truth import require, sum_up

_TRICKLE: Final = 5_000.0
_SIZES: Final = (1_000, 5_000, 20_000, 50_000, 80_000, 110_000, 200_000)
_WAITS: Final = (10, 25, 50, 100, 250, 1_000)
_SWEEP_EVENTS: Final = 1_000_000
_SWEEP_SECONDS: Final = 8.0
_TURNS: Final = (1, 3, 3, 1, 1, 3)
"""Processes of one run after another, in turns: what drifts, a machine's speed or a server's age, is in both."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What to measure, and how much of it. A size of 0 leaves a part out."""

    events: int
    seed: int = 1
    limit: bool = True
    mixed: bool = False
    fresh_seconds: float = 0.0
    guide_events: int = 0
    flat_events: int = 0
    kills: int = 0
    scale: bool = False
    sweep: bool = False


def run(schedule: Schedule, say: Say) -> Findings:
    """Measure. Raises WrongSumsError when any sum is off: then no figure is worth anything."""
    at, machine = now(), this_machine()
    with running_rig() as rig:
        say("warming up the servers")
        warm_up(rig)
        with rig.fixture() as fixture:
            say(f"producing {schedule.events:,} events")
            load = reference_load(schedule.events, schedule.seed)
            produced, truth = produce(fixture, load), sum_up(load.slices())
            say("consuming once, so that no server is new to it")
            with rig.sibling(fixture) as first:
                throughput.measure(rig, first, produced)
            say("consuming")
            calm = throughput.measure(rig, fixture, produced)
            say("verifying")
            require(fixture, truth)
            findings = Findings(at, machine, calm)
            if schedule.limit:
                say("taping the run's bytes, and replaying them")
                findings = replace(findings, limit=limit.measure(rig, fixture, truth))
            findings = _again(schedule, rig, Backlog(fixture, produced, truth), findings, say)
        return _beside(schedule, rig, findings, say)


def _again(schedule: Schedule, rig: Rig, backlog: Backlog, findings: Findings, say: Say) -> Findings:
    """Consume the same topic under other circumstances."""
    fixture, produced, truth = backlog.fixture, backlog.produced, backlog.truth
    if schedule.scale:
        shared = []
        for processes in _TURNS:
            say(f"consuming with {processes} process{'es' if processes > 1 else ''}")
            with rig.sibling(fixture) as own:
                shared.append(throughput.measure_shared(rig, own, produced, processes))
                require(own, truth)
        findings = replace(findings, scale=shared)
    if schedule.kills:
        say(f"consuming with {schedule.kills} kills")
        with rig.sibling(fixture) as own:
            killed = chaos.measure(rig, own, produced, schedule.kills, schedule.seed)
            require(own, truth)
        findings = replace(findings, chaos=killed)
    if schedule.flat_events:
        say(f"filling a database with {schedule.flat_events:,} events, and consuming into it")
        with rig.sibling(fixture) as own:
            findings = replace(findings, flat=flat.measure_flat(rig, own, produced, truth, schedule.flat_events))
    return findings


def _beside(schedule: Schedule, rig: Rig, findings: Findings, say: Say) -> Findings:
    """Measure what needs topics of its own."""
    if schedule.mixed:
        say(f"the same with {schedule.events:,} events of mixed shapes")
        with backlog(rig, reference_load(schedule.events, schedule.seed, SHAPES["mixed"])) as own:
            mixed = limited(rig, own)
        findings = replace(findings, mixed=mixed.run, mixed_limit=mixed.limit)
    if schedule.fresh_seconds:
        say(f"sending {_TRICKLE:,.0f} events/s through HTTP for {schedule.fresh_seconds:.0f} s")
        load = reference_load(int(_TRICKLE * schedule.fresh_seconds), schedule.seed)
        with rig.fixture() as fixture:
            fresh, probes = freshness.measure(fixture, load, _TRICKLE)
            require(fixture, sum_up([*load.slices(), probes]))
        findings = replace(findings, freshness=fresh)
    if schedule.guide_events:
        say(f"the guide's way with {schedule.guide_events:,} events")
        with rig.fixture() as fixture:
            produce(fixture, reference_load(schedule.guide_events, schedule.seed))
            findings = replace(findings, guide=guide.measure(fixture, schedule.guide_events))
    if schedule.sweep:
        findings = replace(findings, sweep=_sweep(schedule, rig, say))
    return findings


def _sweep(schedule: Schedule, rig: Rig, say: Say) -> sweep.Sweep:
    load = reference_load(min(schedule.events, _SWEEP_EVENTS), schedule.seed)
    with rig.fixture() as fixture:
        produced, truth = produce(fixture, load), sum_up(load.slices())
        say("sweeping BATCH_MAX_EVENTS")
        sizes = sweep.sweep_sizes(rig, fixture, produced, truth, _SIZES)
    say("sweeping BATCH_MAX_WAIT_MS")
    return sweep.Sweep(sizes, list(sweep.sweep_waits(rig, _WAITS, _TRICKLE, _SWEEP_SECONDS)), _TRICKLE)
