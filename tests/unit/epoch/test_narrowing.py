"""A fault is narrowed down to exactly the rows that it is about, in a bounded number of tries."""

import math
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.epoch.narrowing import Unforeseen, attempt, narrow
from pipeline.errors import EventError, HaltError, UnavailableError

Work = Callable[[pl.DataFrame], int]


def numbered(count: int) -> pl.DataFrame:
    return pl.DataFrame({"row": range(count)}, schema={"row": pl.Int64})


def never(_bad: int, _seen: int) -> bool:
    return False


def panicking() -> object:
    """A panic of Rust code, as it comes: a date that no calendar has."""
    return pl.Series([10**9], dtype=pl.Int32).cast(pl.Date).dt.strftime("%Y")


class Counting:
    """Work that adds up, raises where `bad` says so of the rows it is given, and counts its runs."""

    def __init__(self, bad: Callable[[set[int]], bool]) -> None:
        self._bad = bad
        self.runs = 0

    def __call__(self, rows: pl.DataFrame) -> int:
        self.runs += 1
        if self._bad(set(rows["row"])):
            raise ZeroDivisionError("a fault")
        return sum(rows["row"])


@given(st.integers(0, 200).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(0, n - 1))))))
def test_exactly_the_culprits_are_found_and_the_others_kept(case: tuple[int, set[int]]) -> None:
    count, culprits = case
    culprits &= set(range(count))
    work = Counting(lambda rows: bool(rows & culprits))
    found = narrow(numbered(count).sample(fraction=1, shuffle=True, seed=1), "row", work, never)
    assert [row["row"].item() for row, _ in found.culprits] == sorted(culprits)
    assert set(found.kept["row"]) == set(range(count)) - culprits
    assert found.result == sum(found.kept["row"])
    assert work.runs <= 3 + len(culprits) * (2 * math.log2(max(count, 2)) + 2)
    assert [fault.records for fault in found.faults("x")] == ([len(culprits)] if culprits else [])


@given(st.integers(2, 100).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=2))))
def test_of_rows_that_raise_only_together_one_is_found(case: tuple[int, set[int]]) -> None:
    count, together = case
    work = Counting(lambda rows: together <= rows)
    found = narrow(numbered(count), "row", work, never)
    assert [row["row"].item() for row, _ in found.culprits] == [max(together)]
    assert set(found.kept["row"]) == set(range(count)) - {max(together)}
    assert work.runs <= 2 * (2 * count + 3)


@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60), min_size=2))
def test_both_at_once_leave_a_set_that_raises_nothing(alone: set[int], together: set[int]) -> None:
    work = Counting(lambda rows: bool(rows & alone) or together <= rows)
    found = narrow(numbered(61), "row", work, never)
    culprits = {row["row"].item() for row, _ in found.culprits}
    assert culprits >= alone
    assert len(culprits - alone) <= 1
    assert found.result == sum(found.kept["row"]) == sum(set(range(61)) - culprits)


def test_a_set_of_nothing_but_culprits_is_given_up_early() -> None:
    work = Counting(bool)
    with pytest.raises(
        HaltError, match="50 of the first 50 events of an epoch meet a fault of the consumer; the last: Z"
    ):
        narrow(numbered(100_000), "row", work, lambda bad, seen: bad >= 50 and bad > 0.5 * seen)
    assert work.runs < 50 * 2 + 2 * math.log2(100_000)


def test_work_that_raises_on_nothing_is_no_records_fault() -> None:
    with pytest.raises(HaltError, match="of no record"):
        narrow(numbered(10), "row", Counting(lambda _: True), never)


def test_a_fault_that_does_not_come_again_costs_no_record() -> None:
    runs: list[int] = []

    def once(rows: pl.DataFrame) -> int:
        runs.append(len(rows))
        if len(runs) == 1:
            raise ValueError("once")
        return len(rows)

    found = narrow(numbered(8), "row", once, never)
    assert (found.culprits, found.result) == ([], 8)
    assert [(fault.first.text, fault.records) for fault in found.faults("x")] == [("ValueError: once", 0)]


def test_a_panic_of_rust_code_is_a_fault_like_another() -> None:
    found = attempt(panicking)
    assert isinstance(found, Unforeseen)
    assert not isinstance(found.error, Exception), "else it needs no care"
    assert found.text == "PanicException: out-of-range date"


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), MemoryError(), UnavailableError("away"), EventError("", "x")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_raised_on_purpose_or_ends_the_process_is_no_fault(error: BaseException) -> None:
    def work(_: pl.DataFrame) -> None:
        raise error

    with pytest.raises(type(error)):
        narrow(numbered(4), "row", work, never)


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@given(st.text(max_size=700))
def test_an_errors_text_can_be_stored_whatever_it_is(text: str) -> None:
    found = Unforeseen(ValueError(text + "\0\ud800")).text
    assert found.startswith("ValueError: ")
    assert "\0" not in found
    assert len(found.encode()) < 3_000
    assert Unforeseen(MuteError()).text == "MuteError: "
