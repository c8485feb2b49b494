"""What a proof cannot recount is kept with it: how much, and why; whoever proves on tells it too."""

import orjson
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.verify.groups import read_groups
from pipeline.verify.report import Report
from pipeline.verify.verify import proving
from tests.consuming import consume_all, log_ends
from tests.place import Place
from tests.real.verify.test_steps import found_in, go_on
from tests.real.verify.test_verify import NONE, a_mixed_load, events

pytestmark = pytest.mark.real


def delete_records(place: Place, partition: int, below: int) -> None:
    """Do at once what retention does in time."""
    admin = AdminClient(place.stack.kafka.admin_config())
    (deleted,) = admin.delete_records([TopicPartition(place.topic, partition, below)]).values()
    deleted.result(10)


def unproven(place: Place) -> dict[str, int]:
    """What a prover that just started knows of."""
    with place.pg() as connection:
        (group,) = read_groups(connection, place.topic)
    with proving(place.settings, group, Report()) as prover:
        return prover.unproven


def test_records_that_were_gone_before_they_were_read(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    assert unproven(place) == {}
    assert found_in(go_on(place)) == NONE
    assert unproven(place) == {"records": 0, "sums": 0}
    delete_records(place, 0, 20)  # they are proven already
    assert found_in(go_on(place)) == NONE
    assert unproven(place) == {"records": 0, "sums": 0}
    before = log_ends(place)
    place.produce(events(200, seed=3))
    consume_all(place)
    ends = log_ends(place)
    delete_records(place, 0, ends[0])
    delete_records(place, 1, before[1] + 7)
    gone = ends[0] - before[0] + 7
    for _ in range(2):
        report = go_on(place)
        assert found_in(report) == NONE
        assert report.compared["records"] <= 200 - gone
        assert unproven(place) == {"records": gone, "sums": 0}
    assert found_in(go_on(place, full=True)) == NONE
    assert unproven(place)["records"] == ends[0] + before[1] + 7


def test_sums_of_days_that_were_dropped(place: Place) -> None:
    old = {"event_type": "login", "player_id": "player-1", "game_id": "game-0", "timestamp": "2020-05-05T05:05:05Z",
           "event_id": "6a8b1e3e-6d35-4c37-9d4e-8c9e6f6b5d11", "data": {}}  # fmt: skip
    place.produce([*events(50), ("player-1", orjson.dumps(old))])
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    with place.pg() as connection:
        assert connection.execute("SELECT drop_day_partitions('events', 7)").fetchone() == (1,)
    assert found_in(go_on(place)) == NONE
    assert unproven(place) == {"records": 0, "sums": 1}
