"""Consuming in a test: a consumer in a thread, and waiting until it has everything."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.config import Settings
from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.roles import ROLES, RoleName
from pipeline.errors import PipelineError, UnavailableError
from pipeline.kafka.client import translate
from pipeline.sinks.redis import RedisSink
from tests.place import Place
from tests.waiting import eventually


def settings_of(place: Place, role: RoleName = "all", **changes: object) -> Settings:
    """Return the settings of one role at a place: the place's group, or one beside it for a single role."""
    group = place.group if role == "all" else f"{place.group}-{role}"
    return place.settings.model_copy(update={"kafka_group_id": group, **changes})


_threads: WeakKeyDictionary[EventConsumer, threading.Thread] = WeakKeyDictionary()


@contextmanager
def consuming(place: Place, role: RoleName = "all", **changes: object) -> Iterator[EventConsumer]:
    """Run a consumer in a thread until the block ends, then stop it and raise what it raised.

    `changes` are settings by their field names, such as `batch_max_events=10`.
    """
    consumer = EventConsumer(settings_of(place, role, **changes), ROLES[role])
    raised: list[PipelineError] = []

    def run() -> None:
        try:
            consumer.run()
        except PipelineError as error:
            raised.append(error)

    thread = _threads[consumer] = threading.Thread(target=run, name=f"consumer-{role}")
    thread.start()
    try:
        yield consumer
    finally:
        consumer.stop()
        thread.join(60)
        assert not thread.is_alive(), "the consumer did not stop within 60 s"
        if raised:
            raise raised[0]


def ended(consumer: EventConsumer) -> bool:
    """Tell whether a consumer that was started by `consuming` has stopped by itself."""
    return not _threads[consumer].is_alive()


def assigned(consumer: EventConsumer) -> list[int]:
    """Return the partitions that a consumer reads now, as its probe tells them."""
    partitions = consumer.health.ready()[1]["partitions"]
    assert isinstance(partitions, list)
    return partitions


def caught_up(place: Place, role: RoleName = "all", timeout: float = 60.0) -> None:
    """Wait until the role's group has written all that is in the topic, and Redis stands level with it."""
    settings = settings_of(place, role)
    ends = log_ends(place)
    redis = RedisSink(settings, settings.kafka_group_id) if ROLES[role].uses_redis else None
    try:
        eventually(lambda: not _behind(place, settings.kafka_group_id, ends, redis), timeout, interval=0.2)
    finally:
        if redis is not None:
            redis.close()


def consume_all(place: Place, role: RoleName = "all", **changes: object) -> None:
    """Consume what is in the topic, and stop."""
    with consuming(place, role, **changes):
        caught_up(place, role)


def log_ends(place: Place) -> dict[int, int]:
    """Return the end of each partition's log; a broker that was away may not lead its partitions for a moment."""
    with Consumer({**place.stack.kafka.config(), "group.id": place.group}) as client:

        def asked() -> dict[int, int]:
            try:
                found = client.list_topics(place.topic, timeout=10).topics[place.topic].partitions
                return {p: client.get_watermark_offsets(TopicPartition(place.topic, p), timeout=10)[1] for p in found}
            except KafkaException as error:
                if isinstance(translate(error.args[0], place.settings), UnavailableError):
                    return {}
                raise

        return eventually(asked, timeout=30)


def _behind(place: Place, group: str, ends: dict[int, int], redis: RedisSink | None) -> dict[int, tuple[int, int]]:
    """Return the partitions that are not done, with where PostgreSQL and Redis stand."""
    with place.pg() as connection:
        rows = connection.execute(
            "SELECT partition, next_offset FROM pipeline_watermarks WHERE group_id = %s AND topic = %s",
            (group, place.topic),
        ).fetchall()
    marks: dict[int, int] = dict(rows)
    standings = {p: standing.offset for p, standing in redis.standings().items()} if redis is not None else marks
    stood = {p: (marks.get(p, -1), standings.get(p, -1)) for p in ends}
    return {p: stood[p] for p, end in ends.items() if min(stood[p]) < end}
