"""The days of a ledger: which partition an event is of, and the fewest bounds around some."""

import itertools
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sinks.days import Days

FIRST = datetime(2000, 1, 1, tzinfo=UTC)
SPLIT = datetime(2026, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def days_of(count: int) -> Days:
    """One partition for what is past, and `count` of a day each."""
    begins = [FIRST, *(SPLIT + timedelta(days=number) for number in range(count))]
    return Days(FIRST, SPLIT + timedelta(days=count), pl.Series(begins, dtype=pl.Datetime("us", "UTC")))


def events_at(moments: list[datetime]) -> pl.DataFrame:
    return pl.DataFrame({"event_timestamp": pl.Series(moments, dtype=pl.Datetime("us", "UTC"))})


@st.composite
def cases(draw: st.DrawFn) -> tuple[Days, list[datetime]]:
    days = days_of(draw(st.integers(1, 40)))
    begins = days.begins.to_list()
    edges = st.sampled_from([*begins, *(begin - MICROSECOND for begin in begins[1:]), days.end - MICROSECOND])
    between = st.integers(0, int((days.end - SPLIT) / MICROSECOND) - 1).map(lambda number: SPLIT + number * MICROSECOND)
    return days, draw(st.lists(edges | between, max_size=20))


@given(cases())
def test_an_event_is_of_the_partition_around_it(case: tuple[Days, list[datetime]]) -> None:
    days, moments = case
    bounds = [*days.begins.to_list(), days.end]
    for number, moment in zip(days.numbers(events_at(moments)), moments, strict=True):
        assert bounds[number - 1] <= moment < bounds[number]


@given(cases())
def test_ranges_hold_the_partitions_of_the_events_and_no_others(case: tuple[Days, list[datetime]]) -> None:
    days, moments = case
    ranges = days.ranges(events_at(moments))
    assert all(any(first <= moment < stop for first, stop in ranges) for moment in moments)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges)), "neighbours together"
    held = [begin for begin in days.begins if any(first <= begin < stop for first, stop in ranges)]
    assert len(held) == days.numbers(events_at(moments)).n_unique()


@given(cases(), st.integers(1, 10))
def test_few_partitions_are_never_more_than_the_most(case: tuple[Days, list[datetime]], most: int) -> None:
    days, moments = case
    events = events_at(moments)
    touched = days.numbers(events).n_unique()
    if days.few(events, most):
        assert touched <= most
    if len(days.begins) <= most:
        assert days.few(events, most)
