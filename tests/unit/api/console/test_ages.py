"""How old a position is, by when the log was seen to pass it; and rates of numbers that grow."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.console.ages import LogClock, Rate

steps = st.lists(st.tuples(st.floats(0.1, 10), st.integers(0, 1000)), min_size=1, max_size=300)


@given(steps, st.floats(0, 100), st.data())
def test_an_age_lies_between_the_samples_around_it(
    grown: list[tuple[float, int]], later: float, data: st.DataObject
) -> None:
    clock, at, end = LogClock(), 0.0, 0
    seen = []
    for pause, more in grown:
        at, end = at + pause, end + more
        clock.saw(3, end, at)
        seen.append((at, end))
    now = at + later
    offset = data.draw(st.integers(0, end + 5))
    age, exact = clock.age(3, offset, now)
    passed = [moment for moment, stop in seen if stop > offset]
    if not passed:
        assert (age, exact) == (0.0, True)
        return
    before = [moment for moment, stop in seen if stop <= offset]
    assert age >= now - passed[0] - 1e-6
    if exact:
        assert age <= now - before[-1] + 1e-6


def test_a_log_grows_steadily_between_two_samples() -> None:
    clock = LogClock()
    clock.saw(0, 100, 10.0)
    clock.saw(0, 200, 20.0)
    age, exact = clock.age(0, 149, 30.0)
    assert (round(age, 3), exact) == (15.05, True)
    assert clock.age(0, 200, 30.0) == (0.0, True)
    assert clock.age(0, 99, 30.0) == (20.0, False)
    assert clock.age(1, 5, 30.0) == (0.0, True)


def test_a_log_that_stands_still_takes_no_room_and_one_made_anew_begins_anew() -> None:
    clock = LogClock()
    clock.saw(0, 5, 0.0)
    for second in range(10_000):
        clock.saw(0, 7, float(second))
    clock.saw(0, 8, 10_000.0)
    assert clock.age(0, 7, 10_001.0) == (1.5, True)
    clock.saw(0, 2, 10_002.0)
    assert clock.age(0, 1, 10_003.0) == (1.0, False)


def test_a_rate_is_that_between_the_last_two_samples() -> None:
    rate = Rate()
    told = [rate.note(value, at) for value, at in ((0, 1.0), (30, 2.0), (30, 2.0), (90, 4.0), (5, 5.0), (7, 6.0))]
    assert told == [None, 30.0, 30.0, 30.0, None, 2.0]
    assert [rate.note(None, 7.0), rate.note(9, 8.0), rate.note(10, 9.0)] == [None, None, 1.0]
