"""The fixtures themselves: a place is empty, works, and is the test's own."""

import pytest
from confluent_kafka import Consumer

from tests.conftest import MakePlace
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


def test_what_a_place_produces_its_group_consumes(place: Place) -> None:
    placed = place.produce([b"one", ("player-1", b"two")], partition=1, headers={"event_type": b"x"})
    assert placed == [(1, 0), (1, 1)]
    config = {**place.stack.kafka.config(), "group.id": place.group, "auto.offset.reset": "earliest"}
    with Consumer(config) as consumer:
        consumer.subscribe([place.topic])
        messages = [eventually(lambda: consumer.poll(0.5)) for _ in placed]
    assert [message.value() for message in messages if message is not None] == [b"one", b"two"]


def test_two_places_share_nothing(make_place: MakePlace) -> None:
    one, other = make_place(), make_place(partitions=1)
    with one.redis() as client, one.pg() as connection:
        client.set("key", "value")
        connection.execute("CREATE TABLE mine ()")
    with other.redis() as client, other.pg() as connection:
        assert client.get("key") is None
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)
    assert one.topic != other.topic
    assert other.produce([(b"key", b"value")]) == [(0, 0)]
