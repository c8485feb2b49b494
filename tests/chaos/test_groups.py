"""Members that come and go, keys that cross, offsets with gaps."""

import functools
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)

from pipeline.config import Settings
from pipeline.engine.consumer import EventConsumer
from pipeline.engine.flight import Flights
from pipeline.errors import RewindError
from pipeline.kafka import source
from pipeline.kafka.source import Assignment, Source
from pipeline.local.kafka_access import allow, grants
from tests.chaos.children import SMALL, Child, child
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.conftest import MakePlace
from tests.consuming import assigned, caught_up, consuming
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

IN_PROCESS: dict[str, Any] = {**SMALL}


def come_and_go(place: Place, directory: Path, changes: int) -> None:
    """Let members join, leave and die in turn while records flow; one stays throughout."""
    with Feed(place, 1) as feed, consuming(place, **IN_PROCESS), ExitStack() as others:
        for number in range(changes):
            consumer = others.enter_context(child(place, directory))
            eventually(functools.partial(joined, consumer, feed), timeout=60)
            if number % 3 == 2:
                consumer.kill()
            elif number % 3 == 1:
                assert consumer.stop() == 0, consumer.said
        feed.send(100)
        caught_up(place, timeout=90)
    assert_exact(place)


def joined(consumer: Child, feed: Feed) -> bool:
    """Feed until it has partitions."""
    feed.send(20)
    return "partitions assigned" in consumer.said


def test_members_come_and_go_under_load(place: Place, tmp_path: Path) -> None:
    come_and_go(place, tmp_path, 6)


@pytest.mark.long
def test_members_come_and_go_for_minutes(make_place: MakePlace, tmp_path: Path) -> None:
    come_and_go(make_place(6), tmp_path, 40)


def test_the_newer_group_protocol_gives_the_same_sums(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """KIP-848: the broker assigns, and says itself how long a session lasts. Not the engine's default; see the docs."""
    classic = {"partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"}

    def consumer(config: dict[str, Any], **options: Any) -> Consumer:
        kept = {name: value for name, value in config.items() if name not in classic}
        return Consumer(kept | {"group.protocol": "consumer"}, **options)

    monkeypatch.setattr(source, "Consumer", consumer)
    with Feed(place, 5) as feed, consuming(place, **IN_PROCESS) as first:
        eventually(lambda: bool(assigned(first)), timeout=60)
        for _ in range(3):
            with consuming(place, **IN_PROCESS) as guest:
                eventually(functools.partial(shares, guest, feed), timeout=60)
        feed.send(50)
        caught_up(place)
    assert_exact(place)


def shares(consumer: EventConsumer, feed: Feed) -> bool:
    feed.send(10)
    return bool(assigned(consumer))


def test_two_consumers_whose_hot_keys_run_in_opposite_order(make_place: MakePlace) -> None:
    """The same players in both partitions, sent in opposite order: sorted keys cannot deadlock, and all is counted."""
    place = make_place(2)
    players = [f"p{number:03}" for number in range(60)]
    with Feed(place, 2) as feed, consuming(place, **IN_PROCESS), consuming(place, **IN_PROCESS):
        for _ in range(15):
            feed.send_these([encoded(player_id=player, game_id="g") for player in players], partition=0)
            feed.send_these([encoded(player_id=player, game_id="g") for player in players[::-1]], partition=1)
        caught_up(place)
    assert_exact(place)


def test_a_partition_that_is_revoked_while_its_epochs_must_be_read_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The landing that a revocation waits for raises; what is no longer assigned must be forgotten all the same."""
    original = Source.__init__
    shaken: list[list[int]] = []

    def fall_back(_: Flights, _timeout: float) -> None:
        monkeypatch.undo()
        raise RewindError("as if PostgreSQL had been restored just now")

    def listened(self: Source, settings: Settings, group_id: str, service: str, assignment: Assignment) -> None:
        def finish(partitions: list[int]) -> None:
            if partitions and not shaken:
                shaken.append(partitions)
                monkeypatch.setattr(Flights, "land", fall_back)
                monkeypatch.setattr(Flights, "__len__", lambda _: 1)
            assignment.finish(partitions)

        original(self, settings, group_id, service, Assignment(assignment.start, finish))

    monkeypatch.setattr(Source, "__init__", listened)
    with Feed(place, 3) as feed, consuming(place, **IN_PROCESS) as consumer:
        feed.send(50)
        caught_up(place)
        with child(place, tmp_path) as peer:
            eventually(lambda: joined(peer, feed), timeout=60)
            feed.send(100)
            caught_up(place)
            eventually(lambda: shaken and len(assigned(consumer)) < 3)  # or it counts what was revoked as its own
            assert peer.stop() == 0
        caught_up(place)
    assert_exact(place)


def test_what_an_aborted_transaction_sent_is_never_counted(place: Place) -> None:
    """Aborted records and markers leave gaps in the offsets; a span is what was read, not what was found.

    Each log ends in a marker here, behind which no record comes to say that it was passed.
    """
    with Feed(place, 4) as feed, consuming(place, **IN_PROCESS):
        abort_transactions(place, feed, 6)
        caught_up(place)
    truth = assert_exact(place)
    assert sum(truth.records.values()) == 3 * 21 + 60


def abort_transactions(place: Place, feed: Feed, number: int) -> None:
    """Send transactions of 21 records, every other one and the last aborted, with 10 records before each."""
    admin = AdminClient(place.stack.kafka.admin_config())
    pattern, operations = ResourcePatternType.LITERAL, (AclOperation.WRITE, AclOperation.DESCRIBE)
    rights = grants(ResourceType.TRANSACTIONAL_ID, place.topic, pattern, operations)
    allow(admin, rights)
    every = None, None, AclOperation.ANY, AclPermissionType.ANY
    here = AclBindingFilter(ResourceType.TRANSACTIONAL_ID, place.topic, pattern, *every)  # type: ignore[arg-type]
    eventually(lambda: len(admin.describe_acls(here).result(15)) >= len(rights))  # the broker's own word
    producer = Producer({**place.stack.kafka.config(), "transactional.id": place.topic})
    producer.init_transactions(30)
    for turn in range(number):
        feed.send(10)
        producer.begin_transaction()
        for partition in range(3):
            for _ in range(7):
                producer.produce(place.topic, feed.event(), partition=partition)
        producer.flush(30)
        if turn % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    eventually(functools.partial(ended, admin, place))


def ended(admin: AdminClient, place: Place) -> bool:
    """Whether every transaction's marker is in the log: the broker answers an abort before it has written them."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    newest = {TopicPartition(place.topic, partition): latest for partition in range(3)}
    ends = []
    for isolation in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        answers = admin.list_offsets(newest, isolation_level=isolation)
        ends.append({one.partition: answer.result().offset for one, answer in answers.items()})
    return ends[0] == ends[1]
