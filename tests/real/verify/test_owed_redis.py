"""Redis is compared in all that was proven, wherever a verifier ended between a checkpoint and the comparison."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.errors import UnavailableError
from pipeline.verify import rounds
from pipeline.verify.groups import read_groups
from pipeline.verify.piece import Piece
from pipeline.verify.redis import RedisComparison
from pipeline.verify.report import Report
from pipeline.verify.verify import proving
from tests.consuming import consume_all
from tests.events import encoded, now
from tests.place import Place
from tests.real.verify.test_steps import found_in, go_on
from tests.real.verify.test_verify import NONE, a_mixed_load, events
from tests.waiting import eventually
from tests.watching import watching

pytestmark = pytest.mark.real


@pytest.fixture
def player(place: Place) -> str:
    """A player who was counted and proven, and of whom something was counted since."""
    a_mixed_load(place)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    place.produce(events(60, seed=5))
    consume_all(place)
    return f"player-{random.randrange(20)}"


@contextlib.contextmanager
def frozen_valkey(place: Place) -> Iterator[None]:
    place.stack.valkey.pause()
    try:
        yield
    finally:
        place.stack.valkey.resume()


def add_to(place: Place, player: str, by: int) -> None:
    with place.redis() as client:
        client.hincrby(f"player_stats:{player}", "total_events", by)


def proven_offsets(place: Place) -> int:
    with place.pg() as connection:
        row = connection.execute("SELECT sum(next_offset) FROM pipeline_proofs").fetchone()
    return int(row[0]) if row is not None else 0


def test_what_was_proven_while_redis_was_away_is_compared_by_the_next_run(place: Place, player: str) -> None:
    add_to(place, player, 1)
    before = proven_offsets(place)
    with frozen_valkey(place), pytest.raises(UnavailableError):
        go_on(place)
    assert proven_offsets(place) > before
    report = go_on(place)
    assert (report.compared["records"], found_in(report)[1]) == (0, {"Redis statistics"})
    assert f"player_stats:{player} total_events" in found_in(report)[2]
    add_to(place, player, -1)
    assert found_in(go_on(place)) == NONE
    report = go_on(place)
    assert (found_in(report), report.compared["Redis hashes"]) == (NONE, 0)  # nothing is owed any more


@pytest.mark.parametrize("full", [True, False], ids=["--full", "the first run"])
def test_a_run_over_everything_that_dies_before_it_compares_redis_leaves_that_to_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    a_mixed_load(place)
    consume_all(place)
    if full:
        assert found_in(go_on(place)) == NONE
    add_to(place, "player-3", 1)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RedisComparison, "everything", die)
        with pytest.raises(KeyboardInterrupt):
            go_on(place, full=full)
    report = go_on(place)
    assert (report.compared["records"], found_in(report)[1]) == (0, {"Redis statistics"})


def test_what_another_verifier_proved_and_did_not_compare_is_compared(place: Place, player: str) -> None:
    """It died after its step; this one proves what came after that."""
    add_to(place, player, 1)
    with place.pg() as connection:
        (group,) = read_groups(connection, place.topic)
    with proving(place.settings, group, Report()) as prover:
        prover.step()
    place.produce([encoded(player_id="another", ingested_at=now())])
    consume_all(place)
    report = go_on(place)
    assert (report.compared["records"], found_in(report)[1]) == (1, {"Redis statistics"})


def test_places_of_those_whose_sums_are_owed_are_compared(
    place: Place, player: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A level step that leaves sums to the next has nothing yet to hold a newcomer's boards to."""
    newcomer = f"newcomer of {player}"
    place.produce([encoded(player_id=newcomer, ingested_at=now())])
    consume_all(place)
    with place.redis() as client:
        client.zincrby("leaderboard:game-1:alltime", 1, newcomer)
    monkeypatch.setattr(Piece, "wide", property(lambda _self: True))
    monkeypatch.setattr(rounds, "SUMS_SECONDS", -1.0)
    touched = RedisComparison.touched

    def once(self: RedisComparison, *given: Any, **named: Any) -> None:
        touched(self, *given, **named)
        monkeypatch.setattr(rounds, "SUMS_SECONDS", 1.5)

    monkeypatch.setattr(RedisComparison, "touched", once)
    assert found_in(go_on(place))[1] == {"Redis board"}


def test_a_watch_pays_what_it_and_others_owe(place: Place, player: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.pg() as connection:
        connection.execute("UPDATE pipeline_proof_state SET redis_owed = 7")
        with watching(place, monkeypatch):

            def paid() -> bool:
                return connection.execute("SELECT redis_owed FROM pipeline_proof_state").fetchall() == [(None,)]

            eventually(paid, 60)
            place.produce(events(60, seed=6))
            consume_all(place)
            eventually(lambda: proven_offsets(place) == 577, 60)
            eventually(paid, 60)
    add_to(place, player, 1)
    assert found_in(go_on(place)) == NONE  # an old key that was altered since is a round's to find
