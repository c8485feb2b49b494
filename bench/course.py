"""The course of a run: which measurements, in which order, on which beds; figures only where the sums are right."""

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
class Course:
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


def run(course: Course, say: Say) -> Findings:
    """Measure. Raises WrongSumsError when any sum is off: then no figure is worth anything."""
    at, machine = now(), this_machine()
    with running_rig() as rig:
        say("warming up the servers")
        warm_up(rig)
        with rig.bed() as bed:
            say(f"producing {course.events:,} events")
            load = reference_load(course.events, course.seed)
            produced, truth = produce(bed, load), sum_up(load.slices())
            say("consuming once, so that no server is new to it")
            with rig.sibling(bed) as first:
                throughput.measure(rig, first, produced)
            say("consuming")
            calm = throughput.measure(rig, bed, produced)
            say("verifying")
            require(bed, truth)
            findings = Findings(at, machine, calm)
            if course.limit:
                say("taping the run's bytes, and replaying them")
                findings = replace(findings, limit=limit.measure(rig, bed, truth))
            findings = _again(course, rig, Backlog(bed, produced, truth), findings, say)
        return _beside(course, rig, findings, say)


def _again(course: Course, rig: Rig, backlog: Backlog, findings: Findings, say: Say) -> Findings:
    """Consume the same topic under other circumstances."""
    bed, produced, truth = backlog.bed, backlog.produced, backlog.truth
    if course.scale:
        shared = []
        for processes in _TURNS:
            say(f"consuming with {processes} process{'es' if processes > 1 else ''}")
            with rig.sibling(bed) as own:
                shared.append(throughput.measure_shared(rig, own, produced, processes))
                require(own, truth)
        findings = replace(findings, scale=shared)
    if course.kills:
        say(f"consuming with {course.kills} kills")
        with rig.sibling(bed) as own:
            killed = chaos.measure(rig, own, produced, course.kills, course.seed)
            require(own, truth)
        findings = replace(findings, chaos=killed)
    if course.flat_events:
        say(f"filling a database with {course.flat_events:,} events, and consuming into it")
        with rig.sibling(bed) as own:
            findings = replace(findings, flat=flat.measure_flat(rig, own, produced, truth, course.flat_events))
    return findings


def _beside(course: Course, rig: Rig, findings: Findings, say: Say) -> Findings:
    """Measure what needs topics of its own."""
    if course.mixed:
        say(f"the same with {course.events:,} events of mixed shapes")
        with backlog(rig, reference_load(course.events, course.seed, SHAPES["mixed"])) as own:
            mixed = limited(rig, own)
        findings = replace(findings, mixed=mixed.run, mixed_limit=mixed.limit)
    if course.fresh_seconds:
        say(f"sending {_TRICKLE:,.0f} events/s through HTTP for {course.fresh_seconds:.0f} s")
        load = reference_load(int(_TRICKLE * course.fresh_seconds), course.seed)
        with rig.bed() as bed:
            fresh, probes = freshness.measure(bed, load, _TRICKLE)
            require(bed, sum_up([*load.slices(), probes]))
        findings = replace(findings, freshness=fresh)
    if course.guide_events:
        say(f"the guide's way with {course.guide_events:,} events")
        with rig.bed() as bed:
            produce(bed, reference_load(course.guide_events, course.seed))
            findings = replace(findings, guide=guide.measure(bed, course.guide_events))
    if course.sweep:
        findings = replace(findings, sweep=_sweep(course, rig, say))
    return findings


def _sweep(course: Course, rig: Rig, say: Say) -> sweep.Sweep:
    load = reference_load(min(course.events, _SWEEP_EVENTS), course.seed)
    with rig.bed() as bed:
        produced, truth = produce(bed, load), sum_up(load.slices())
        say("sweeping BATCH_MAX_EVENTS")
        sizes = sweep.sweep_sizes(rig, bed, produced, truth, _SIZES)
    say("sweeping BATCH_MAX_WAIT_MS")
    return sweep.Sweep(sizes, list(sweep.sweep_waits(rig, _WAITS, _TRICKLE, _SWEEP_SECONDS)), _TRICKLE)
