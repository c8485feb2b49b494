"""`verify --watch`: what waits is no difference, what cannot be proven is told, and no transaction waits."""

import threading
import uuid
from collections import Counter
from typing import Any

import orjson
import pytest

from pipeline.sinks import session
from pipeline.verify import boards, watch
from pipeline.verify.steps import Prover
from pipeline.verify.watch import Pace, Watched
from tests.consuming import caught_up, consume_all, consuming, log_ends
from tests.events import encoded, now
from tests.place import Place
from tests.real.verify.test_steps import found_in, go_on
from tests.real.verify.test_unproven import delete_records
from tests.real.verify.test_verify import NONE, a_mixed_load, events
from tests.waiting import eventually
from tests.watching import watching

pytestmark = pytest.mark.real


def suspects(place: Place) -> list[Any]:
    with place.pg() as connection:
        return connection.execute("SELECT player_id FROM pipeline_suspects WHERE differs").fetchall()


def test_a_copy_with_other_contents_is_no_difference_while_it_waits(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is looked at and cleared; another comes before the next look is due, and anybody may send them."""
    first = {"player_id": "player-3", "event_id": str(uuid.uuid4()), "timestamp": now()}
    place.produce([("player-3", encoded(**first, data={"score": 1}))])
    with consuming(place), watching(place, monkeypatch) as seen:
        monkeypatch.setattr(watch, "_LOOK_SECONDS", 5.0)
        caught_up(place)
        eventually(lambda: seen.told("records_total") == 1, 60)
        place.produce([("player-3", encoded(**first, data={"score": 2}))])
        eventually(lambda: seen.told("records_total") == 2 and not suspects(place), 60)
        place.produce([("player-3", encoded(**first, data={"score": 3}))])
        eventually(lambda: seen.told("waiting", what="players") == 1, 60)
        eventually(lambda: seen.told("waiting", what="players") == 0, 60)
        assert not suspects(place)
        assert (seen.alarms, seen.differing()) == ([], set())


def test_records_that_nobody_can_prove_any_more_are_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    a_mixed_load(place)
    consume_all(place)
    with watching(place, monkeypatch) as seen:
        eventually(lambda: seen.told("round_seconds", store="postgres") > 0, 60)
        assert seen.told("unproven", reason="records") == 0
    before = log_ends(place)
    place.produce(events(100, seed=8))
    consume_all(place)
    delete_records(place, 0, log_ends(place)[0])
    with watching(place, monkeypatch) as seen:
        gone = log_ends(place)[0] - before[0]
        eventually(lambda: seen.told("unproven", reason="records") == gone, 60)
        assert seen.alarms == []


@pytest.fixture
def dropped(place: Place) -> Place:
    """A place that was proven, and of which a day was dropped since."""
    old = {"event_type": "player_score", "player_id": "player-1", "game_id": "game-0", "data": {"score": 3},
           "timestamp": "2020-05-05T05:05:05Z", "event_id": str(uuid.uuid4())}  # fmt: skip
    place.produce([*events(400, players=60), ("player-1", orjson.dumps(old))])
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    with place.pg() as connection:
        assert connection.execute("SELECT drop_day_partitions('events', 7)").fetchone() == (1,)
    return place


def counted(patch: pytest.MonkeyPatch, **owners: Any) -> Counter[str]:
    """Count calls of methods by name, of the class each belongs to."""
    calls: Counter[str] = Counter()

    def count(name: str, method: Any) -> Any:
        def counting(self: Any, *given: Any) -> Any:
            calls[name] += 1
            return method(self, *given)

        return counting

    for name, owner in owners.items():
        patch.setattr(owner, name, count(name, getattr(owner, name)))
    return calls


def test_sums_that_nobody_can_prove_any_more_are_told_and_not_gone_round(
    dropped: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch, step=Prover, turn=Watched)
    with watching(dropped, monkeypatch) as seen:
        eventually(lambda: calls["turn"] > 20, 60)
        assert seen.told("unproven", reason="sums") == 1
        assert calls["step"] <= calls["turn"] + 2
        assert seen.alarms == []


def test_a_round_over_boards_leaves_no_transaction_open_between_turns(
    dropped: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends what stands idle in a transaction for half a second; a page comes each second."""
    monkeypatch.setattr(session, "sinks", lambda: {"idle_in_transaction_session_timeout": "500ms", "jit": "off"})
    monkeypatch.setattr(boards, "_PAGE", 100)
    troubles: list[str] = []
    pause = threading.Event()

    def troubled() -> bool:
        pause.wait(0.05)
        troubles.append(seen.health.trouble)
        return seen.told("round_seconds", store="redis") > 0

    with watching(dropped, monkeypatch, Pace(1.0, 360_000.0, 0.0)) as seen:
        eventually(troubled, 60)
        assert set(troubles) <= {"", "no turn has ended yet"}
        assert seen.alarms == []


def test_boards_without_proven_sums_are_compared_in_pages_by_key(
    dropped: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page ends in the middle of days, of weeks, and of what is settled."""
    monkeypatch.setattr(boards, "_PAGE", 20)
    monkeypatch.setattr(boards, "_LEAST", 3)
    with dropped.pg() as connection, dropped.redis() as client:
        connection.execute(
            "INSERT INTO leaderboard_settled SELECT game_id, player_id, sum(score), now() FROM leaderboard_daily"
            " WHERE day < current_date - 1 GROUP BY 1, 2"
        )
        connection.execute("UPDATE leaderboard_horizon SET settled_before = current_date - 1")
        report = go_on(dropped, full=True)
        assert found_in(report) == NONE
        rows = connection.execute("SELECT count(*) FROM leaderboards WHERE period NOT LIKE '%2020-%'").fetchone()
        assert (report.compared["Redis board places"],) == rows
        keys = [key.decode() for key in client.keys("leaderboard:game-1:*")]
        assert len(keys) >= 4
        for key in keys:
            client.zincrby(key, 1, client.zrange(key, 5, 5)[0])
        client.zadd(keys[0], {"nobody": 1})
        client.zrem(keys[1], client.zrange(keys[1], 3, 3)[0])
    report = go_on(dropped, full=True)
    assert report.differences.totals == {"Redis board": len(keys) + 2}
    assert {one.key.split(" ")[0] for one in report.differences.kept} == set(keys)


def test_rounds_stand_still_while_consumers_lag(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    a_mixed_load(place)
    consume_all(place)
    monkeypatch.setattr(watch, "PIECE_RECORDS", 30)
    calls = counted(monkeypatch, turn=Watched, _roll=Watched)
    with watching(place, monkeypatch):
        eventually(lambda: calls["_roll"] > 2, 60)
        place.produce(events(40, seed=4))
        turns = calls["turn"]
        eventually(lambda: calls["turn"] > turns + 3, 60)
        rolls, turns = calls["_roll"], calls["turn"]
        eventually(lambda: calls["turn"] > turns + 10, 60)
        assert calls["_roll"] == rolls
        consume_all(place)
        eventually(lambda: calls["_roll"] > rolls, 60)
