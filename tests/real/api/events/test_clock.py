"""The server's clock, wrong for a moment: no 200 of it becomes a dead letter."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.consuming import consume_all
from tests.edges import EVENT, EdgeUnderTest
from tests.events import now
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

STAMPED = {name: value for name, value in EVENT.items() if name != "timestamp"}
HOURS = 3_600_000

SERVE = """
import os, sys, time
true = time.time_ns
def shown():
    try:
        with open(os.environ["CLOCK"]) as file:
            return true() + int(file.read() or 0) * 1_000_000
    except FileNotFoundError:
        return true()
time.time_ns = shown
sys.argv = ["gamemetrics", "serve"]
from pipeline.cli.main import main
sys.exit(main())
"""


class ClockedEdge(EdgeUnderTest):
    """`gamemetrics serve` whose wall clock is off by what a file says, in milliseconds."""

    program = ("-c", SERVE)


class Clock:
    """That file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def off(self, milliseconds: int) -> None:
        self.path.write_text(str(milliseconds))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def edge(place: Place, clock: Clock) -> Iterator[ClockedEdge]:
    edge = ClockedEdge(place, CLOCK=str(clock.path))
    try:
        edge.start()
        yield edge
    finally:
        edge.kill_if_running()


def fates(place: Place) -> tuple[int, int]:
    """How many events were counted, and how many are dead letters."""
    with place.pg() as connection:
        row = connection.execute("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM dlq_events)").fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("off", [48 * HOURS, -48 * HOURS, HOURS // 2, 24 * 400 * HOURS])
def test_a_200_of_a_wrong_clock_counts_and_the_next_ones_too(
    place: Place, edge: ClockedEdge, clock: Clock, off: int
) -> None:
    accepted = 0
    clock.off(off)
    for _ in range(3):
        reply = edge.send(STAMPED)
        accepted += reply.status == 200
        if reply.status != 200:
            assert reply.status == 503
            assert "nothing was accepted" in reply.json()["error"]
            assert "timestamp" not in reply.json(), "one to send the event again with, which would never be accepted"
    clock.off(0)
    replies = [edge.send(STAMPED) for _ in range(20)]
    assert [reply.status for reply in replies] == [200] * 20
    consume_all(place)
    assert fates(place) == (20 + accepted, 0)
    with place.pg() as connection:
        ahead = connection.execute(
            "SELECT count(*) FROM events WHERE abs(extract(epoch FROM event_timestamp - now())) < 300"
        ).fetchone()
    assert ahead is not None
    assert ahead[0] >= 20


@pytest.mark.parametrize(("path", "content"), [("/api/v1/events", STAMPED), ("/api/v1/events/batch", [STAMPED])])
def test_it_is_not_ready_while_kafka_refuses_every_event_for_its_time(
    edge: ClockedEdge, clock: Clock, path: str, content: object
) -> None:
    """Kafka takes no record more than an hour ahead of its own clock; which of the two is wrong nobody can tell."""
    clock.off(48 * HOURS)
    assert edge.post(path, content).status == 503
    ready = edge.get("/health/ready")
    assert (ready.status, "timestamp" in ready.json()["error"].lower()) == (503, True), ready.body
    clock.off(0)
    assert edge.post(path, content).status == 200
    assert edge.get("/health/ready").status == 200
    clock.off(48 * HOURS)
    assert edge.post(path, content).status == 503
    clock.off(0)
    assert edge.get("/health/ready").status == 503
    eventually(lambda: edge.answers("/health/ready"), timeout=15)


def test_a_clients_time_is_judged_by_one_clock(place: Place, edge: ClockedEdge, clock: Clock) -> None:
    """What the edge lets pass the consumer counts, whatever the broker's clock says."""
    clock.off(HOURS // 2)
    statuses = [
        edge.send({**EVENT, "timestamp": now(timedelta(minutes=minutes))}).status
        for minutes in (24 * 60 + 20, 24 * 60 + 40)
    ]
    assert statuses == [200, 400]
    consume_all(place)
    assert fates(place) == (1, 0)


@pytest.mark.parametrize("year", [1969, 1985, 1999])
def test_a_clock_before_the_first_time_of_an_event_accepts_nothing(
    place: Place, edge: ClockedEdge, clock: Clock, year: int
) -> None:
    """A board without a battery starts in 1970; its stamps would all be refused later."""
    clock.off(-int((datetime.now(UTC) - datetime(year, 6, 1, tzinfo=UTC)).total_seconds()) * 1000)
    refused = [edge.send(STAMPED), edge.post("/api/v1/events/batch", [STAMPED])]
    for reply in refused:
        assert reply.status == 503
        assert "clock" in reply.json()["error"]
    clock.off(0)
    assert edge.send(STAMPED).status == 200
    consume_all(place)
    assert fates(place) == (1, 0)
