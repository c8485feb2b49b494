"""What the console says of the proof: never that all is well of what nobody has proven."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.verify.groups import read_groups
from pipeline.verify.report import Report
from pipeline.verify.verify import proving
from tests import watching as watches
from tests.consuming import consume_all
from tests.edges import running_edge
from tests.place import Place
from tests.real.verify.test_steps import go_on
from tests.real.verify.test_verify import a_mixed_load
from tests.watchers import watching

pytestmark = pytest.mark.real

Seen = Callable[[Callable[[dict[str, Any]], Any]], dict[str, Any]]


@pytest.fixture
def proof(place: Place) -> Iterator[Seen]:
    """Wait until the proof, as the console tells it, is as it should be."""
    a_mixed_load(place)
    with running_edge(place) as edge, watching(edge) as stream:
        yield lambda ready: stream.until(lambda seen: seen["proof"] and ready(seen["proof"]))["proof"]


def test_a_proof_that_has_begun_says_nothing_yet(place: Place, proof: Seen) -> None:
    consume_all(place)
    with place.pg() as connection:
        (group,) = read_groups(connection, place.topic)
    with proving(place.settings, group, Report()) as prover:
        prover.begin()
        begun = proof(lambda _: True)
        assert (begun["state"], begun["differences"], begun["age_seconds"]) == ("unknown", 0, None)
    go_on(place)
    assert proof(lambda seen: seen["state"] == "ok")["age_seconds"] < 600
    with proving(place.settings, group, Report()) as prover:
        prover.begin()  # --full, which ends here
    proof(lambda seen: seen["state"] == "unknown")


@pytest.mark.parametrize(
    ("then", "state", "reason"),
    [
        ("level_at = now() - interval '5 days'", "degraded", "for more than an hour nobody has proven"),
        ("redis_owed = 5, checked_at = now() - interval '3 minutes'", "degraded", "Redis was not compared"),
        ("swept_to = 'player-5'", "unknown", "has not ended"),
        ("round_seconds = NULL", "unknown", "has not ended"),
        ("differences = 3, state = 'differs', level_at = now() - interval '5 days'", "down", ""),
        ("redis_owed = 5, swept_to = '', unproven = '{\"records\": 7, \"sums\": 1}'", "ok", ""),
    ],
)
def test_what_is_stale_or_not_done_is_not_said_to_be_well(
    place: Place, proof: Seen, then: str, state: str, reason: str
) -> None:
    consume_all(place)
    go_on(place)
    assert proof(lambda seen: seen["state"] == "ok")["unproven"] == {}
    with place.pg() as connection:
        connection.execute(f"UPDATE pipeline_proof_state SET {then}".encode())
    seen = proof(lambda seen: seen["state"] == state and (state != "ok" or seen["unproven"]))
    assert reason in seen["reason"]
    assert bool(seen["reason"]) == (state in {"degraded", "unknown"})
    assert seen["unproven"] == ({"records": 7, "sums": 1} if "unproven" in then else {})


def test_a_group_that_keeps_identities_only_is_told_of_too(
    place: Place, proof: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("logger", "stats", "leaderboard"):
        consume_all(place, role)
    go_on(place)
    with place.pg() as connection:
        told = "SELECT group_id FROM pipeline_proof_state WHERE state = 'good' ORDER BY 1"
        groups = [f"{place.group}-{role}" for role in ("leaderboard", "logger", "stats")]
        assert [row[0] for row in connection.execute(told)] == groups
        proof(lambda seen: seen["state"] == "ok")
        connection.execute("UPDATE player_event_counts SET events = events + 1 WHERE player_id = 'player-3'")
        connection.execute("INSERT INTO pipeline_proof_state (group_id, topic) VALUES ('gone', %s)", (place.topic,))
        with watches.watching(place, monkeypatch):
            seen = proof(lambda seen: seen["state"] == "down")
        assert seen["differences"] > 0
        standing = "SELECT group_id, state FROM pipeline_proof_state ORDER BY 1"
        assert connection.execute(standing).fetchall() == list(zip(groups, ["good", "good", "differs"], strict=True))
        connection.execute("UPDATE leaderboard_daily SET score = score + 1 WHERE player_id = 'player-3'")
        connection.execute("UPDATE player_event_counts SET events = events - 1 WHERE player_id = 'player-3'")
        go_on(place)  # which goes through one group after the other
        assert connection.execute(standing).fetchall() == list(zip(groups, ["differs", "good", "good"], strict=True))
