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


def test_what_a_poll_held_in_headers_is_told(make_place: MakePlace) -> None:
    """Nobody reads them, and their size decides how many records may be polled at once."""
    place = make_place(partitions=1)
    place.produce([b"x"] * 3, headers={"trace": b"h" * 995, "": b""})
    place.produce([b"x"] * 2)
    with contextlib.closing(
        Source(place.settings, place.group, "test", Assignment(lambda found: dict.fromkeys(found, 0), lambda _: None))
    ) as source:
        source.subscribe()
        found = list[int]()

        def all_read() -> bool:
            found.extend(polled.header_bytes for _ in range(5) if (polled := source.poll(1, 0.1)))
            return len(found) == 5

        eventually(all_read, timeout=60)
    assert found == [1_000, 1_000, 1_000, 0, 0]


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


def test_a_partition_that_was_lost_while_paused_is_read_when_it_comes_back(place: Place) -> None:
    """The client remembers a pause beyond the assignment, and `resume` reaches only what is assigned."""
    for partition in range(3):
        place.produce([b"x"] * 5, partition=partition)
    with contextlib.ExitStack() as closing:
        held: list[set[int]] = [set(), set()]

        def member(own: set[int]) -> Source:
            def start(partitions: list[int]) -> dict[int, int]:
                own.update(partitions)
                return dict.fromkeys(partitions, 2)

            assignment = Assignment(start, own.difference_update)
            return Source(place.settings, place.group, "test", assignment)

        first = closing.enter_context(contextlib.closing(member(held[0])))
        first.subscribe()
        eventually(lambda: len(first.poll(100, 0.1)) >= 0 and len(held[0]) == 3, timeout=30)
        first.pause()
        with contextlib.closing(member(held[1])) as guest:
            guest.subscribe()
            eventually(lambda: len(first.poll(1, 0.1)) + len(guest.poll(1, 0.1)) >= 0 and bool(held[1]), timeout=30)
            lost = set(held[1])
        first.resume()
        offsets: dict[int, list[int]] = {partition: [] for partition in lost}

        def read() -> bool:
            for partition, offset in first.poll(100, 0.1).frame.select("partition", "offset").iter_rows():
                if partition in lost:
                    offsets[partition].append(offset)
            return all(offsets.values())

        eventually(read, timeout=30)
        assert {found[0] for found in offsets.values()} == {2}, "from where it was told to start"


def test_a_session_that_the_broker_does_not_take_is_named(place: Place) -> None:
    """Each broker has its least and its longest, and no waiting mends what is beyond. Ours takes a second and more."""
    settings = place.settings.model_copy(update={"kafka_session_timeout_ms": 500})
    nowhere = Assignment(lambda found: dict.fromkeys(found, 0), lambda _: None)
    with contextlib.closing(Source(settings, place.group, "test", nowhere)) as source:
        source.subscribe()
        with pytest.raises(ConfigurationError, match="KAFKA_SESSION_TIMEOUT_MS: 500"):
            eventually(lambda: source.poll(1, 0.1) is None, timeout=20)
