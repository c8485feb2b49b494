"""What the two batch variables do: BATCH_MAX_EVENTS to a backlog, BATCH_MAX_WAIT_MS to events that trickle in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import freshness, throughput
from bench.freshness import percentile
from bench.load import Load, Produced, reference_load
from bench.rig import Bed, Rig
from bench.truth import Truth, require, sum_up


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


def sweep_sizes(rig: Rig, bed: Bed, produced: Produced, truth: Truth, sizes: Sequence[int]) -> Iterator[SizePoint]:
    """Consume a topic again and again, each time with another BATCH_MAX_EVENTS."""
    for size in sizes:
        with rig.sibling(bed) as own:
            run = throughput.measure(rig, own, produced, BATCH_MAX_EVENTS=str(size))
            require(own, truth)
        yield SizePoint(size, run.rate, run.cpu_total, run.peak_rss_bytes, run.wal_bytes_per_event)


def sweep_waits(rig: Rig, waits: Sequence[int], rate: float, seconds: float) -> Iterator[WaitPoint]:
    """Send events through the API at a rate, each time with another BATCH_MAX_WAIT_MS."""
    load: Load = reference_load(int(rate * seconds))
    for wait in waits:
        with rig.bed() as own:
            found, probes = freshness.measure(own, load, rate, BATCH_MAX_WAIT_MS=str(wait))
            require(own, sum_up([*load.slices(), probes]))
        both = found.redis + found.postgres
        yield WaitPoint(wait, percentile(both, 0.5), percentile(both, 0.99), sum(found.cpu.values()))
