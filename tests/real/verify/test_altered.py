"""Rows altered after they were proven are found, whatever else comes of the player and whatever the log has lost."""

import uuid
from typing import Any

import orjson
import pytest

from pipeline.verify.checkpoints import Checkpoints
from pipeline.verify.report import Report
from pipeline.verify.verify import Proof
from tests.consuming import consume_all, log_ends
from tests.events import encoded, now
from tests.place import Place, Record
from tests.real.verify.test_steps import a_round, found_in, go_on
from tests.real.verify.test_unproven import delete_records
from tests.real.verify.test_verify import NONE, a_mixed_load, events
from tests.waiting import eventually
from tests.watching import watching

pytestmark = pytest.mark.real

NOTE = "UPDATE events SET data = data || '{\"note\": 1}' WHERE player_id = %s AND event_id = %s"
UNDO = "UPDATE events SET data = data - 'note' WHERE player_id = %s AND event_id = %s"
Named = tuple[str, str]


def one_of(record: Record) -> Named:
    assert isinstance(record, tuple)
    loaded: dict[str, Any] = orjson.loads(record[1] or b"")
    return loaded["player_id"], loaded["event_id"]


def of_one_player(load: list[Record]) -> tuple[str, list[Record]]:
    """Somebody, and his records."""
    player = one_of(load[0])[0]
    return player, [record for record in load if one_of(record)[0] == player]


def alter(place: Place, statement: str, named: Named) -> None:
    with place.pg() as connection:
        assert connection.execute(statement.encode(), named).rowcount == 1


def forget_the_log(place: Place) -> None:
    for partition, end in log_ends(place).items():
        delete_records(place, partition, end)


def test_a_row_altered_while_its_player_is_owed_is_found(place: Place) -> None:
    load = events(400)
    place.produce(load)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    player, (altered, copied, *_) = of_one_player(load)
    alter(place, NOTE, one_of(altered))
    place.produce([copied])
    consume_all(place)
    go_on(place)
    a_round(place)
    for _ in range(2):
        found, kinds, keys = found_in(go_on(place))
        assert found
        assert kinds == {"event"}
        assert f"player '{player}'" in keys
        assert one_of(altered)[1] in keys
    alter(place, UNDO, one_of(altered))
    assert found_in(go_on(place)) == NONE
    a_round(place)
    assert found_in(go_on(place)) == NONE


def test_a_row_whose_record_is_gone_is_held_to_what_was_proven_of_it(place: Place) -> None:
    """And so is one whose record is still there, by the record."""
    load = events(400)
    place.produce(load)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    forget_the_log(place)
    player, (altered, copied, *_) = of_one_player(load)
    for copies in ([copied], [], [copied, *events(30, seed=4)]):
        alter(place, NOTE, one_of(altered))
        place.produce(copies)
        consume_all(place)
        go_on(place)
        a_round(place)
        for _ in range(2):
            _, kinds, keys = found_in(go_on(place))
            assert (kinds, keys) == ({"event"}, f"event player '{player}'")
        alter(place, UNDO, one_of(altered))
        assert found_in(go_on(place)) == NONE
    later = events(1, seed=5)
    place.produce(later)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    alter(place, NOTE, one_of(later[0]))
    for full in (True, False, True):
        found, kinds, keys = found_in(go_on(place, full=full))
        assert (found, kinds) == (True, {"event"})
        assert one_of(later[0])[1] in keys
    alter(place, UNDO, one_of(later[0]))
    assert found_in(go_on(place)) == NONE


def test_rows_deleted_while_the_log_has_a_gap_are_found_by_the_sweep(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    place.produce(events(100, seed=6))
    consume_all(place)
    forget_the_log(place)
    with place.pg() as connection:
        gone = connection.execute("DELETE FROM events WHERE player_id = 'player-3' AND event_type = 'login'").rowcount
        connection.execute(
            "DELETE FROM player_event_counts WHERE player_id = 'player-3' AND event_type = 'login'",
        )
    assert gone > 0
    for _ in range(2):
        _, kinds, keys = found_in(go_on(place))
        assert "event" in kinds
        assert "event player 'player-3'" in keys


def test_a_copy_with_other_contents_is_no_alteration_when_the_first_is_gone_from_the_log(place: Place) -> None:
    identities = [{"player_id": f"p{n}", "event_id": str(uuid.uuid4()), "timestamp": now()} for n in range(20)]
    place.produce([(one["player_id"], encoded(**one, data={"score": 7})) for one in identities])
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    forget_the_log(place)
    place.produce([(one["player_id"], encoded(**one, data={"score": 7, "note": "other"})) for one in identities])
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    a_round(place)
    assert found_in(go_on(place)) == NONE
    assert found_in(go_on(place, full=True)) == NONE


def test_what_was_proven_in_another_order_than_it_was_written_the_topic_clears(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the topic has all of it; it is then proven anew."""
    load = events(400)
    place.produce(load)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    with place.pg() as connection:
        connection.execute("UPDATE proven_counts SET contents = contents + 1 WHERE player_id = 'player-3'")
    a_round(place)
    assert found_in(go_on(place)) == NONE
    monkeypatch.setattr(Checkpoints, "prove_anew", lambda *_: None)
    a_round(place)
    assert found_in(go_on(place)) == NONE


def test_a_watch_tells_of_it_until_it_is_undone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    load = events(400)
    place.produce(load)
    consume_all(place)
    altered = one_of(load[0])
    looks: list[int] = []
    look = Proof.look_at_suspects

    def counted(self: Proof, report: Report) -> set[str]:
        found = look(self, report)
        looks.append(report.differences.totals.get("event", 0))
        return found

    monkeypatch.setattr(Proof, "look_at_suspects", counted)
    with watching(place, monkeypatch) as seen:
        eventually(lambda: seen.told("round_seconds", store="postgres") > 0, 120)
        forget_the_log(place)
        alter(place, NOTE, altered)
        eventually(lambda: "event" in seen.differing(), 120)
        until = len(looks) + 3
        eventually(lambda: len(looks) >= until, 120)
        assert seen.differing() == {"event"}
        assert 0 not in looks[-3:]
        alter(place, UNDO, altered)
        eventually(lambda: not seen.differing(), 120)
