"""The Kafka source by itself."""

import contextlib

import pytest

from pipeline.errors import ConfigurationError, HaltError
from pipeline.kafka.source import Assignment, Source
from tests.conftest import MakePlace
from tests.place import Place
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
            read.extend(value for value in source.poll(10, 0.1).frame["value"] if value is not None)
            return len(read) >= 3

        eventually(all_read, timeout=30)
        assert read == [b"2", b"3", b"4"]
        source.seek({0: 4})
        read[:] = [b"", b""]
        eventually(all_read, timeout=30)
        assert read[2:] == [b"4"]


@pytest.mark.parametrize(("topic", "group"), [("topic.of.others", None), (None, "group-of-others")])
def test_a_refusal_that_concerns_no_partition_stops_the_consumer(
    place: Place, topic: str | None, group: str | None
) -> None:
    """A right that is taken away while the consumer runs: nothing else would tell it from a quiet topic."""
    settings = place.settings.model_copy(update={"kafka_topic": topic or place.topic})
    refused: list[str] = []
    with contextlib.closing(
        Source(settings, group or place.group, "test", Assignment(lambda _: {}, lambda _: None))
    ) as source:
        source.subscribe()

        def stopped() -> bool:
            try:
                source.poll(1, 0.1)
            except ConfigurationError as error:
                refused.append(str(error))
            return bool(refused)

        eventually(stopped, timeout=30)
    assert "lacks a right" in refused[0]
