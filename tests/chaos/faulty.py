"""Faults of ours, put into each stage from outside: what meets the event of one player raises what nobody foresaw."""

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

from pipeline.contract import event
from pipeline.epoch import epoch as epochs
from pipeline.epoch.aggregate import Deltas, aggregate
from pipeline.epoch.frame import EVENT_SCHEMA, encode_copy, sort_by_identity
from pipeline.epoch.layout import LayoutLane
from pipeline.epoch.typed import TypedLane

MARKED = "player-\u00e4-marked"

Patch = pytest.MonkeyPatch
Fault = Callable[[Patch], None]


class OursError(Exception):
    """What nobody foresaw."""


def fail_at(found: bool) -> None:  # noqa: FBT001 - whether the marked event is there
    if found:
        raise OursError("a fault put in")


def panic_at(found: bool) -> None:  # noqa: FBT001 - whether the marked event is there
    """Panic in Rust as polars does."""
    if found:
        pl.Series([10**9], dtype=pl.Int32).cast(pl.Date).dt.strftime("%Y")


def marked_in(frame: pl.DataFrame) -> bool:
    return MARKED in frame["player_id"]


def lanes(patch: Patch, strike: Callable[[bool], None] = fail_at) -> None:
    """Both fast lanes."""
    for lane in (LayoutLane, TypedLane):

        def read(self: Any, records: pl.DataFrame, original: Callable[..., pl.DataFrame] = lane.read) -> pl.DataFrame:
            strike(records["value"].str.contains("-marked", literal=True).any())
            return original(self, records)

        patch.setattr(lane, "read", read)


def panicking_lanes(patch: Patch) -> None:
    lanes(patch, panic_at)


def judge(patch: Patch) -> None:
    """The judge, to which a lane that vouches for nothing leaves every record."""
    original = event.parse_object
    for lane in (LayoutLane, TypedLane):
        patch.setattr(lane, "read", lambda _lane, _records: EVENT_SCHEMA.to_frame())

    def parse_object(loaded: dict[str, Any], *args: Any, **options: Any) -> event.Event:
        fail_at(loaded.get("player_id") == MARKED)
        return original(loaded, *args, **options)

    patch.setattr(event, "parse_object", parse_object)


def sorting(patch: Patch) -> None:
    def sort(events: pl.DataFrame) -> pl.DataFrame:
        fail_at(marked_in(events))
        return sort_by_identity(events)

    patch.setattr(epochs, "sort_by_identity", sort)


def aggregation(patch: Patch, strike: Callable[[bool], None] = fail_at) -> None:

    def adding_up(events: pl.DataFrame) -> Deltas:
        strike(marked_in(events))
        return aggregate(events)

    patch.setattr(epochs, "aggregate", adding_up)


def panicking_aggregation(patch: Patch) -> None:
    aggregation(patch, panic_at)


def encoder(patch: Patch, of: str) -> None:
    """The encoder of a table that has a column `of`, in the middle of what it writes."""

    def encode(frame: pl.DataFrame, **options: Any) -> Iterator[bytes]:
        pieces = encode_copy(frame, **options)
        yield next(pieces)
        for piece in pieces:
            yield piece[: len(piece) // 2]
            fail_at(of in frame.columns and marked_in(frame))
            yield piece[len(piece) // 2 :]

    patch.setattr(epochs, "encode_copy", encode)


def encoder_of_sums(patch: Patch) -> None:
    encoder(patch, "events")


def encoder_of_the_ledger(patch: Patch) -> None:
    encoder(patch, "event_id")


LOSING: list[Fault] = [
    judge, sorting, aggregation, panicking_aggregation, encoder_of_sums, encoder_of_the_ledger,
]  # fmt: skip
"""Those that cost the marked record."""
