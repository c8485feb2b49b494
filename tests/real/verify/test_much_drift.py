"""Much of Redis that differs is told, and consumers are not held off for longer than a moment at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from pipeline.errors import UnavailableError
from pipeline.sinks import level
from pipeline.sinks.postgres import CACHE_LOCK
from pipeline.verify import redis
from pipeline.verify.redis import Hashes
from tests.consuming import consume_all
from tests.place import Place
from tests.real.verify.test_steps import found_in, go_on
from tests.real.verify.test_verify import NONE, a_mixed_load

pytestmark = pytest.mark.real

PLAYERS = 20


@pytest.fixture
def drifted(place: Place) -> Place:
    """A place of which the statistics of every player are gone from Redis."""
    a_mixed_load(place)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    with place.redis() as client:
        assert client.delete(*[f"player_stats:player-{number}" for number in range(PLAYERS)]) == PLAYERS
    return place


def slow(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Two players are read at a time, and that takes so long; a session may be idle for a second."""
    confirm, pause = Hashes.confirm, threading.Event()

    def slowly(self: Hashes, *given: Any) -> Any:
        pause.wait(seconds)
        return confirm(self, *given)

    patch.setattr(level, "_FROZEN_MS", 1_000)
    patch.setattr(redis, "_PAGE", 2)
    patch.setattr(redis, "_HOLD_SECONDS", 0.5)
    patch.setattr(redis, "_BETWEEN_SECONDS", 0.2)
    patch.setattr(Hashes, "confirm", slowly)


@contextmanager
def epochs(place: Place) -> Iterator[list[float]]:
    """Do as epochs do, which hold the lock shared for a moment; how long each waited for it."""
    waits: list[float] = []
    over = threading.Event()

    def go() -> None:
        with place.pg() as connection:
            while not over.wait(0.02):
                began = monotonic()
                connection.execute("SELECT pg_advisory_lock_shared(%s)", (CACHE_LOCK,))
                connection.execute("SELECT pg_advisory_unlock_shared(%s)", (CACHE_LOCK,))
                waits.append(monotonic() - began)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join(60)


def test_all_of_it_is_told_and_epochs_go_on_between(drifted: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 0.4)
    with epochs(drifted) as waits:
        report = go_on(drifted, full=True)
    assert found_in(report)[1] == {"Redis statistics"}
    told = {one.key.split()[0] for one in report.differences.kept}
    assert told == {f"player_stats:player-{number}" for number in range(PLAYERS)}
    held = [wait for wait in waits if wait > 0.3]
    assert len(held) > 2
    assert max(held) < 2.5


def test_what_was_read_after_the_lock_was_lost_is_not_told(drifted: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs may have gone on meanwhile: what differs then may be what they count."""
    slow(monkeypatch, 1.5)
    with pytest.raises(UnavailableError):
        go_on(drifted, full=True)
