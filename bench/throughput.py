"""The whole job from a backlog: one consumer process at its defaults, from its first poll to its last commit."""

from contextlib import closing
from dataclasses import dataclass
from typing import Final

from bench.gate import Gate
from bench.load import Produced
from bench.meter import cpu_seconds, peak_rss, read_servers
from bench.progress import await_level
from bench.rig import Fixture, Rig
from bench.service import Service, running

_TIMEOUT_SECONDS: Final = 900.0
_STAGES: Final = ("prepare", "postgres", "redis")


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one run did and cost. CPU is in seconds per million events."""

    events: int
    seconds: float
    seconds_since_assigned: float
    cpu: dict[str, float]
    startup_cpu_seconds: float
    peak_rss_bytes: int
    stage_seconds: dict[str, float]
    epochs: dict[str, int]
    wal_bytes_per_event: float
    table_bytes_per_event: float
    value_bytes_per_event: float

    @property
    def rate(self) -> float:
        """Events a second, from the start of the first poll to the last offset committed."""
        return self.events / self.seconds

    @property
    def rate_when_running(self) -> float:
        """Events a second once the partitions were assigned: without joining the group."""
        return self.events / self.seconds_since_assigned

    @property
    def byte_rate(self) -> float:
        """Bytes of values a second."""
        return self.rate * self.value_bytes_per_event

    @property
    def cpu_total(self) -> float:
        """CPU seconds per million events over consumer, PostgreSQL, Valkey and Kafka."""
        return sum(self.cpu.values())


def measure(rig: Rig, fixture: Fixture, produced: Produced, **changes: str) -> Throughput:
    """Consume what lies in the topic of a fixture. Clock and CPU run from the start of the first poll."""
    rig.checkpoint()
    wal, table = _wal(fixture), _tables(fixture)
    with running("consume", fixture, **changes) as consumer:
        begun = consumer.moment("consuming")
        ended_at = await_level(fixture, [consumer], _TIMEOUT_SECONDS)
        ended = consumer.read()
        assigned = consumer.moment("partitions assigned")
        spent = ended.since(begun)
        metrics = consumer.metrics()
        peak = peak_rss(consumer.pid)
    million = produced.events / 1e6
    return Throughput(
        events=produced.events,
        seconds=ended_at - begun.at,
        seconds_since_assigned=ended_at - assigned.at,
        cpu={("consumer" if name == "service" else name): spent[name] / million for name in sorted(spent)},
        startup_cpu_seconds=begun.cpu["service"],
        peak_rss_bytes=peak,
        stage_seconds={stage: metrics[f'pipeline_stage_seconds_sum{{stage="{stage}"}}'] for stage in _STAGES},
        epochs=_epochs(metrics),
        wal_bytes_per_event=(_wal(fixture) - wal) / produced.events,
        table_bytes_per_event=(_tables(fixture) - table) / produced.events,
        value_bytes_per_event=produced.value_bytes / produced.events,
    )


@dataclass(frozen=True, slots=True)
class Shared:
    """What several processes spent together on one topic, in CPU seconds per million events."""

    processes: int
    events: int
    cpu: dict[str, float]
    shares: list[int]
    """The events of each process."""

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


def measure_shared(rig: Rig, fixture: Fixture, produced: Produced, processes: int) -> Shared:
    """Consume with several processes that get their partitions together.

    Each process' CPU counts from its own first poll, the servers' from the moment the last one is there.
    """
    with closing(Gate(fixture)) as gate:
        consumers = [Service("consume", fixture) for _ in range(processes)]
        try:
            moments = [consumer.moment("consuming") for consumer in consumers]
            rig.checkpoint()
            begun = read_servers(fixture.stack)
            gate.open(processes)
            await_level(fixture, consumers, _TIMEOUT_SECONDS)
            servers = read_servers(fixture.stack).since(begun)
            spent = [
                cpu_seconds(consumer.pid) - moment.cpu["service"]
                for consumer, moment in zip(consumers, moments, strict=True)
            ]
            shares = [_events(consumer.metrics()) for consumer in consumers]
        finally:
            for consumer in consumers:
                consumer.stop()
    million = produced.events / 1e6
    cpu = {"consumer": sum(spent), **servers}
    return Shared(processes, produced.events, {name: seconds / million for name, seconds in cpu.items()}, shares)


def _events(metrics: dict[str, float]) -> int:
    return int(sum(value for name, value in metrics.items() if name.startswith("pipeline_events_total{")))


def _epochs(metrics: dict[str, float]) -> dict[str, int]:
    prefix = 'pipeline_epochs_total{trigger="'
    return {name[len(prefix) : -2]: int(value) for name, value in metrics.items() if name.startswith(prefix)}


def _wal(fixture: Fixture) -> int:
    return fixture.scalar("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")


def _tables(fixture: Fixture) -> int:
    """Size of every table of the schema with its indexes and TOAST."""
    return fixture.scalar(
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'm')"
    )
