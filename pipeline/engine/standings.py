"""Where the group stands: PostgreSQL's watermarks against Kafka's log, and Redis level with them."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Protocol, TypeVar

import structlog
from confluent_kafka.admin import AclOperation

from pipeline.config import Settings
from pipeline.engine.waiting import LoopRetry
from pipeline.epoch.epoch import Plan
from pipeline.errors import ConfigurationError, HaltError, RefusedError
from pipeline.kafka.client import topic_id
from pipeline.sinks.level import Cache
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.registry import Registry
from pipeline.sinks.schema import check_rights, check_schema

Ranges = Callable[[Iterable[int]], dict[int, tuple[int, int]]]
"""Asks Kafka for the first offset and the end of each partition's log."""

T = TypeVar("T")


class Ask(Protocol):
    """Does work on a server of a name, and tells the probes what it came to."""

    def __call__(self, server: str, work: Callable[[], T]) -> T:
        """Return what the work returns, or raise what it raises."""


log = structlog.get_logger()


class Standings:
    """Reads and levels the standings of partitions, before they are read and while nothing flows. One thread.

    Its connections are its own, the one to Redis too: while partitions are taken up, epochs of others are under way.
    What may hang with PostgreSQL or Redis is done beside the loop, which waits for it.
    """

    def __init__(self, settings: Settings, plan: Plan, group_id: str, ranges: Ranges, retry: LoopRetry) -> None:
        self._settings = settings
        self._role = plan.role
        self._ranges = ranges
        self._retry = retry
        self._beside = retry.beside
        self._registry = Registry(settings, plan.role, group_id)
        self._redis = RedisSink(settings, group_id)
        self._cache = Cache(settings, plan, group_id, self._redis)

    def open(self) -> None:
        """See that all servers are there and set up, and claim the role.

        Raises StoppedError, and ConfigurationError, also if the account lacks a right.
        """
        self._begin("kafka", lambda: topic_id(self._settings, AclOperation.READ))
        self._begin("postgres", lambda: check_schema(self._settings))
        self._begin("postgres", lambda: check_rights(self._settings, self._role))
        self._begin("postgres", self._registry.claim)
        if self._role.uses_redis:
            self._begin("redis", self._redis.open)
        log.info("consuming", role=self._role.name, topic=self._settings.kafka_topic)

    def _begin(self, server: str, work: Callable[[], object]) -> None:
        """Do what the start needs of a server."""

        def attempt() -> object:
            try:
                return self._beside(work)
            except RefusedError as error:
                raise ConfigurationError(str(error)) from error

        self._retry(server, attempt)

    def take_up(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return where to read partitions from, once Redis stands there too. Raises HaltError, StoppedError."""
        wanted = sorted(partitions)
        offsets = self._watermarks(wanted, self._retry)
        if self._role.uses_redis:
            self._retry("redis", lambda: self._level(wanted))
        return offsets

    def watermarks(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return PostgreSQL's watermarks. Raises UnavailableError; HaltError if the log has not what comes next."""
        return self._watermarks(partitions, self._retry.once)

    def _watermarks(self, partitions: Iterable[int], ask: Ask) -> dict[int, int]:
        """Ask each server under its own name; the log's ends again, once the marks are known that they are held to."""
        wanted = list(partitions)
        starts = {partition: first for partition, (first, _) in ask("kafka", lambda: self._ranges(wanted)).items()}
        topic = ask("kafka", lambda: self._beside(lambda: topic_id(self._settings, AclOperation.READ)))
        marks = ask("postgres", lambda: self._beside(lambda: self._registry.watermarks(starts, topic)))
        for partition, (first, end) in ask("kafka", lambda: self._ranges(wanted)).items():
            offset = marks[partition].next_offset
            if not first <= offset <= end:
                gone = f"offsets {offset} to {first} are gone" if offset < first else f"the log ends at {end}"
                raise HaltError(
                    f"topic {self._settings.kafka_topic} partition {partition}: the watermark is {offset}, but {gone}: "
                    f"retention passed the consumer, or Kafka was restored from a copy"
                )
        return {partition: mark.next_offset for partition, mark in marks.items()}

    def level(self, partitions: Iterable[int]) -> None:
        """Bring Redis to where PostgreSQL stands, if the role keeps counters there. Raises UnavailableError."""
        if self._role.uses_redis:
            self._retry.once("redis", lambda: self._level(partitions))

    def _level(self, partitions: Iterable[int]) -> None:
        self._beside(lambda: self._cache.level(partitions))

    def close(self) -> None:
        """Close the connections."""
        with ExitStack() as closing:
            for part in (self._redis, self._cache, self._registry):
                closing.callback(part.close)
