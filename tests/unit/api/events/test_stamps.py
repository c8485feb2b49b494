"""The server's UUIDv7s and times."""

import subprocess
import sys
import time
import uuid

import pytest

from pipeline.api.events.stamps import MOST_AHEAD_MS, Stamps
from pipeline.contract.event import parse_timestamp
from tests.ticks import tick_at


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


class Clock:
    """A wall clock that a test sets; it shows each of `wrong` once before it is right again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.milliseconds = 1_795_000_000_000
        self.wrong: list[int] = []
        monkeypatch.setattr(time, "time_ns", self._read)

    def _read(self) -> int:
        return (self.wrong.pop(0) if self.wrong else self.milliseconds) * 1_000_000


DAYS = 86_400_000


@pytest.mark.parametrize("wrong", [2 * DAYS, -2 * DAYS, 20 * 365 * DAYS])
def test_one_wrong_reading_of_the_clock_is_read_again(monkeypatch: pytest.MonkeyPatch, wrong: int) -> None:
    clock = Clock(monkeypatch)
    stamps = Stamps()
    clock.wrong = [clock.milliseconds + wrong]
    assert stamps.now().milliseconds == clock.milliseconds
    assert not clock.wrong


@pytest.mark.parametrize("wrong", [2_000, DAYS, 2 * DAYS, 20 * 365 * DAYS])
def test_the_server_stamps_the_present_as_soon_as_the_clock_shows_it(
    monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    clock = Clock(monkeypatch)
    stamps = Stamps()
    clock.wrong = [clock.milliseconds + wrong] * 2
    while clock.wrong:
        stamps.now()
    for passed in range(20):
        clock.milliseconds += passed
        assert stamps.now().milliseconds - clock.milliseconds <= MOST_AHEAD_MS
    assert stamps.now().text == tick_at(clock.milliseconds).text


def test_a_clock_that_steps_back_a_little_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stamps = Stamps()
    first = stamps.now()
    clock.milliseconds -= MOST_AHEAD_MS
    assert stamps.now() is first
