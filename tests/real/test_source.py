"""The Kafka source by itself."""

import contextlib

import pytest

from pipeline.errors import HaltError
from pipeline.source import Assignment, Source
from tests.conftest import MakePlace
from tests.waiting import eventually

pytestmark = pytest.mark.real


def test_a_partition_whose_reading_ended_can_be_read_from_elsewhere(make_place: MakePlace) -> None:
    """librdkafka refuses a seek there ("Erroneous state"); so it does where reading has not begun yet."""
    place = make_place(partitions=1)
    placed = place.produce([("p", b"%d" % number) for number in range(5)])
    beyond = {0: placed[-1][1] + 100}
    read: list[bytes] = []
    with contextlib.closing(
        Source(place.settings, place.group, "test", Assignment(lambda _: beyond, lambda _: None))
    ) as source:
        source.subscribe()

        def halted() -> bool:
            try:
                source.poll(1, 0.1)
            except HaltError:
                return True
            return False

        eventually(halted, timeout=30)
        source.seek({0: 2})

        def all_read() -> bool:
            read.extend(value for value in source.poll(10, 0.1).values if value is not None)
            return len(read) >= 3

        eventually(all_read, timeout=30)
        assert read == [b"2", b"3", b"4"]
        source.seek({0: 4})
        read[:] = [b"", b""]
        eventually(all_read, timeout=30)
        assert read[2:] == [b"4"]
