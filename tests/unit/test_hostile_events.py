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
NUMBER = 8
"""Records at once: a call of the lanes has a price of its own, some milliseconds."""
PLAIN = filled(part=b"1")
MOST_SECONDS = 0.01
"""Several times what any of them takes on a quiet machine; a walk in Python took 20 to 90 ms."""
MOST_TIMES = 8
"""So many times what a plain event of the same size takes, if the machine is that slow; it takes some 2 ms."""


def is_cheap(work: Callable[[bytes], object], value: bytes, number: int = 1) -> bool:
    """Tell whether work on so many of an event is within the bounds, by the process's CPU time.

    By the least of some tries, the plain event's beside: others disturb it, and only upwards. Without the collector,
    which the tests have look at all that pytest holds, and the edge and the consumer seldom.
    """
    least = {value: math.inf, PLAIN: math.inf}
    gc.disable()
    try:
        for _ in range(9):
            for one in (value, PLAIN):
                before = time.process_time()
                work(one)
                least[one] = min(least[one], time.process_time() - before)
            if least[value] < max(MOST_SECONDS * number, MOST_TIMES * least[PLAIN]):
                return True
    finally:
        gc.enable()
    return False


@pytest.mark.parametrize("value", HOSTILE)
def test_an_event_of_any_shape_is_judged_within_some_milliseconds(value: bytes) -> None:
    origin = Origin(uuid.UUID(int=1), datetime.now(UTC))
    assert len(value) <= MAX_EVENT_BYTES
    assert parse_record(value, origin, SCORING).data
    assert is_cheap(lambda one: parse_record(one, origin, SCORING), value)
    assert is_cheap(lambda one: parse_edge(one, origin, SCORING), value)
    short_cut, tick = ShortCut(SCORING), Stamps().now()
    assert short_cut.accept(value, tick)
    assert is_cheap(lambda one: short_cut.accept(one, tick), value)


@pytest.mark.parametrize("decoder", [Decoder, EveryLane])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_record_of_any_shape_is_decoded_within_some_milliseconds(value: bytes, decoder: type[Decoder]) -> None:
    decoding = decoder("topic", SCORING)
    records = {one: records_of((0, offset, NOW, one) for offset in range(NUMBER)) for one in (value, PLAIN)}
    assert len(decoding.decode(records[value]).events) == NUMBER
    assert is_cheap(lambda one: decoding.decode(records[one]), value, NUMBER)
