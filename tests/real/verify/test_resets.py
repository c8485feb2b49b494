"""What the runbook does to watermarks leaves a proof that can be made whole again, and still finds what is wrong."""

import pytest

from tests.chaos.test_moving_back import recreate
from tests.consuming import consume_all, log_ends
from tests.place import Place, Record
from tests.real.verify.test_altered import NOTE, UNDO, alter, one_of
from tests.real.verify.test_steps import a_round, found_in, go_on
from tests.real.verify.test_verify import NONE, a_mixed_load, events

pytestmark = pytest.mark.real

BAD: list[Record] = [b"not JSON", b"[]", ("player-5", None)]

BACK = """
UPDATE pipeline_watermarks AS now SET next_offset = kept.next_offset FROM kept WHERE kept.partition = now.partition
"""


def execute(place: Place, statement: str) -> int:
    with place.pg() as connection:
        return connection.execute(statement.encode()).rowcount


def held(place: Place, load: list[Record]) -> None:
    """What is altered or miscounted after the proof is found, whether or not its record is in the log."""
    new, old = one_of(load[0]), one_of(events(400)[0])
    for named in (new, old):
        alter(place, NOTE, named)
        a_round(place)
        _, kinds, keys = found_in(go_on(place))
        assert kinds == {"event"}
        assert f"player '{named[0]}'" in keys
        alter(place, UNDO, named)
        assert found_in(go_on(place)) == NONE
    for column, kind in (("admitted", "records"), ("duplicates", "records"), ("dead_lettered", "dead-lettered")):
        execute(place, f"UPDATE pipeline_watermarks SET {column} = {column} + 1 WHERE partition = 0")
        assert kind in found_in(go_on(place, full=True))[1]
        execute(place, f"UPDATE pipeline_watermarks SET {column} = {column} - 1 WHERE partition = 0")
    assert found_in(go_on(place, full=True)) == NONE


def test_a_topic_created_again_and_counted_on(place: Place) -> None:
    for partition in range(3):  # dead letters of offsets that will be good records
        place.produce(BAD, partition=partition)
    a_mixed_load(place)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    recreate(place)
    load = events(150, seed=30, players=40)
    place.produce([*load, *events(400)[:20], *BAD, *load[:10]])  # some that the old topic had, too
    assert execute(place, "DELETE FROM pipeline_watermarks") == 3
    consume_all(place)
    assert "checkpoint" in found_in(go_on(place))[1]
    for full in (True, False):
        report = go_on(place, full=full)
        assert (found_in(report), report.compared["events"]) == (NONE, 403 + 150)
    place.produce([*events(30, seed=31), *BAD])
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    held(place, load)


def test_a_watermark_set_back_and_replayed(place: Place) -> None:
    a_mixed_load(place)
    place.produce(BAD)
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    ends = log_ends(place)
    for to in (ends[0] // 2, ends[0] // 4):
        assert execute(place, f"UPDATE pipeline_watermarks SET next_offset = {to} WHERE partition = 0") == 1
        assert "checkpoint" in found_in(go_on(place))[1]
        assert found_in(go_on(place, full=True))[1] <= {"Redis watermark", "Redis statistics", "Redis board"}
        consume_all(place)
        for full in (False, True, False):
            assert found_in(go_on(place, full=full)) == NONE
    load = events(150, seed=32)
    place.produce([*load, *BAD])
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    held(place, load)


def test_watermarks_deleted_and_all_counted_again(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    assert execute(place, "DELETE FROM pipeline_watermarks") == 3
    consume_all(place)
    assert found_in(go_on(place, full=True)) == NONE
    load = events(50, seed=33)
    place.produce(load)
    consume_all(place)
    assert found_in(go_on(place)) == NONE


def test_what_is_put_back_with_nothing_booked_in_between_was_never_done(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    for do, undo in (
        ("UPDATE pipeline_watermarks SET next_offset = 1", BACK),
        ("DELETE FROM pipeline_watermarks", "INSERT INTO pipeline_watermarks SELECT * FROM kept"),
    ):
        execute(place, "CREATE TABLE kept AS SELECT * FROM pipeline_watermarks")
        assert execute(place, do) == 3
        assert execute(place, "SELECT FROM pipeline_resets") == 3
        execute(place, undo)
        assert execute(place, "SELECT FROM pipeline_resets") == 0
        execute(place, "DROP TABLE kept")
        assert found_in(go_on(place, full=True)) == NONE
