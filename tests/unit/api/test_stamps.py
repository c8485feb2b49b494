"""The server's UUIDv7s and times."""

import subprocess
import sys
import time
import uuid

from pipeline.api.events.stamps import Stamps, tick_at
from pipeline.contract.event import parse_timestamp


def test_ids_are_uuidv7_of_their_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    one = uuid.UUID(Stamps().now().next_id())
    assert one.version == 7
    assert one.variant == uuid.RFC_4122
    assert before <= one.int >> 80 <= time.time_ns() // 1_000_000


def test_a_tick_is_written_as_the_time_it_means() -> None:
    tick = tick_at(1_795_000_000_123)
    assert tick.text == "2026-11-18T11:06:40.123000Z"
    assert parse_timestamp(tick.text) == tick.moment


def test_ids_grow_and_never_repeat() -> None:
    """Within a millisecond too: a player's events sort as they came."""
    stamps = Stamps()
    ids = [stamps.now().next_id() for _ in range(200_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert len({one[:13] for one in ids}) < len(ids) / 10, "many in one millisecond"


def test_two_processes_in_one_millisecond_draw_apart() -> None:
    """All that is not the time is drawn: of the last 62 bits, no two processes would take the same."""
    made = "from uuid_utils import uuid7; print(str(uuid7())[19:])"
    tails = {subprocess.run([sys.executable, "-c", made], capture_output=True, check=True).stdout for _ in range(5)}
    assert len(tails) == 5
