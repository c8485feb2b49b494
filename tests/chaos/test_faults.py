"""A fault of ours in each stage: its record is a dead letter of the code `internal`, all others count exactly."""

import functools
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.roles import ROLES
from pipeline.errors import HaltError
from tests.chaos import faulty
from tests.chaos.children import SMALL, child
from tests.chaos.crashing import Crash
from tests.chaos.faulty import LOSING, MARKED, Fault
from tests.chaos.feeding import Feed
from tests.chaos.truth import Truth, assert_exact, recount
from tests.commanding import told
from tests.consuming import consume_all, consuming, ended
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

IN_PROCESS: dict[str, Any] = {**SMALL}
WHAT = r"a fault put in|out-of-range date"

Patch = pytest.MonkeyPatch
each = pytest.mark.parametrize("fault", LOSING, ids=lambda fault: fault.__name__)


def load(place: Place, marked: int = 1) -> set[tuple[int, int]]:
    """Send some hundred records, bad ones and duplicates among them; return the places of the marked."""
    with Feed(place, 17) as feed:
        feed.send(150)
        placed = place.produce([encoded(player_id=MARKED) for _ in range(marked)])
        feed.send(150)
    return set(placed)


def truth_without(place: Place, marked: set[tuple[int, int]]) -> Truth:
    """What is to be counted while the marked events meet a fault."""
    truth = recount(place)
    truth.events = {identity: event for identity, event in truth.events.items() if event.player_id != MARKED}
    truth.bad |= marked
    return truth


def letters(place: Place, code: str) -> list[tuple[int, int, str]]:
    with place.pg() as connection:
        return connection.execute(
            "SELECT partition, record_offset, error_message FROM dlq_events WHERE code = %s", (code,)
        ).fetchall()


def counted(name: str) -> float:
    return sum(
        sample.value for family in REGISTRY.collect() for sample in family.samples if sample.name == f"pipeline_{name}"
    )


@each
def test_a_fault_costs_its_record_also_at_a_replay_and_counts_once_mended(
    fault: Fault, place: Place, monkeypatch: Patch, tmp_path: Path
) -> None:
    marked, before = load(place), counted("internal_faults_total")
    in_child = functools.partial(fault, pytest.MonkeyPatch())
    with child(place, tmp_path, setup=in_child, crash=Crash("dead letters", "after", 2)) as victim:
        eventually(lambda: victim.dead(None), timeout=60)
        assert victim.exit_code == -9, victim.said
    with monkeypatch.context() as patch:
        fault(patch)
        consume_all(place, **IN_PROCESS)
    ((partition, offset, reason),) = letters(place, "internal")
    assert {(partition, offset)} == marked
    assert reason in {"OursError: a fault put in", "PanicException: out-of-range date"}
    assert_exact(place, truth_without(place, marked), internal=1)
    assert counted("internal_faults_total") > before or "a fault of ours" in victim.said
    assert told(place, "dlq", "redrive", "--all", "--code", "internal") == (0, {"redriven": 1})
    consume_all(place, **IN_PROCESS)
    truth = recount(place)
    assert len([event for event in truth.events.values() if event.player_id == MARKED]) == 1
    truth.bad |= marked
    assert_exact(place, truth)


@each
def test_a_majority_of_faults_halts_and_all_are_counted_once_mended(
    fault: Fault, place: Place, monkeypatch: Patch
) -> None:
    place.produce([encoded(player_id=MARKED if n % 3 else f"p{n}") for n in range(240)], partition=0)
    with monkeypatch.context() as patch:
        fault(patch)
        with (
            pytest.raises(HaltError, match=WHAT),
            consuming(place, dlq_halt_count=50, batch_max_wait_ms=500) as consumer,
        ):
            eventually(lambda: ended(consumer), timeout=60)
    assert letters(place, "internal") == []
    consume_all(place)
    assert_exact(place)


@pytest.mark.parametrize("fault", [faulty.lanes, faulty.panicking_lanes], ids=lambda fault: fault.__name__)
def test_lanes_that_raise_cost_no_record(fault: Fault, place: Place, monkeypatch: Patch) -> None:
    load(place)
    before = counted("lane_faults_total")
    fault(monkeypatch)
    consume_all(place, **IN_PROCESS)
    assert counted("lane_faults_total") > before
    assert letters(place, "internal") == []
    assert_exact(place)


def test_it_is_loud(place: Place, monkeypatch: Patch, capfd: pytest.CaptureFixture[str]) -> None:
    (where,) = load(place)
    faulty.aggregation(monkeypatch)
    consume_all(place)
    said = capfd.readouterr().out
    assert said.count("a fault of ours") == 1
    assert "OursError: a fault put in" in said
    assert "in fail_at" in said, "with where it was raised"
    code, listed = told(place, "dlq", "list", "--code", "internal")
    assert (code, listed["total"]) == (0, 1)
    (letter,) = listed["letters"]
    assert (letter["code"], letter["partition"], letter["record_offset"]) == ("internal", *where)
    code, report = told(place, "verify")
    assert (code, report["totals"]) == (1, {"internal dead letter": 1})
    assert f"dead letter {letter['id']}: OursError" in report["differences"][0]["found"]
    assert told(place, "dlq", "drop", str(letter["id"]), "--yes") == (0, {"dropped": 1})
    assert told(place, "verify")[0] == 0, "given up by an operator's word"


@pytest.mark.parametrize("fault", [faulty.lanes, *LOSING], ids=lambda fault: fault.__name__)
def test_without_the_protection_each_fault_ends_the_consumer(fault: Fault, place: Place, monkeypatch: Patch) -> None:
    load(place)
    fault(monkeypatch)
    for module in ("epoch.decode", "epoch.narrowing", "sinks.postgres"):
        monkeypatch.setattr(f"pipeline.{module}.attempt", lambda work, *args, **options: work(*args, **options))
    with pytest.raises(BaseException, match=WHAT):  # a panic is no Exception
        EventConsumer(place.settings, ROLES["all"]).run()
