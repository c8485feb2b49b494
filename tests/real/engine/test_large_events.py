"""Events as large as the contract lets them be: the consumer's memory is bounded by bytes, not by their number."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.consuming import caught_up
from tests.edges import free_port
from tests.events import encoded
from tests.place import Place

pytestmark = pytest.mark.real

_MEBIBYTE = 1 << 20
_EVENTS = 3_300
_SIZE = 60_000


def test_a_backlog_of_the_largest_events_stays_within_the_memory_of_small_ones(place: Place) -> None:
    """200 MB, after a few small ones: the size that polls are measured by is then that of the small."""
    random_bytes = random.Random(1).randbytes(_SIZE)
    text = random_bytes.hex()
    for first in range(0, _EVENTS, 300):
        large = [
            (f"p{number}", encoded(player_id=f"p{number}", data={"score": 1, "x": text[number : number + _SIZE]}))
            for number in range(first, first + 300)
        ]
        small = [(f"p{number}", encoded(player_id=f"p{number}")) for number in range(20)]
        place.produce([*small, *large])
    counted, peak = consumed_by_a_process(place)
    assert counted == _EVENTS + 20 * _EVENTS // 300
    assert peak < 700 * _MEBIBYTE, f"{peak / _MEBIBYTE:.0f} MiB"


def test_a_backlog_of_records_that_are_all_headers_stays_within_that_memory(place: Place) -> None:
    """800 MB of headers, which nobody reads, around 300 KB of events, after some that have none."""
    place.produce([encoded() for _ in range(2_000)], partition=0)
    for _ in range(9):
        place.produce([encoded() for _ in range(100)], partition=0, headers={"trace": b"x" * 900_000})
    counted, peak = consumed_by_a_process(place)
    assert counted == 2_900
    assert peak < 700 * _MEBIBYTE, f"{peak / _MEBIBYTE:.0f} MiB"


def consumed_by_a_process(place: Place) -> tuple[int, int]:
    """Have `gamemetrics consume` catch up; returns how many events are counted, and the bytes it had at most."""
    metrics = {"METRICS_PORT": str(free_port())}
    consumer = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "consume"], env={**place.environment(), **metrics}, stderr=subprocess.DEVNULL
    )
    try:
        caught_up(place, timeout=200)
        status = Path(f"/proc/{consumer.pid}/status").read_text(encoding="ascii")
    finally:
        consumer.send_signal(signal.SIGTERM)
        consumer.wait(40)
    with place.pg() as connection:
        counted = connection.execute("SELECT sum(total_events) FROM player_statistics").fetchone()
    assert counted is not None
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    return int(counted[0]), peak
