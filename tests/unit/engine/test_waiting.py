"""Waiting for a server: as long as it is away, at a growing pace, and not once the consumer is asked to stop."""

import itertools
import threading
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import waiting
from pipeline.engine.health import ConsumerHealth
from pipeline.engine.waiting import Backoff, Deadline, LoopRetry, Retry
from pipeline.errors import (
    ConfigurationError,
    HaltError,
    PipelineError,
    RefusedError,
    RewindError,
    StoppedError,
    UnavailableError,
)
from tests.waiting import eventually


class Server:
    """Work that is refused so many times by a server that is away; `health` is asked at each attempt."""

    def __init__(self, refusals: int, health: ConsumerHealth) -> None:
        self._refusals = refusals
        self._health = health
        self.attempts = 0
        self.seen: list[object] = []

    def work(self) -> int:
        self.seen.append(self._health.ready()[1]["away"])
        self.attempts += 1
        if self.attempts <= self._refusals:
            raise UnavailableError("away")
        return self.attempts


@given(st.floats(0.001, 10), st.floats(1, 100), st.integers(1, 30))
def test_each_wait_is_up_to_twice_the_one_before_and_never_above_the_most(
    least: float, factor: float, attempts: int
) -> None:
    most = least * factor
    bound = least
    for wait in itertools.islice(Backoff(least, most).waits(), attempts):
        assert bound / 2 <= wait <= bound
        bound = min(2 * bound, most)


def test_a_deadline_passes_and_is_set_again() -> None:
    deadline = Deadline(0)
    seen = [deadline.passed]
    for seconds in (1_000, -1):
        deadline.set(seconds)
        seen.append(deadline.passed)
    assert seen == [True, False, True]


@given(st.integers(0, 5))
def test_work_is_repeated_until_its_server_is_back(refusals: int) -> None:
    health, turns = ConsumerHealth(), list[None]()
    server = Server(refusals, health)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "MIN_BACKOFF_SECONDS", 0.0)
        retry = Retry(threading.Event(), health, before_each=lambda: turns.append(None))
    assert retry("a server", server.work) == refusals + 1
    assert server.seen == [[], *[["a server"]] * refusals]
    assert health.ready()[0]
    assert len(turns) == refusals + 1


def test_one_that_is_asked_to_stop_waits_no_longer() -> None:
    stop, health = threading.Event(), ConsumerHealth()
    stop.set()
    server = Server(10, health)
    with pytest.raises(StoppedError, match="waiting for a server"):
        Retry(stop, health)("a server", server.work)
    assert server.attempts == 1
    assert not health.ready()[0]


@pytest.mark.parametrize("kind", [ConfigurationError, HaltError, RewindError])
def test_what_no_waiting_mends_is_raised_at_once(kind: type[PipelineError]) -> None:
    attempts = itertools.count()

    def work() -> None:
        next(attempts)
        raise kind("for good")

    with pytest.raises(kind, match="for good"):
        Retry(threading.Event(), ConsumerHealth())("a server", work)
    assert next(attempts) == 1


def test_work_done_once_tells_the_probes_what_it_came_to() -> None:
    """An audit does not wait for a server, and readiness is what it met there."""
    health = ConsumerHealth()
    retry = Retry(threading.Event(), health)

    def denied() -> None:
        raise RefusedError("no right")

    with pytest.raises(RefusedError):
        retry.once("a server", denied)
    ready, facts = health.ready()
    assert (ready, facts["reasons"]) == (False, {"a server": "no right"})
    assert retry.once("a server", lambda: 3) == 3
    assert health.ready()[0]


@pytest.mark.parametrize("error", [None, UnavailableError("away")])
def test_the_loop_turns_while_a_server_hangs(error: UnavailableError | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "BESIDE_SECONDS", 0.001)
    health, turns, enough = ConsumerHealth(), list[None](), threading.Event()

    def turn() -> None:
        turns.append(None)
        if len(turns) == 3:
            enough.set()

    monkeypatch.setattr(health, "turn", turn)

    def hang() -> str:
        assert enough.wait(10), "the loop stood still"
        if error is not None:
            raise error
        return threading.current_thread().name

    with closing(LoopRetry(threading.Event(), health)) as retry:
        if error is None:
            assert retry.beside(hang).startswith("beside")
        else:
            with pytest.raises(UnavailableError):
                retry.beside(hang)
    assert len(turns) >= 3


def test_one_that_is_asked_to_stop_does_not_wait_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement may hang with its server for good; the process ends all the same, and leaves it the connection."""
    monkeypatch.setattr(waiting, "BESIDE_SECONDS", 0.001)
    monkeypatch.setattr(waiting, "STOPPING_SECONDS", 0.01)
    stop, thaw = threading.Event(), threading.Event()
    retry = LoopRetry(stop, ConsumerHealth())

    def hang() -> None:
        stop.set()
        assert thaw.wait(60)

    with pytest.raises(StoppedError, match="hangs"):
        retry.beside(hang)
    assert not retry.close(), "what it works with must not be closed under it"
    thaw.set()
    eventually(retry.close)
