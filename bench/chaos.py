"""Chaos: the same job by a consumer that is killed at random, and what that costs. The sums must still be right."""

import random
import threading
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from bench.load import Produced
from bench.meter import cpu_seconds, read_servers
from bench.progress import await_level, reached
from bench.rig import Fixture, Rig
from bench.service import Service
from pipeline.kafka.topic import Topic
from pipeline.sinks.redis import RedisSink

_TIMEOUT_SECONDS: Final = 900.0
_SHORTEST: Final = 0.2
_LONGEST: Final = 2.0


@dataclass(frozen=True, slots=True)
class Chaos:
    """A run with kills. CPU is in seconds per million events, and holds every start of the consumer in full.

    Most of `seconds` is waiting: a killed member keeps its partitions until its session times out.
    """

    events: int
    kills: int
    session_timeout_ms: int
    seconds: float
    cpu: dict[str, float]

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


def measure(rig: Rig, fixture: Fixture, produced: Produced, kills: int, seed: int) -> Chaos:
    """Kill the consumer (SIGKILL) so many times while it works, each time a random moment after it began."""
    rig.checkpoint()
    chance, pause = random.Random(seed), threading.Event()
    made, spent = 0, 0.0
    consumer = Service("consume", fixture)
    begun = consumer.moment("consuming")
    try:
        while made < kills:
            consumer.moment("partitions assigned")
            pause.wait(chance.uniform(_SHORTEST, _LONGEST))
            if _done(fixture):
                break
            spent += cpu_seconds(consumer.pid)
            consumer.kill()
            made += 1
            consumer = Service("consume", fixture)
        ended_at = await_level(fixture, [consumer], _TIMEOUT_SECONDS)
        spent += cpu_seconds(consumer.pid)
        servers = read_servers(fixture.stack).since(begun)
    finally:
        consumer.stop()
    cpu = {"consumer": spent, **servers}
    million = produced.events / 1e6
    return Chaos(
        events=produced.events,
        kills=made,
        session_timeout_ms=fixture.settings.kafka_session_timeout_ms,
        seconds=ended_at - begun.at,
        cpu={name: seconds / million for name, seconds in cpu.items()},
    )


def _done(fixture: Fixture) -> bool:
    where = (fixture.settings, fixture.group)
    with closing(Topic(*where)) as topic, closing(RedisSink(*where)) as redis:
        ends = {partition: end for partition, (_, end) in topic.bounds().items()}
        return reached({p: standing.offset for p, standing in redis.standings().items()}, ends)
