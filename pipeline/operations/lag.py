"""`gamemetrics lag`: where each group stands in each partition, and whether that can be."""

from contextlib import closing
from dataclasses import dataclass

import psycopg

from pipeline.config import Settings
from pipeline.kafka.topic import Topic
from pipeline.sinks.connection import connect, translated
from pipeline.sinks.redis import RedisSink
from pipeline.verify.groups import Group, read_groups


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition of one group: PostgreSQL's watermark (the truth), the log's end, Redis, Kafka's committed offset.

    `redis` is None for a group without counters there, or if Redis knows no watermark; `fault` is "" if all is
    as it can be.
    """

    group: str
    partition: int
    watermark: int
    log_end: int
    lag: int
    redis: int | None
    committed: int | None
    fault: str


def lag(settings: Settings) -> list[PartitionLag]:
    """Return where every group stands. Raises ConfigurationError and UnavailableError.

    Lag counts positions, of which a transaction's markers are some, and no fault. Faults are: a watermark above the
    log's end; Redis ahead of PostgreSQL; Redis behind by more than the outbox holds, so that only a rebuild helps.
    """
    standings: list[PartitionLag] = []
    with translated(), connect(settings, "gamemetrics-lag") as connection:
        for owner in read_groups(connection, settings.kafka_topic):
            # Read in this order, each is at least what the one before it can be: Redis, PostgreSQL, Kafka.
            redis = _redis(settings, owner)
            group = next(one for one in read_groups(connection, settings.kafka_topic) if one.id == owner.id)
            with closing(Topic(settings, group.id)) as topic:
                bounds, committed = topic.bounds(), topic.committed(sorted(group.marks))
            for partition, mark in group.marks.items():
                end = bounds.get(partition, (0, 0))[1]
                offset = redis.get(partition)
                fault = ""
                if mark.next_offset > end:
                    fault = "the watermark is above the log's end: Kafka was restored, or the topic made anew"
                elif group.role.uses_redis and (offset is not None or mark.next_offset > mark.first_offset):
                    fault = _redis_fault(connection, settings, group.id, partition, mark.next_offset, offset)
                standings.append(
                    PartitionLag(
                        group.id,
                        partition,
                        mark.next_offset,
                        end,
                        end - mark.next_offset,
                        offset,
                        committed.get(partition),
                        fault,
                    )
                )
    return standings


def _redis(settings: Settings, group: Group) -> dict[int, int]:
    if not group.role.uses_redis:
        return {}
    with closing(RedisSink(settings, group.id)) as sink:
        return {partition: standing.offset for partition, standing in sink.standings().items()}


def _redis_fault(  # noqa: PLR0913, PLR0917 - the place of one partition
    connection: psycopg.Connection, settings: Settings, group_id: str, partition: int, mark: int, redis: int | None
) -> str:
    """Say why Redis cannot come level by itself; "" if it is level, or the outbox reaches back to it."""
    if redis is None:
        return "Redis was emptied: start a consumer, or run gamemetrics cache rebuild"
    if redis > mark:
        return "Redis is ahead of PostgreSQL: run gamemetrics cache rebuild"
    if redis == mark:
        return ""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pipeline_outbox WHERE group_id = %s AND topic = %s AND partition = %s"
        " AND from_offset = %s)",
        (group_id, settings.kafka_topic, partition, redis),
    ).fetchone()
    reaches = row is not None and row[0]
    return "" if reaches else "Redis is behind by more than the outbox holds: run gamemetrics cache rebuild"
