"""When an epoch is due, and what positions it covers."""

from dataclasses import replace

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract.offsets import Positions, Span
from pipeline.epoch.batch import Batcher, BatchPolicy, Records
from tests.events import records_of

POLICY = BatchPolicy(max_events=3, max_bytes=100, max_wait_seconds=1.0)


def some(count: int, size: int = 1, partition: int = 0, start: int = 0) -> Records:
    return records_of((partition, offset, 0, b"x" * size) for offset in range(start, start + count))


def test_an_empty_batcher_is_never_due() -> None:
    batcher = Batcher(POLICY)
    batcher.add(Records(), 0.0)
    assert batcher.due(1e9) is None
    assert not batcher.armed


def test_it_is_due_by_count_by_bytes_and_by_age_of_the_first_record() -> None:
    batcher = Batcher(POLICY)
    batcher.add(some(2), 10.0)
    assert batcher.due(10.9) is None
    assert batcher.due(11.0) == "wait"
    batcher.add(some(1), 10.5)
    assert batcher.due(10.5) == "events"
    batcher = Batcher(POLICY)
    batcher.add(some(1, size=100), 0.0)
    assert batcher.due(0.0) == "bytes"


def test_keys_are_bytes_too() -> None:
    batcher = Batcher(POLICY)
    batcher.add(Records(some(1).frame.with_columns(key=pl.lit(b"k" * 99))), 0.0)
    assert batcher.due(0.0) == "bytes"


def test_an_idle_poll_does_not_arm_the_clock() -> None:
    batcher = Batcher(POLICY)
    batcher.add(Records(), 0.0)
    batcher.add(some(1), 100.0)
    assert batcher.due(100.5) is None
    assert batcher.remaining(100.25) == 0.75


def test_taking_empties_it() -> None:
    batcher = Batcher(POLICY)
    batcher.add(some(3), 0.0)
    assert len(batcher.take()) == 3
    assert batcher.due(1e9) is None
    assert batcher.room() == 3
    batcher.add(some(2), 0.0)
    batcher.clear()
    assert not batcher.armed
    assert batcher.room() == 3


def test_an_end_without_records_is_passed_in_its_time() -> None:
    """A log that ends in a transaction's marker: nothing is left to read, and nothing more may come to say so."""
    batcher = Batcher(POLICY)
    batcher.add(some(2, partition=1, start=4), 0.0)
    batcher.add(Records(ends={0: 7, 1: 9}), 0.5)
    batcher.add(some(1, partition=0, start=20), 0.6)
    taken = batcher.take()
    assert taken.stops() == {0: 21, 1: 9}
    batcher.add(Records(ends={0: 7, 1: 9}), 10.0)
    assert batcher.armed
    assert batcher.due(11.0) == "wait"
    batcher.drop(frozenset({1}))
    assert batcher.take().stops() == {0: 7}
    batcher.add(Records(ends={1: 9}), 20.0)
    batcher.drop(frozenset({1}))
    assert not batcher.armed


def test_dropping_partitions_keeps_the_others_and_their_age() -> None:
    batcher = Batcher(POLICY)
    batcher.add(some(1, partition=0), 5.0)
    batcher.add(some(1, partition=1), 5.5)
    batcher.drop(frozenset({0}))
    assert batcher.due(6.0) == "wait"
    assert batcher.take().stops() == {1: 1}
    batcher.add(some(1, partition=1), 0.0)
    batcher.drop(frozenset({1}))
    assert not batcher.armed


def test_spans_join_over_gaps_in_offsets() -> None:
    positions = Positions()
    positions.assign(0, 10)
    positions.assign(1, 0)
    assert positions.advance({0: 18}) == (Span(0, 10, 18),)
    assert positions.advance({1: 5, 0: 31}) == (Span(0, 18, 31), Span(1, 0, 5))


def test_an_end_is_news_only_beyond_what_is_read_and_of_partitions_read_here() -> None:
    positions = Positions()
    positions.assign(0, 10)
    positions.assign(1, 10)
    assert positions.beyond({0: 10, 1: 11, 2: 5}) == {1: 11}
    assert positions.advance({0: 10}) == ()


@given(st.lists(st.dictionaries(st.integers(0, 3), st.integers(1, 50), min_size=1), max_size=20))
def test_spans_of_a_partition_are_gapless_whatever_arrives(steps: list[dict[int, int]]) -> None:
    positions = Positions()
    reached = dict.fromkeys(range(4), 100)
    for partition, offset in reached.items():
        positions.assign(partition, offset)
    for step in steps:
        for span in positions.advance({partition: reached[partition] + gap for partition, gap in step.items()}):
            assert span.start == reached[span.partition] < span.stop
            reached[span.partition] = span.stop
    positions.revoke([0, 1])
    assert positions.assigned == {2, 3}


def test_the_room_counts_bytes_by_the_size_of_the_last_records() -> None:
    """So that a poll cannot bring a thousand large records where room for a few is left."""
    batcher = Batcher(BatchPolicy(max_events=1_000, max_bytes=10_000, max_wait_seconds=1.0))
    assert batcher.room() == 1_000
    batcher.add(records_of([(0, 0, 0, b"x" * 1_000)]), now=0.0)
    assert (batcher.room(), batcher.room(max_bytes=2_500)) == (9, 3)
    batcher.add(records_of((0, offset, 0, b"x" * 100) for offset in range(1, 11)), now=0.0)
    assert (batcher.room(), batcher.room(max_bytes=2_500)) == (80, 25)
    batcher.take()
    assert batcher.room() == 100, "the size is remembered from one epoch to the next"


def test_headers_make_polls_smaller_and_not_epochs() -> None:
    """A record may have a megabyte of them, which its message holds while it is polled and the epoch does not."""
    batcher = Batcher(BatchPolicy(max_events=1_000, max_bytes=10_000, max_wait_seconds=1.0))
    batcher.add(replace(some(10, size=10), header_bytes=10_000), now=0.0)
    assert batcher.room(max_bytes=5_000) == 5
    assert batcher.due(0.0) is None
    batcher.drop(frozenset({1}))
    assert batcher.room(max_bytes=5_000) == 5
