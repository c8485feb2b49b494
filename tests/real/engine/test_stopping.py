"""SIGTERM while PostgreSQL is frozen with a statement of ours: the process ends within its grace period."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.children import Child, child
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consume_all
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

GRACE_SECONDS = 60.0
"""As deploy/ gives it."""


@contextmanager
def held(place: Place, table: str) -> Iterator[None]:
    """Keep everybody from a table until the block ends."""
    with place.pg() as other:
        other.execute("BEGIN")
        other.execute(f"LOCK TABLE {table}".encode())
        yield


def freeze_in_a_statement(place: Place, table: str) -> None:
    """Freeze the server once somebody waits for the table."""
    with place.pg() as connection:
        waiting = "SELECT count(*) > 0 FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
        eventually(lambda: connection.execute(waiting, (table,)).fetchone() == (True,), timeout=60)
    place.stack.postgres.pause()


def stopped(place: Place, consumer: Child) -> int:
    try:
        return consumer.stop(GRACE_SECONDS)
    finally:
        place.stack.postgres.resume()


@pytest.mark.parametrize("table", ["pipeline_owners", "pipeline_watermarks"], ids=["a start", "an assignment"])
def test_a_start_that_hangs_can_be_stopped(table: str, place: Place, tmp_path: Path) -> None:
    place.produce([encoded() for _ in range(20)])
    with held(place, table), child(place, tmp_path) as consumer:
        freeze_in_a_statement(place, table)
        assert stopped(place, consumer) == 0
        assert "hangs" in consumer.said
    consume_all(place)
    assert_exact(place)


def test_an_epoch_that_hangs_can_be_stopped(place: Place, tmp_path: Path) -> None:
    with child(place, tmp_path) as consumer:
        place.produce([encoded() for _ in range(20)])
        caught_up(place)
        with held(place, "events"):
            place.produce([encoded() for _ in range(20)])
            freeze_in_a_statement(place, "events")
            assert stopped(place, consumer) == 0
            assert "a server hangs" in consumer.said
    consume_all(place)
    assert_exact(place)
