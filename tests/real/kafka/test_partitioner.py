"""A key's partition, as the edge's producer places it."""

import pytest
from confluent_kafka import KafkaError, Message, Producer

from pipeline.kafka.edge_client import producer_config
from pipeline.kafka.partitioner import partition_of
from tests.conftest import MakePlace
from tests.texts import AWKWARD

pytestmark = pytest.mark.real

KEYS = [
    *(text.encode("utf-8", "surrogatepass") for text in AWKWARD),
    *(bytes(range(first, first + size)) for size in range(1, 40) for first in (1, 128, 216)),
    "é".encode() * 255,
]


def test_a_key_lies_where_the_edge_puts_it(make_place: MakePlace) -> None:
    for partitions in (1, 3, 7):
        place = make_place(partitions)
        placed: dict[bytes, int] = {}

        def delivered(error: KafkaError | None, message: Message, placed: dict[bytes, int] = placed) -> None:
            key, partition = message.key(), message.partition()
            assert error is None
            assert isinstance(key, bytes)
            assert partition is not None
            placed[key] = partition

        producer = Producer(producer_config(place.settings, 1 << 20))
        for key in KEYS:
            producer.produce(place.topic, b"{}", key, on_delivery=delivered)
        assert producer.flush(60) == 0
        assert placed == {key: partition_of(key, partitions) for key in KEYS}
