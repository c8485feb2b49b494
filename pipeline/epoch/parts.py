"""An epoch cut into parts, each of which is written by a transaction of its own."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import polars as pl

from pipeline.contract.offsets import Span, Spans
from pipeline.epoch.epoch import Epoch

_ORDER: Final = ("partition", "offset")


def parted(epoch: Epoch, tables: pl.Series, most: int) -> Iterator[Epoch]:
    """Cut an epoch, in the order of its records, so that the events of each part go into `most` tables at most.

    `tables` numbers the table of each event. The parts together are the epoch: their spans join, and each record is in
    one of them; what is to be added for them is yet to be prepared.
    """
    placed = epoch.events.select(*_ORDER).with_columns(tables.alias("table")).sort(_ORDER)
    cuts, met = list[tuple[int, int]](), set[int]()
    for partition, offset, table in placed.iter_rows():
        if table not in met and len(met) == most:
            cuts.append((partition, offset))
            met.clear()
        met.add(table)
    rest = epoch.spans
    for cut in cuts:
        spans, rest = _split(rest, cut)
        yield _within(epoch, spans)
    yield _within(epoch, rest)


def _split(spans: Spans, cut: tuple[int, int]) -> tuple[Spans, Spans]:
    """Split spans, which are in order of partition, before a place."""
    partition, offset = cut
    before, after = list[Span](), list[Span]()
    for span in spans:
        middle = max(span.start, min(span.stop, offset))
        if span.partition != partition:
            middle = span.stop if span.partition < partition else span.start
        before += [replace(span, stop=middle)] if span.start < middle else []
        after += [replace(span, start=middle)] if middle < span.stop else []
    return tuple(before), tuple(after)


def _within(epoch: Epoch, spans: Spans) -> Epoch:
    bounds = {span.partition: span for span in spans}
    inside = [
        (pl.col("partition") == span.partition) & pl.col("offset").is_between(span.start, span.stop, closed="left")
        for span in spans
    ]
    return replace(
        epoch,
        spans=spans,
        events=epoch.events.filter(pl.any_horizontal(*inside, pl.lit(value=False))),
        rejected=[
            one
            for one in epoch.rejected
            if one.partition in bounds and bounds[one.partition].start <= one.offset < bounds[one.partition].stop
        ],
        effects=None,
    )
