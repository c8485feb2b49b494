"""What an event may cost, whatever is in it: the edge has one thread, and an epoch waits for its decoding."""

import gc
import math
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from pipeline.api.events.short_cut import ShortCut
from pipeline.api.events.stamps import Stamps
from pipeline.contract.event import MAX_EVENT_BYTES, Origin, load_scoring, parse_edge, parse_record
from pipeline.epoch.decode import Decoder
from tests.events import records_of
from tests.hostile import HOSTILE, filled
from tests.unit.epoch.test_decode import EveryLane

SCORING = load_scoring()
NOW = int(datetime.now(UTC).timestamp() * 1000)
ORIGIN = Origin(uuid.UUID(int=1), datetime.now(UTC))
PLAIN = filled(part=b"1")
NUMBER = 8
"""Records at once: a call of the lanes has a price of its own, some milliseconds."""
MOST_SECONDS = 0.01
"""More than any of them takes on a quiet machine; a walk in Python took 20 to 90 ms."""
MOST_TIMES = 20
"""So many times what the judge takes for a plain event of the same size, some 1 ms, however slow the machine is."""


def is_cheap(work: Callable[[], object], number: int = 1) -> bool:
    """Tell whether work on so many events is within the bounds, by the process's CPU time.

    By the least of some tries, the plain event's beside: others disturb it, and only upwards. Without the collector,
    which the tests have look at all that pytest holds, and the edge and the consumer seldom.
    """
    least = least_plain = math.inf
    gc.disable()
    try:
        for _ in range(9):
            began = time.process_time()
            work()
            done = time.process_time()
            parse_record(PLAIN, ORIGIN, SCORING)
            least, least_plain = min(least, done - began), min(least_plain, time.process_time() - done)
            if least < number * max(MOST_SECONDS, MOST_TIMES * least_plain):
                return True
    finally:
        gc.enable()
    return False


@pytest.mark.parametrize("value", HOSTILE)
def test_an_event_of_any_shape_is_judged_within_some_milliseconds(value: bytes) -> None:
    assert len(value) <= MAX_EVENT_BYTES
    assert parse_record(value, ORIGIN, SCORING).data
    assert is_cheap(lambda: parse_record(value, ORIGIN, SCORING))
    assert is_cheap(lambda: parse_edge(value, ORIGIN, SCORING))
    short_cut, tick = ShortCut(SCORING), Stamps().now()
    assert short_cut.accept(value, tick)
    assert is_cheap(lambda: short_cut.accept(value, tick))


@pytest.mark.parametrize("decoder", [Decoder, EveryLane])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_record_of_any_shape_is_decoded_within_some_milliseconds(value: bytes, decoder: type[Decoder]) -> None:
    decoding = decoder("topic", SCORING)
    records = records_of((0, offset, NOW, value) for offset in range(NUMBER))
    assert len(decoding.decode(records).events) == NUMBER
    assert is_cheap(lambda: decoding.decode(records), NUMBER)
