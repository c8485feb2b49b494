"""State that moves under the consumer: emptied, restored from an older copy, or replaced by another of its name."""

import contextlib
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.engine import consumer as engine
from pipeline.errors import HaltError, PipelineError
from pipeline.local.kafka_access import create_topic, delete_topic
from pipeline.operations.migrate import migrate
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consume_all, consuming, ended
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

SMALL: dict[str, Any] = {"batch_max_events": 25, "batch_max_wait_ms": 20}


def keys(place: Place) -> int:
    with place.redis() as client:
        return int(client.dbsize())


@pytest.mark.parametrize("forget_functions", [False, True])
def test_redis_emptied_in_the_middle_is_refilled(forget_functions: bool, place: Place) -> None:  # noqa: FBT001
    with Feed(place, 1) as feed, consuming(place, **SMALL):
        for _ in range(3):
            feed.send(100)
            with place.redis() as client:
                client.flushdb()
                if forget_functions:
                    client.function_flush()
        feed.send(30)
        caught_up(place)
    assert_exact(place)


def test_redis_emptied_while_nothing_flows_is_refilled_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "AUDIT_SECONDS", 0.5)
    with Feed(place, 2) as feed, consuming(place, **SMALL):
        feed.send(100)
        caught_up(place)
        with place.redis() as client:
            client.flushdb()
        eventually(lambda: keys(place) > 10)
        caught_up(place)
    assert_exact(place)


def saved(client: redis.Redis) -> bool:
    """Write a snapshot, unless one is being written."""
    with contextlib.suppress(redis.ResponseError):
        return bool(client.save())
    return False


@pytest.mark.parametrize("outbox_kept", [True, False])
def test_redis_from_an_older_snapshot(outbox_kept: bool, place: Place, tmp_path: Path) -> None:  # noqa: FBT001
    """From the outbox as far as that reaches, else from PostgreSQL; while a consumer runs."""
    valkey = place.stack.valkey
    with Feed(place, 3) as feed, consuming(place, **SMALL):
        feed.send(100)
        caught_up(place)
        with place.redis() as client:
            eventually(functools.partial(saved, client))
        data = valkey.directory / "data"
        shutil.copytree(data, tmp_path / "older")
        feed.send(100)
        caught_up(place)
        if not outbox_kept:
            with place.pg() as connection:
                connection.execute("DELETE FROM pipeline_outbox")
        valkey.kill()
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "older", data)
        valkey.start()
        feed.send(50)
        caught_up(place)
    assert_exact(place)


@pytest.mark.parametrize("running", [True, False])
def test_postgresql_from_an_older_backup_leaves_redis_ahead(
    running: bool,  # noqa: FBT001
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A partition that gets a record finds out by its epoch, one that gets none by the audit."""
    monkeypatch.setattr(engine, "AUDIT_SECONDS", 1.0)
    postgres = place.stack.postgres
    with Feed(place, 4) as feed:
        feed.send(100)
        consume_all(place, **SMALL)
        (tmp_path / "backup").mkdir()
        postgres.base_backup(tmp_path / "backup")
        feed.send(100)
        if running:
            with consuming(place, **SMALL):
                caught_up(place)
                postgres.restore(tmp_path / "backup")
                postgres.start()
                feed.send(30)
                caught_up(place)
        else:
            consume_all(place, **SMALL)
            postgres.restore(tmp_path / "backup")
            postgres.start()
            consume_all(place, **SMALL)
    assert_exact(place)


def test_postgresql_emptied_is_filled_from_the_topic(place: Place) -> None:
    with Feed(place, 5) as feed:
        feed.send(150)
        consume_all(place, **SMALL)
        with place.pg() as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        migrate(place.settings)
        feed.send(50)
        consume_all(place, **SMALL)
    assert_exact(place)


@pytest.mark.parametrize("shift", [-50, 50])
def test_the_offset_that_kafka_remembers_decides_nothing(shift: int, place: Place) -> None:
    with Feed(place, 6) as feed:
        feed.send(300)
        consume_all(place, **SMALL)
        move_committed(place, shift)
        feed.send(300)
        consume_all(place, **SMALL)
    assert_exact(place)


def test_a_topic_created_again_stops_the_consumer_by_name(place: Place) -> None:
    with Feed(place, 7) as feed:
        feed.send(50)
        consume_all(place)
    recreate(place)
    with Feed(place, 8) as feed:
        feed.send(100)
    with pytest.raises(HaltError, match=f"topic {place.topic} was deleted and created again"):
        halt(place)


def test_a_topic_created_again_under_a_running_consumer_stops_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it shows (an unknown topic, an offset that is not there, another id), nothing of it is counted.

    The new logs end before the positions in the old ones: what is filled past them at once nobody could tell.
    """
    monkeypatch.setattr(engine, "AUDIT_SECONDS", 1.0)
    with Feed(place, 9, bad=0, again=0) as feed:
        for partition in range(3):
            made = [feed.event() for _ in range(40)]
            feed.send_these(made, partition)
            feed.sent += made
        with pytest.raises(PipelineError), consuming(place, **SMALL) as consumer:  # noqa: PT012
            caught_up(place)
            recreate(place)
            with Feed(place, 10) as other:
                for partition in range(3):
                    other.send_these([other.event() for _ in range(20)], partition)
                eventually(lambda: ended(consumer), timeout=60)
    with place.pg() as connection:
        stored = {str(row[0]) for row in connection.execute("SELECT event_id FROM events")}
    assert stored == {json.loads(value)["event_id"] for value in feed.sent}


def test_retention_past_the_watermark_stops_the_consumer_and_names_the_gap(place: Place) -> None:
    with Feed(place, 11) as feed:
        feed.send(100)
        consume_all(place)
        feed.send_these([feed.event() for _ in range(20)], partition=1)
        delete_records(place, partition=1)
    with pytest.raises(HaltError, match=rf"topic {place.topic} partition 1: .*offsets \d+ to \d+ are gone"):
        halt(place)


def halt(place: Place) -> None:
    """Consume until it ends by itself, and raise why."""
    with consuming(place) as consumer:
        eventually(lambda: ended(consumer), timeout=30)


def move_committed(place: Place, shift: int) -> None:
    """Move the offsets that Kafka remembers for the group."""
    with Consumer({**place.stack.kafka.config(), "group.id": place.group}) as client:
        marks = client.committed([TopicPartition(place.topic, p) for p in range(3)], timeout=10)
        moved = [TopicPartition(place.topic, mark.partition, max(0, mark.offset + shift)) for mark in marks]
        client.commit(offsets=moved, asynchronous=False)


def recreate(place: Place) -> None:
    admin = AdminClient(place.stack.kafka.admin_config())
    delete_topic(admin, place.topic)
    eventually(lambda: place.topic not in admin.list_topics(timeout=10).topics)
    create_topic(admin, place.topic, 3)
    eventually(lambda: len(admin.list_topics(place.topic, timeout=10).topics[place.topic].partitions) == 3)


def delete_records(place: Place, partition: int) -> None:
    """Do what retention does: drop the log's records up to its end."""
    admin = AdminClient(place.stack.kafka.admin_config())
    for done in admin.delete_records([TopicPartition(place.topic, partition, -1)]).values():
        done.result(15)
