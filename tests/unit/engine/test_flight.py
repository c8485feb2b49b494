"""Epochs through three threads: in order, each with what the stage before returned, no landing lost to an error."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract.offsets import Span, Spans
from pipeline.engine.flight import Flights, Stages
from pipeline.epoch.batch import Records
from pipeline.epoch.epoch import Epoch
from pipeline.errors import HaltError, RewindError
from pipeline.sinks.postgres import Written
from tests.waiting import eventually

DEPTH = 3


@dataclass
class Trip:
    """Stages that note who did what; those of `failing` epochs raise in the writer, and `gate` holds it back."""

    failing: frozenset[int] = frozenset()
    gate: threading.Event = field(default_factory=threading.Event)
    steps: list[tuple[str, int]] = field(default_factory=list)
    threads: dict[str, set[str]] = field(default_factory=dict)

    def prepare(self, spans: Spans, records: Records) -> Epoch:
        self._note("prepare", spans[0].start)
        return Epoch(spans, records.frame, [], pl.DataFrame(), None, [])

    def write(self, epoch: Epoch) -> Written:
        number = epoch.spans[0].start
        self.gate.wait(10)
        self._note("postgres", number)
        if number in self.failing:
            raise RewindError(f"epoch {number}")
        return Written(epoch.spans)

    def apply(self, written: Written) -> Spans:
        self._note("redis", written.spans[0].start)
        return written.spans

    def errand(self, number: int) -> None:
        self._note("postgres", -number)

    def _note(self, thread: str, number: int) -> None:
        self.steps.append((thread, number))
        self.threads.setdefault(thread, set()).add(threading.current_thread().name)

    def numbers(self, thread: str) -> list[int]:
        return [number for name, number in self.steps if name == thread]


def one(number: int) -> Spans:
    return (Span(0, number, number + 1),)


@contextmanager
def flying(trip: Trip) -> Iterator[Flights]:
    with closing(Flights(Stages(trip.prepare, trip.write, trip.apply), DEPTH)) as flights:
        try:
            yield flights
        finally:
            trip.gate.set()


def landed(flights: Flights, into: list[int]) -> bool:
    for spans in flights.land(0.01):
        into.append(spans[0].start)  # noqa: PERF401 - one by one, for the next may raise
    return not len(flights)


def test_epochs_land_in_the_order_they_left_each_stage_in_its_thread() -> None:
    trip, found = Trip(), list[int]()
    with flying(trip) as flights:
        full = [flights.full]
        for number in range(1, DEPTH + 1):
            flights.launch(one(number), Records())
            full.append(flights.full)
        assert not landed(flights, found)
        trip.gate.set()
        eventually(lambda: landed(flights, found))
        full.append(flights.full)
        assert full == [False, False, False, True, False]
    order = list(range(1, DEPTH + 1))
    assert found == order
    assert [trip.numbers(thread) for thread in ("prepare", "postgres", "redis")] == [order] * 3
    assert {name: len(threads) for name, threads in trip.threads.items()} == {"prepare": 1, "postgres": 1, "redis": 1}
    assert len(set.union(*trip.threads.values())) == 3


@given(st.lists(st.booleans(), min_size=1, max_size=DEPTH))
def test_an_errand_is_done_between_the_epochs_that_left_before_it_and_after(errands: list[bool]) -> None:
    trip, found, expected = Trip(), list[int](), list[int]()
    with flying(trip) as flights:
        for number, errand in enumerate(errands, 1):
            if errand:
                flights.errand("postgres", trip.errand, number)
                expected.append(-number)
            flights.launch(one(number), Records())
            expected.append(number)
        trip.gate.set()
        eventually(lambda: landed(flights, found))
    assert trip.numbers("postgres") == expected


def test_what_landed_before_a_failing_epoch_is_given_before_its_error_comes_out() -> None:
    trip, found = Trip(failing=frozenset({2})), list[int]()
    trip.gate.set()
    with flying(trip) as flights:
        for number in (1, 2, 3):
            flights.launch(one(number), Records())
        eventually(lambda: trip.numbers("redis") == [1, 3])  # the watermark, and not the queue, keeps the third away
        with pytest.raises(RewindError, match="epoch 2"):
            landed(flights, found)
        assert found == [1]
        assert len(flights) == 2
        assert flights.abandon(10)
        assert not len(flights)


def test_flights_are_abandoned_only_once_all_have_ended() -> None:
    trip = Trip()
    with flying(trip) as flights:
        flights.launch(one(1), Records())
        assert not flights.abandon(0.01)
        assert len(flights) == 1
        trip.gate.set()
        eventually(lambda: flights.abandon(0.01))
        assert not list(flights.land(0))


def test_what_an_errand_raises_comes_out_at_a_landing() -> None:
    def halt() -> None:
        raise HaltError("from an errand")

    with flying(Trip()) as flights:
        flights.errand("postgres", halt)
        with pytest.raises(HaltError, match="from an errand"):
            eventually(lambda: list(flights.land(0)))
        assert list(flights.land(0)) == []
