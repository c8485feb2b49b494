"""Servers that are away: stopped, frozen, killed, and a consumer that must neither leave, nor lose, nor hang."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import health, waiting
from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.decode import Decoder
from pipeline.epoch.roles import ROLES
from pipeline.local.server import Server
from tests.chaos.children import child
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consuming
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.chaos]

SMALL: dict[str, Any] = {"batch_max_events": 12, "batch_max_wait_ms": 20}
SHORT_POLL: dict[str, Any] = {"kafka_max_poll_interval_ms": 6_000, "kafka_session_timeout_ms": 6_000}
SINKS = ("postgres", "valkey")


def server(place: Place, name: str) -> Server:
    return next(one for one in place.stack.servers if one.name == name)


@pytest.mark.parametrize("name", SINKS)
def test_a_sink_away_for_longer_than_the_poll_interval_moves_no_partition(
    name: str, place: Place, tmp_path: Path
) -> None:
    with Feed(place, 1) as feed, child(place, tmp_path, **SHORT_POLL) as consumer:
        feed.send(60)
        caught_up(place)
        server(place, name).stop()
        feed.send(500)
        eventually(lambda: consumer.said.count("waiting") > 8, timeout=60)  # 12 s and more, by the backoff
        server(place, name).start()
        caught_up(place)
        assert consumer.stop() == 0
        assert consumer.said.count("partitions assigned") == 1
        assert "partitions lost" not in consumer.said
    assert_exact(place)


@pytest.mark.parametrize("name", ["kafka", *SINKS])
@pytest.mark.parametrize("how", ["kill", pytest.param("pause", marks=pytest.mark.long)])
def test_a_server_that_dies_or_freezes_under_load(name: str, how: str, place: Place, tmp_path: Path) -> None:
    with Feed(place, 2) as feed, child(place, tmp_path, batch_max_wait_ms=200) as consumer:
        feed.send(600)
        eventually(lambda: "partitions assigned" in consumer.said, timeout=30)
        if name != "kafka":
            feed.send(600)
        broken = server(place, name)
        if how == "kill":
            broken.kill()
            eventually(lambda: "waiting" in consumer.said or name == "kafka", timeout=30)
            broken.start()
        else:
            broken.pause()
            eventually(lambda: not broken.ready, timeout=10)
            broken.resume()
        feed.send(100)
        caught_up(place)
        assert consumer.stop() == 0
    assert_exact(place)


@pytest.mark.parametrize("name", SINKS)
def test_a_stop_while_a_sink_is_away_is_an_orderly_end(name: str, place: Place, tmp_path: Path) -> None:
    with Feed(place, 3) as feed:
        with child(place, tmp_path) as consumer:
            feed.send(60)
            caught_up(place)
            server(place, name).stop()
            feed.send(100)
            eventually(lambda: consumer.said.count("waiting") > 1, timeout=30)
            assert consumer.stop() == 0, consumer.said
        with child(place, tmp_path) as consumer:
            eventually(lambda: consumer.said.count("waiting") > 1, timeout=30)
            assert consumer.stop() == 0, consumer.said
        server(place, name).start()
        with consuming(place):
            caught_up(place)
    assert_exact(place)


@pytest.mark.parametrize("name", SINKS)
def test_an_outage_is_no_reason_to_restart(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Liveness holds from before the first assignment until a rewind, however long a sink is away."""
    monkeypatch.setattr(health, "STALLED_SECONDS", 5.0)
    monkeypatch.setattr(waiting, "MAX_BACKOFF_SECONDS", 1.0)
    with Feed(place, 4) as feed:
        feed.send(50)
        server(place, name).stop()
        with consuming(place, **SMALL) as consumer:
            assert lives(consumer, until=waited(7))
            server(place, name).start()
            caught_up(place)
            server(place, name).stop()
            feed.send(200)
            assert lives(consumer, until=waited(7))
            server(place, name).start()
            caught_up(place)
    assert_exact(place)


def lives(consumer: EventConsumer, until: Callable[[], bool]) -> bool:
    """Ask for liveness again and again."""
    seen: list[bool] = []

    def asked() -> bool:
        seen.append(consumer.health.live()[0])
        return until() or not seen[-1]

    eventually(asked, timeout=120)
    return all(seen)


def waited(seconds: float) -> Callable[[], bool]:
    """True after so many seconds."""
    over = waiting.Deadline(seconds)
    return lambda: over.passed


def test_a_rewind_while_redis_is_away_goes_on_once_it_is_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STALLED_SECONDS", 5.0)
    monkeypatch.setattr(waiting, "MAX_BACKOFF_SECONDS", 1.0)
    with Feed(place, 5) as feed, consuming(place, **SMALL) as consumer:
        feed.send(100)
        caught_up(place)
        server(place, "valkey").stop()
        feed.send(12)
        with place.pg() as connection:
            eventually(lambda: "redis" in consumer.health.ready()[1]["away"], timeout=20)  # type: ignore[operator]
            connection.execute("UPDATE pipeline_watermarks SET next_offset = greatest(next_offset - 3, 0)")
        feed.send(100)
        assert lives(consumer, until=waited(7))
        server(place, "valkey").start()
        caught_up(place)
    with place.pg() as connection:
        counted = connection.execute("SELECT count(*) FROM events").fetchone()
        totals = connection.execute("SELECT sum(total_events) FROM player_statistics").fetchone()
    assert counted == totals


def test_a_bug_in_a_stage_ends_the_consumer_and_its_membership(
    place: Place, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """What is no PipelineError is not waited out: the process ends, leaves its group, and has written nothing."""

    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Decoder, "decode", broken)
    with Feed(place, 6) as feed:
        feed.send(20)
        with pytest.raises(ValueError, match="a bug"):
            EventConsumer(place.settings, ROLES["all"]).run()
        monkeypatch.undo()
        with consuming(place):
            caught_up(place, timeout=15)  # it need not wait 30 s for a member that is gone
    assert_exact(place)
    assert not recwarn.list
