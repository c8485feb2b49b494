"""What a larger deployment needs, derived from what one machine measured. Pure arithmetic; the assumptions are here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.limit import Limit
from bench.throughput import Throughput


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is not measured here, and is assumed of a larger machine."""

    utilisation: float = 0.6
    """How busy a core may be on average: the rest is for peaks, vacuum, checkpoints, and catching up."""
    postgres_cores: int = 32
    """The largest single PostgreSQL one would run."""
    wal_megabytes: float = 200.0
    """WAL a second that one server may write: a standby replays it in one process, and must keep up."""
    partitions_a_consumer: int = 2
    """So that consumers can double without new partitions."""
    kafka_copies: int = 3
    """Replication factor; the embedded Kafka that was measured keeps one copy."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What an event costs, measured: CPU seconds per million by process, and bytes."""

    consumer_cpu: float
    consumer_cores: float
    postgres_cpu: float
    valkey_cpu: float
    kafka_cpu: float
    wal_bytes: float
    table_bytes: float
    value_bytes: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """What one rate needs."""

    rate: int
    partitions: int
    consumers: int
    postgres_cores: int
    postgres_servers: int
    wal_megabytes: float
    table_gigabytes_a_day: float
    valkey_servers: int
    kafka_cores: int


def costs_of(run: Throughput, limit: Limit) -> Costs:
    """Take the costs from a run; a consumer can use so many cores as it did while nothing but it held it back."""
    consumer = run.cpu["consumer"]
    # With cores to spare the writer sets the pace: one process overlaps until PostgreSQL's one session is full.
    pace = max(run.rate, limit.rate)
    return Costs(
        consumer_cpu=consumer,
        consumer_cores=consumer * pace / 1e6,
        postgres_cpu=run.cpu["postgres"],
        valkey_cpu=run.cpu["valkey"],
        kafka_cpu=run.cpu["kafka"],
        wal_bytes=run.wal_bytes_per_event,
        table_bytes=run.table_bytes_per_event,
        value_bytes=run.value_bytes_per_event,
    )


def one_postgres_ends(costs: Costs, given: Assumptions) -> tuple[float, str]:
    """The events a second at which one PostgreSQL is full, and what fills it."""
    by_cores = given.postgres_cores * given.utilisation / costs.postgres_cpu * 1e6
    by_wal = given.wal_megabytes * 1e6 / costs.wal_bytes
    return (by_cores, "cores") if by_cores < by_wal else (by_wal, "WAL")


def plan(rate: int, costs: Costs, given: Assumptions) -> Deployment:
    """Size a deployment for a steady rate of events a second."""

    def cores(cpu: float) -> float:
        return rate / 1e6 * cpu / given.utilisation

    consumers = max(1, math.ceil(cores(costs.consumer_cpu) / max(costs.consumer_cores, 1.0)))
    most, _ = one_postgres_ends(costs, given)
    return Deployment(
        rate=rate,
        partitions=max(3, given.partitions_a_consumer * consumers),
        consumers=consumers,
        postgres_cores=math.ceil(cores(costs.postgres_cpu)),
        postgres_servers=math.ceil(rate / most),
        wal_megabytes=rate * costs.wal_bytes / 1e6,
        table_gigabytes_a_day=rate * costs.table_bytes * 86_400 / 1e9,
        valkey_servers=max(1, math.ceil(cores(costs.valkey_cpu))),  # Valkey runs functions on one core
        kafka_cores=math.ceil(cores(costs.kafka_cpu) * given.kafka_copies),
    )


def plans(rates: Sequence[int], costs: Costs, given: Assumptions) -> list[Deployment]:
    return [plan(rate, costs, given) for rate in rates]
