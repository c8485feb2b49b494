"""The bench's promises: wrong sums are noticed, and what it replays is what the consumer said."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from bench import many, shaped
from bench.capture import NotTheRunError, capture
from bench.flat import settle
from bench.limit import replay
from bench.load import Load, produce, reference_load
from bench.rig import Fixture, Rig, rig_on
from bench.shapes import SHAPES
from bench.throughput import measure_shared
from bench.truth import Truth, WrongSumsError, compare, require, sum_up
from pipeline.kafka.topic import Topic
from pipeline.load.workload import Workload
from pipeline.local.stack import Stack
from pipeline.sinks.redis import connect
from tests.conftest import MakePlace
from tests.consuming import consume_all
from tests.place import Place

EVENTS = 3_000


def consumed(place: Place, epoch: int = 1_000) -> tuple[Fixture, Truth]:
    """A fixture at a place into which a small load was consumed, several epochs of it."""
    fixture = Fixture(place.stack, place.settings)
    load = Load(EVENTS, Workload(seed=7, end=datetime.now(UTC) - timedelta(minutes=1), players=200))
    assert produce(fixture, load).events == EVENTS
    consume_all(place, batch_max_events=epoch)
    return fixture, sum_up(load.slices())


def elsewhere(fixture: Fixture, other: Place) -> Fixture:
    """The topic and group of a fixture, with the stores of another place."""
    stores = {"kafka_topic": fixture.settings.kafka_topic, "kafka_group_id": fixture.group}
    return Fixture(other.stack, other.settings.model_copy(update=stores))


def test_right_sums_pass_and_each_wrong_one_is_noticed(place: Place) -> None:
    fixture, truth = consumed(place)
    require(fixture, truth)
    for statement, fault in (
        ("UPDATE player_event_counts SET events = events + 1 WHERE player_id = 'player-000001'", "counts: "),
        ("UPDATE leaderboard_daily SET score = score - 1 WHERE player_id = 'player-000001'", "daily scores: "),
        ("UPDATE leaderboard_horizon SET settled_before = 'infinity'", "all-time scores: "),
        ("DELETE FROM events WHERE player_id = 'player-000002'", "events: "),
    ):
        with place.pg() as connection:
            connection.execute(statement.encode())
        assert any(found.startswith(fault) for found in compare(fixture, truth)), fault
    with pytest.raises(WrongSumsError, match=r"counts: .* daily scores: .* all-time scores: "):
        require(fixture, truth, recount=False)


def test_a_wrong_counter_in_redis_is_noticed(place: Place) -> None:
    fixture, truth = consumed(place)
    with connect(fixture.settings) as client:
        client.hincrby("player_stats:player-000001", "total_events", 1)
    with pytest.raises(WrongSumsError, match="verify"):
        require(fixture, truth)


def test_a_replay_does_the_whole_job_again(make_place: MakePlace) -> None:
    run, copy, target = make_place(), make_place(), make_place()
    fixture, truth = consumed(run)
    taped = capture(fixture, elsewhere(fixture, copy))
    assert len(taped.epochs) >= 3
    limit = replay(Rig(run.stack), elsewhere(fixture, target), taped, EVENTS)
    assert limit.events == EVENTS
    assert set(limit.cpu) == {"client", "postgres", "valkey"}
    require(elsewhere(fixture, target), truth)


def test_a_pass_that_differs_from_the_run_is_no_tape_of_it(make_place: MakePlace) -> None:
    run, copy = make_place(), make_place()
    fixture, _ = consumed(run)
    with run.pg() as connection:
        connection.execute("UPDATE pipeline_outbox SET payload = payload || ' ' WHERE chunk = 0")
    with pytest.raises(NotTheRunError):
        capture(fixture, elsewhere(fixture, copy))


def test_processes_that_share_a_topic_each_read_their_own_partition_of_it(place: Place) -> None:
    fixture = Fixture(place.stack, place.settings)
    produced = produce(
        fixture, Load(EVENTS, Workload(seed=7, end=datetime.now(UTC) - timedelta(minutes=1), players=200))
    )
    with closing(Topic(fixture.settings, fixture.group)) as topic:
        sizes = [end - first for first, end in topic.bounds().values()]
    shared = measure_shared(Rig(place.stack), fixture, produced, processes=3)
    assert sorted(shared.shares) == sorted(sizes)
    assert shared.cpu_total > 0


def quiet(_what: str) -> None:
    """Tell nobody how far a run is."""


def test_a_shape_runs_beside_a_flat_load_of_its_size_and_has_a_limit(stack: Stack) -> None:
    job = shaped.measure_job(rig_on(stack), reference_load(EVENTS, shape=SHAPES["mixed"]), turns=1)
    own, padded = job.pair.run, job.pair.reference
    assert own.events == padded.events == EVENTS
    assert own.value_bytes_per_event == pytest.approx(padded.value_bytes_per_event, rel=0.05)
    assert job.pair.rate_ratio == pytest.approx(own.rate / padded.rate)
    assert job.limited is not None
    assert job.limited.limit.events == EVENTS
    assert job.limited.ratio > 0


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if not shape.edge_only])
def test_the_sums_of_every_shape_are_right(place: Place, name: str) -> None:
    fixture = Fixture(place.stack, place.settings)
    load = Load(EVENTS, reference_load(EVENTS, seed=5).workload, SHAPES[name])
    produce(fixture, load)
    consume_all(place, batch_max_events=1_000)
    require(fixture, sum_up(load.slices()))


def test_what_is_large_or_many_runs_beside_the_reference_load(stack: Stack) -> None:
    wanted = {"half of all records copies", "three to six days late, on settled boards", "events of 60 KiB"}
    chosen = [case for case in many.cases(EVENTS, most_bytes=6_000_000) if case.name in wanted]
    found = {case.name: case for case in many.measure(rig_on(stack), chosen, EVENTS, quiet)}
    assert set(found) == wanted
    assert found["half of all records copies"].pair.run.events == EVENTS
    assert found["events of 60 KiB"].pair.run.value_bytes_per_event == pytest.approx(60 * 1024, rel=0.01)
    assert all(case.pair.reference.value_bytes_per_event < 280 and case.ratio > 0 for case in found.values())


def test_late_events_are_added_to_boards_that_are_settled(place: Place) -> None:
    fixture, late = (
        Fixture(place.stack, place.settings),
        next(case for case in many.cases(EVENTS) if case.prepare is settle),
    )
    produce(fixture, late.load)
    settle(fixture)
    consume_all(place)
    truth = sum_up(late.load.slices())
    require(fixture, truth)
    assert fixture.scalar("SELECT sum(score) FROM leaderboard_settled") == truth.days["score"].sum()
