"""The engine's protections, each as what switches it off in this process (`pytest.MonkeyPatch`), and nothing else."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import redis
from confluent_kafka import Consumer, TopicPartition
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.contract.offsets import Spans
from pipeline.engine import consumer as engine
from pipeline.engine import standings
from pipeline.engine.flight import Flights
from pipeline.engine.standings import Standings
from pipeline.epoch import epoch as epochs
from pipeline.epoch.aggregate import Deltas
from pipeline.epoch.batch import Records
from pipeline.epoch.epoch import Epoch
from pipeline.epoch.rejected import BadRatio, Tally
from pipeline.epoch.roles import IDENTITY
from pipeline.kafka import source
from pipeline.kafka.source import Source
from pipeline.sinks import redis as redis_sink
from pipeline.sinks.admission import Admission, Admitted
from pipeline.sinks.level import Cache
from pipeline.sinks.postgres import PostgresSink
from pipeline.sinks.redis import RedisSink
from tests.place import Place

Patch = pytest.MonkeyPatch


def no_watermark_check(patch: Patch) -> None:
    """Every epoch seems to start at its watermark."""
    original = PostgresSink.fence

    def blind(self: PostgresSink, connection: psycopg.Connection, epoch: Epoch) -> dict[int, int]:
        original(self, connection, epoch)
        return {span.partition: span.start for span in epoch.spans}

    patch.setattr(PostgresSink, "fence", blind)


def no_ledger(patch: Patch) -> None:
    """What the ledger knows already is counted again."""
    original = Admission.admit

    def admit(self: Admission, connection: psycopg.Connection, epoch: Epoch, tally: Tally) -> Admitted:
        return Admitted(epoch.events, original(self, connection, epoch, tally).refused, all_new=True)

    patch.setattr(Admission, "admit", admit)


def no_unique_within_an_epoch(patch: Patch) -> None:
    """Twice the same identity within one epoch is not looked for."""
    original = pl.DataFrame.unique

    def unique(self: pl.DataFrame, subset: Any = None, **options: Any) -> pl.DataFrame:
        return self if subset == IDENTITY else original(self, subset, **options)

    patch.setattr(pl.DataFrame, "unique", unique)


def library(patch: Patch, directory: Path, *replacements: tuple[str, str]) -> None:
    """Load the Redis function with some of its text replaced."""
    text = redis_sink.LIBRARY.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    changed = directory / "apply.lua"
    changed.write_text(text)
    patch.setattr(redis_sink, "LIBRARY", changed)


GATE = (
    ("if offset and (offset >= next_offset or (offset == from and done > chunk)) then", "if false then"),
    ("if offset ~= from or done ~= chunk then", "if false then"),
)
REFUSED = (
    ("for key in pairs(refused) do redis.call('SADD', hash .. ':refused', key) end", ""),
    ("return answer(hash, 'applied', mark)", "return refusing(refused, mark)"),
    (
        "local function apply(keys, args)",
        """local function refusing(refused, mark)
  local words = {'applied', mark}
  for key in pairs(refused) do words[#words + 1] = key end
  return words
end

local function apply(keys, args)""",
    ),
)


def client_retries(patch: Patch) -> None:
    """The Redis client sends a command again by itself."""
    original = redis_sink.connect

    def connect(settings: Any) -> redis.Redis:
        client = original(settings)
        client.set_retry(Retry(NoBackoff(), 5))
        return client

    patch.setattr(redis_sink, "connect", connect)


def no_replay(patch: Patch) -> None:
    """What Redis is owed is not looked up in the outbox."""
    patch.setattr(Cache, "replay", lambda *_: True)


def refused_keys_forgotten(patch: Patch, directory: Path) -> None:
    """Only the answer to the call that refused a key tells of it."""
    library(patch, directory, *REFUSED)
    patch.setattr(RedisSink, "refused", lambda _: frozenset())


def start_where_kafka_says(patch: Patch, place: Place) -> None:
    """The committed offset, and not the watermark, says where to read on."""
    original = Standings.take_up

    def take_up(self: Standings, partitions: list[int]) -> dict[int, int]:
        offsets = original(self, partitions)
        with Consumer({**place.stack.kafka.config(), "group.id": place.group}) as client:
            committed = client.committed([TopicPartition(place.topic, p) for p in partitions], timeout=10)
        return offsets | {one.partition: one.offset for one in committed if one.offset >= 0}

    patch.setattr(Standings, "take_up", take_up)


def commit_first(patch: Patch) -> None:
    """Kafka's offsets are committed when an epoch leaves, not when it has landed."""
    polled, launched, polls = Source.poll, Flights.launch, threading.local()

    def poll(self: Source, limit: int, timeout: float) -> Records:
        polls.source = self  # the loop that polls one source launches what it polled
        return polled(self, limit, timeout)

    def launch(self: Flights, spans: Spans, records: Records) -> None:
        polls.source.commit(spans)
        launched(self, spans, records)

    patch.setattr(Source, "poll", poll)
    patch.setattr(Flights, "launch", launch)


def no_landing_on_revoke(patch: Patch) -> None:
    """Partitions go to a peer while their epochs are still under way."""
    patch.setattr(engine, "HANDOVER_SECONDS", 0.0)


def read_uncommitted(patch: Patch) -> None:
    def consumer(config: dict[str, Any], **options: Any) -> Consumer:
        return Consumer({**config, "isolation.level": "read_uncommitted"}, **options)

    patch.setattr(source, "Consumer", consumer)


def any_topic_will_do(patch: Patch) -> None:
    patch.setattr(standings, "topic_id", lambda *_: "the same for ever")


def no_bad_ratio(patch: Patch) -> None:
    patch.setattr(BadRatio, "check", lambda *_: None)


def unsorted_keys(patch: Patch) -> None:
    """Every other consumer of this process takes the players' rows in the opposite order."""
    writers: list[int] = []
    for name in ("per_player", "per_day"):
        original: Callable[[Deltas], pl.DataFrame] = getattr(epochs, name)

        def turned(deltas: Deltas, original: Callable[[Deltas], pl.DataFrame] = original) -> pl.DataFrame:
            writer = threading.get_ident()  # each prepares its epochs in a thread of its own
            if writer not in writers:
                writers.append(writer)
            return original(deltas).reverse() if writers.index(writer) % 2 else original(deltas)

        patch.setattr(epochs, name, turned)
