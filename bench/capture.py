"""The very bytes of a run: its epochs prepared and written once more, to other databases, with the wire on tape.

The run's outbox tells its epochs apart (one transaction each) and holds what each owed Redis. The pass below cuts the
topic at the same places, runs the consumer's own decoder, encoder and sinks, and is held to the same outbox, payload
by payload. So what is on tape is what the run sent.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from bench.rig import Fixture
from bench.wire import PostgresTape, RedisTape, Relay, Step
from pipeline.config import Settings
from pipeline.contract.event import load_scoring
from pipeline.contract.offsets import Span, Spans
from pipeline.epoch.batch import Records, joined
from pipeline.epoch.decode import Decoder
from pipeline.epoch.epoch import plan_for, prepare
from pipeline.epoch.roles import ROLES
from pipeline.kafka.topic import Topic
from pipeline.sinks.postgres import PostgresSink
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.registry import Registry

_ROLE = ROLES["all"]


class NotTheRunError(Exception):
    """The second pass did not make the bytes of the first."""


@dataclass(frozen=True, slots=True)
class TapedEpoch:
    """One epoch on the wire: the transaction's steps, the function calls, and how many replies these bring."""

    steps: list[Step]
    calls: bytes
    replies: int


@dataclass(frozen=True, slots=True)
class TapedRun:
    """A session's opening (its temporary tables), and the epochs in order."""

    opening: list[Step]
    epochs: list[TapedEpoch]

    @property
    def size(self) -> int:
        """Bytes that a replay sends, without the opening."""
        return sum(len(epoch.calls) + sum(len(step.said) for step in epoch.steps) for epoch in self.epochs)


def capture(run: Fixture, copy: Fixture) -> TapedRun:
    """Write the epochs of a finished run to another fixture of the same topic, and return what was said."""
    make_ready(copy)
    settings = copy.settings
    plan = plan_for(_ROLE, settings)
    decoder = Decoder(settings.kafka_topic, load_scoring(settings.scoring_file))
    on_postgres, on_redis = PostgresTape(), RedisTape()
    with Relay(settings.db_port, on_postgres) as to_postgres, Relay(settings.redis_port, on_redis) as to_redis:
        through = plain(settings).model_copy(update={"db_port": to_postgres.port, "redis_port": to_redis.port})
        with (
            closing(PostgresSink(through, plan, copy.group)) as postgres,
            closing(RedisSink(through, copy.group)) as redis,
            closing(Topic(settings, copy.group)) as topic,
        ):
            postgres.read_days()
            redis.open()
            taped = TapedRun(on_postgres.take(), [])
            on_redis.take()
            for spans in epochs_of(run):
                written = postgres.write(prepare(spans, decoder.decode(_read(topic, spans)), plan))
                calls = written.calls or []
                redis.apply(calls)
                taped.epochs.append(TapedEpoch(on_postgres.take(), on_redis.take(), len(calls)))
    if not all(epoch.steps for epoch in taped.epochs):
        raise NotTheRunError("an epoch was written past the tape")
    if _owed(run) != _owed(copy):
        raise NotTheRunError("the second pass owed Redis other calls than the run did")
    return taped


def plain(settings: Settings) -> Settings:
    """Ask PostgreSQL for no encryption: even a refused offer of it is a byte that is no message."""
    return settings.model_copy(update={"db_sslmode": "disable"})


def make_ready(fixture: Fixture) -> None:
    """Bring a new fixture to where a consumer has it before its first epoch: claimed, marked at the log's start."""
    with (
        closing(Registry(fixture.settings, _ROLE, fixture.group)) as registry,
        closing(RedisSink(fixture.settings, fixture.group)) as redis,
        closing(Topic(fixture.settings, fixture.group)) as topic,
    ):
        registry.claim()
        starts = {partition: first for partition, (first, _) in topic.bounds().items()}
        registry.watermarks(starts, topic.id)
        redis.open()
        for partition, first in starts.items():
            redis.start(partition, first)


def epochs_of(run: Fixture) -> Iterator[Spans]:
    """The spans of each epoch, in the order in which they were written: rows of one transaction share its time."""
    statement = (
        "SELECT created_at, array_agg(DISTINCT ARRAY[partition, from_offset, next_offset]) FROM pipeline_outbox"
        " GROUP BY created_at ORDER BY created_at"
    )
    with run.postgres() as connection:
        rows = connection.execute(statement).fetchall()
    for _, spans in rows:
        yield tuple(sorted(Span(*span) for span in spans))


def _read(topic: Topic, spans: Spans) -> Records:
    return joined(topic.read({span.partition: (span.start, span.stop) for span in spans}))


def _owed(fixture: Fixture) -> list[tuple[object, ...]]:
    statement = (
        "SELECT partition, from_offset, next_offset, chunk, chunks, md5(payload) FROM pipeline_outbox"
        " ORDER BY partition, next_offset, chunk"
    )
    with fixture.postgres() as connection:
        return connection.execute(statement).fetchall()
