"""Where a group stands: Redis first, which is cheap to ask, and Kafka's committed offsets once Redis has all."""

from collections.abc import Mapping
from contextlib import closing
from time import monotonic
from typing import Final

from bench.rig import Fixture
from bench.service import Service
from bench.waiting import eventually
from pipeline.kafka.topic import Topic
from pipeline.sinks.redis import RedisSink

_GLANCE_SECONDS: Final = 0.01


def await_level(fixture: Fixture, services: list[Service], timeout: float) -> float:
    """Wait until Redis is level with the topic's end and Kafka has every offset committed; return that moment.

    The offsets are asked for only after Redis has everything, so that watching costs the run a few HGETALLs.
    """
    where = (fixture.settings, fixture.group)
    with closing(Topic(*where)) as topic, closing(RedisSink(*where)) as redis:
        ends = {partition: end for partition, (_, end) in topic.bounds().items()}

        def applied() -> bool:
            for service in services:
                service.check()
            return reached({p: standing.offset for p, standing in redis.standings().items()}, ends)

        eventually(applied, timeout, _GLANCE_SECONDS)
        eventually(lambda: reached(topic.committed(list(ends)), ends), timeout, _GLANCE_SECONDS)
        return monotonic()


def reached(marks: Mapping[int, int | None], ends: Mapping[int, int]) -> bool:
    """Whether every partition stands at its end; an empty one has nothing to reach."""
    return all(end == 0 or (marks.get(partition) or 0) >= end for partition, end in ends.items())
