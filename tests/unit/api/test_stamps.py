"""The server's UUIDv7s and times."""

import uuid

from pipeline.api.events.stamps import Stamps, tick_at
from pipeline.contract.event import parse_timestamp


def test_ids_are_uuidv7_of_their_millisecond() -> None:
    tick = tick_at(1_795_000_000_123)
    one = uuid.UUID(tick.next_id())
    assert one.version == 7
    assert one.variant == uuid.RFC_4122
    assert one.int >> 80 == 1_795_000_000_123
    assert tick.text == "2026-11-18T11:06:40.123000Z"
    assert parse_timestamp(tick.text) == tick.moment


def test_ids_grow_and_never_repeat() -> None:
    stamps = Stamps()
    ids = [stamps.now().next_id() for _ in range(200_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_two_processes_in_one_millisecond_draw_apart() -> None:
    first = {tick_at(1).next_id() for _ in range(10_000)}
    assert len(first) == 10_000
    assert len({one[14:23] for one in first}) > 9_000
