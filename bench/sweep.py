"""What the two batch variables do: BATCH_MAX_EVENTS to a backlog, BATCH_MAX_WAIT_MS to events that trickle in."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench import freshness, throughput
from bench.freshness import percentile
from bench.load import Load, Produced, reference_load
from bench.rig import Fixture, Rig
from bench.throughput import Throughput
from bench.truth import Truth, require, sum_up

_TURNS: Final = 3


@dataclass(frozen=True, slots=True)
class SizePoint:
    """A backlog consumed with one BATCH_MAX_EVENTS."""

    batch_max_events: int
    rate: float
    cpu_total: float
    peak_rss_bytes: int
    wal_bytes_per_event: float


@dataclass(frozen=True, slots=True)
class WaitPoint:
    """A trickle consumed with one BATCH_MAX_WAIT_MS; percentiles over both stores, the later of the two."""

    batch_max_wait_ms: int
    p50: float
    p99: float
    cpu_total: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Both curves, and the rate of the second."""

    sizes: list[SizePoint]
    waits: list[WaitPoint]
    trickle_rate: float


def sweep_sizes(rig: Rig, fixture: Fixture, produced: Produced, truth: Truth, sizes: Sequence[int]) -> list[SizePoint]:
    """Consume a topic again and again with one BATCH_MAX_EVENTS after another; of each the run of the median rate.

    The turns go up and down, so that what drifts, a machine's speed or a server's age, is in all sizes.
    """
    runs = defaultdict[int, list[Throughput]](list)
    for turn in range(_TURNS):
        for size in sizes if turn % 2 == 0 else reversed(sizes):
            with rig.sibling(fixture) as own:
                runs[size].append(throughput.measure(rig, own, produced, BATCH_MAX_EVENTS=str(size)))
                require(own, truth)
    return [_size_point(size, sorted(runs[size], key=lambda run: run.rate)[_TURNS // 2]) for size in sizes]


def _size_point(size: int, run: Throughput) -> SizePoint:
    return SizePoint(size, run.rate, run.cpu_total, run.peak_rss_bytes, run.wal_bytes_per_event)


def sweep_waits(rig: Rig, waits: Sequence[int], rate: float, seconds: float) -> Iterator[WaitPoint]:
    """Send events through the API at a rate, each time with another BATCH_MAX_WAIT_MS."""
    load: Load = reference_load(int(rate * seconds))
    for wait in waits:
        with rig.fixture() as own:
            found, probes = freshness.measure(own, load, rate, BATCH_MAX_WAIT_MS=str(wait))
            require(own, sum_up([*load.slices(), probes]))
        both = found.redis + found.postgres
        yield WaitPoint(wait, percentile(both, 0.5), percentile(both, 0.99), sum(found.cpu.values()))
