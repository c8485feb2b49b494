"""Epochs in parts: together the whole, in the order of the records, each within its bound."""

from collections import Counter
from typing import NamedTuple

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract.offsets import Span
from pipeline.epoch.epoch import Epoch
from pipeline.epoch.parts import parted
from pipeline.epoch.rejected import Rejected


class Record(NamedTuple):
    partition: int
    offset: int
    table: int | None
    """None: it is no event."""


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Records of some partitions with gaps between their offsets, in any order."""
    found = []
    for partition in draw(st.sets(st.integers(0, 3), min_size=1)):
        offsets = draw(st.sets(st.integers(0, 60), max_size=20))
        found += [Record(partition, offset, draw(st.none() | st.integers(1, 9))) for offset in offsets]
    return draw(st.permutations(found))


@given(logs(), st.integers(1, 10))
def test_the_parts_are_the_epoch_in_its_order(records: list[Record], most: int) -> None:
    events = pl.DataFrame(
        [one for one in records if one.table is not None],
        schema={"partition": pl.Int32, "offset": pl.Int64, "table": pl.UInt32},
        orient="row",
    )
    rejected = [
        Rejected(one.partition, one.offset, 0, None, None, "bad", "invalid") for one in records if not one.table
    ]
    spans = tuple(Span(partition, 0, 70) for partition in sorted({one.partition for one in records}))
    epoch = Epoch(spans, events, rejected, pl.DataFrame(), None, [])
    parts = list(parted(epoch, events["table"], most))

    stands = {span.partition: span.start for span in spans}
    for part in parts:
        assert part.spans or not spans
        for span in part.spans:
            assert stands[span.partition] == span.start < span.stop
            stands[span.partition] = span.stop
        assert part.events["table"].n_unique() <= most
        inside = {(one.partition, offset) for one in part.spans for offset in range(one.start, one.stop)}
        assert inside.issuperset(part.events.select("partition", "offset").iter_rows())
        assert inside.issuperset((one.partition, one.offset) for one in part.rejected)
    assert stands == {span.partition: span.stop for span in spans}
    found = [row for part in parts for row in part.events.iter_rows()]
    assert Counter(found) == Counter(events.iter_rows())
    assert Counter(one for part in parts for one in part.rejected) == Counter(rejected)
    if events["table"].n_unique() <= most:
        assert len(parts) == 1
