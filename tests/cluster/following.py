"""Real consumers in the place of a Deployment's pods, under a load that comes and goes, while a cluster scales them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

from tests.cluster.fleet import Fleet, Moment, draw
from tests.cluster.kubectl import Kubectl
from tests.commanding import gamemetrics
from tests.consuming import caught_up, log_ends
from tests.deploy.tools import ROOT
from tests.deploy.watching import Prometheus, prometheus
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

PARTITIONS: Final = 6
PACE: Final = 1_500
"""What a consumer is counted on to write a second: its epochs are kept small, so that it is not much more."""
LOAD_SECONDS: Final = 150
"""Longer than the two minutes that arrivals are averaged over: however fast the consumers, they ask for four."""
LOAD_RATE: Final = 5_000


def follow(place: Place, deployer: Kubectl, directory: Path, name: str, scale: Callable[[Prometheus], None]) -> None:
    """Hold the consumers to the Deployment's replicas under load and after; `scale` sets up who decides on those.

    Up under load, bounded by the partitions, down after, no way back in between; nothing lost, nothing counted twice.
    """
    fleet = Fleet({**place.environment(), "BATCH_MAX_EVENTS": "40"}, PARTITIONS, directory)
    moments: list[Moment] = []

    def watch(began: float, until: Callable[[], bool], timeout: float) -> None:
        """Each second, run as many consumers as the cluster has replicas, and note the lag."""

        def look() -> bool:
            replicas = deployer.get("deployment", "event-consumer")["spec"]["replicas"]
            fleet.resize(replicas)
            moments.append(Moment(time.monotonic() - began, _lag(place), replicas))
            return until()

        eventually(look, timeout=timeout, interval=1)

    with prometheus(directory, {"event-consumer": fleet.ports}, pace=PACE) as watcher:
        try:
            scale(watcher)
            began = time.monotonic()
            with load(place) as stop:
                watch(began, lambda: moments[-1].second > LOAD_SECONDS, LOAD_SECONDS + 60)
                assert watcher.samples('pipeline:arriving:rate2m{job="event-consumer"} > 0'), watcher.scrapes()
                stop()
            watch(began, lambda: moments[-1].lag == 0 and moments[-1].replicas == 1, 400)
            caught_up(place)
        finally:
            fleet.resize(0)
            if moments:
                _keep(moments, name)
    counts = [one.replicas for one in moments]
    rises = [after > before for before, after in pairwise(counts) if after != before]
    assert max(counts) >= 3, counts
    assert max(counts) <= PARTITIONS
    assert rises == sorted(rises, reverse=True), f"up, and then down, and no way back: {counts}"
    verified = gamemetrics(place, "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def hasten(behavior: dict[str, Any]) -> None:
    """Make the windows and periods of an autoscaler's behavior ten times shorter."""
    for direction in behavior.values():
        direction["stabilizationWindowSeconds"] //= 10
        direction["policies"][0]["periodSeconds"] //= 10


@contextmanager
def load(place: Place) -> Iterator[Callable[[], None]]:
    """Send events from a thread until stopped; yields what stops it."""
    stop = threading.Event()

    def send() -> None:
        producer = Producer({**place.stack.kafka.config(), "linger.ms": 20})
        while not stop.wait(0.1):
            for number in range(LOAD_RATE // 10):
                player = f"p{number}"
                producer.produce(place.topic, encoded(player_id=player), key=player)
            producer.poll(0)
        producer.flush(30)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield stop.set
    finally:
        stop.set()
        thread.join(60)


def _lag(place: Place) -> int:
    with place.pg() as connection:
        rows = connection.execute("SELECT partition, next_offset FROM pipeline_watermarks").fetchall()
    written: dict[int, int] = dict(rows)
    return sum(end - written.get(partition, 0) for partition, end in log_ends(place).items())


def _keep(moments: list[Moment], name: str) -> None:
    """Leave the series and its picture in build/, for docs/deploy.md."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    stem = name.lower().replace(" ", "-")
    rows = [f"{one.second:.0f}\t{one.lag}\t{one.replicas}" for one in moments]
    (build / f"scaling-{stem}.tsv").write_text("\n".join(["second\tlag\treplicas", *rows, ""]), encoding="utf-8")
    title = f"{name} on a real Kafka, {PARTITIONS} partitions, {LOAD_RATE:,} events/s for {LOAD_SECONDS} s"
    (build / f"scaling-{stem}.svg").write_text(draw(moments, title), encoding="utf-8")
