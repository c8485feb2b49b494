"""KEDA follows the lag of a real Kafka while real consumers drain it: up under load, bounded, calm, and down after."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from pipeline.local.kafka_access import allow
from tests.cluster.fleet import Fleet, Moment, draw
from tests.cluster.kubectl import NAMESPACE, Kubectl
from tests.commanding import gamemetrics
from tests.conftest import MakePlace
from tests.consuming import caught_up, log_ends
from tests.deploy.rendering import of_kind, rendered
from tests.deploy.tools import ROOT
from tests.deploy.watching import Prometheus, prometheus
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

PARTITIONS: Final = 6
PACE: Final = 1_500
"""What a consumer is counted on to write a second: its epochs are kept small, so that it is not much more."""
LOAD_SECONDS: Final = 75
LOAD_RATE: Final = 4_000
READER: Final = ("lag-reader", "lag-reader-password")


def let_read_lag(place: Place) -> None:
    """Make the account that KEDA uses, with the rights of the KafkaUser lag-reader and no other."""
    admin = AdminClient(place.stack.kafka.admin_config())
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    made = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(READER[0], credential, READER[1].encode())])
    for pending in made.values():
        pending.result(15)
    allow(
        admin,
        [
            AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{READER[0]}", "*", AclOperation.DESCRIBE,
                       AclPermissionType.ALLOW)
            for kind, name in ((ResourceType.TOPIC, place.topic), (ResourceType.GROUP, place.group))
        ],
    )  # fmt: skip


def scaled_object(place: Place, watcher: Prometheus) -> dict[str, Any]:
    """Production's own ScaledObject, pointed here, with its times ten times shorter and a pace for these consumers."""
    (scaled,) = of_kind(rendered("overlays/prod"), "ScaledObject")
    scaled = json.loads(json.dumps(scaled).replace("20000", str(PACE)).replace("600000", str(PACE * 30)))
    spec = scaled["spec"]
    spec |= {"minReplicaCount": 1, "maxReplicaCount": PARTITIONS, "pollingInterval": 2}
    for direction in spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"].values():
        direction["stabilizationWindowSeconds"] //= 10
        direction["policies"][0]["periodSeconds"] //= 10
    for trigger in spec["triggers"]:
        if trigger["type"] == "prometheus":
            trigger["metadata"]["serverAddress"] = f"http://127.0.0.1:{watcher.port}"
        else:
            trigger["metadata"] |= {
                "bootstrapServers": place.stack.kafka.bootstrap_servers,
                "consumerGroup": place.group,
                "topic": place.topic,
                "tls": "disable",
                "lagThreshold": str(PACE * 30),
            }
    return dict(scaled)


def trigger_authentication() -> dict[str, Any]:
    (found,) = of_kind(rendered("overlays/prod"), "TriggerAuthentication")
    references = [one for one in found["spec"]["secretTargetRef"] if one["parameter"] != "ca"]
    return {**found, "spec": {"secretTargetRef": references}}


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


@pytest.mark.timeout(900)
def test_keda_follows_the_lag(admin: Kubectl, deployer: Kubectl, make_place: MakePlace, tmp_path: Path) -> None:
    place = make_place(PARTITIONS)
    let_read_lag(place)
    literals = [f"--from-literal=username={READER[0]}", f"--from-literal=password={READER[1]}"]
    admin("-n", NAMESPACE, "create", "secret", "generic", "kafka-credentials-keda", *literals)
    fleet = Fleet({**place.environment(), "BATCH_MAX_EVENTS": "100"}, PARTITIONS, tmp_path)
    moments: list[Moment] = []
    began = time.monotonic()

    def watch(until: Callable[[], bool], timeout: float) -> None:
        """Each second, run as many consumers as the cluster has replicas, and note the lag."""

        def look() -> bool:
            replicas = deployer.get("deployment", "event-consumer")["spec"]["replicas"]
            fleet.resize(replicas)
            moments.append(Moment(time.monotonic() - began, _lag(place), replicas))
            return until()

        eventually(look, timeout=timeout, interval=1)

    with prometheus(tmp_path, {"event-consumer": fleet.ports}) as watcher:
        try:
            for manifest in (*_workload(), trigger_authentication(), scaled_object(place, watcher)):
                deployer("apply", "-f", "-", given=json.dumps(manifest))
            deployer("wait", "--for=condition=Ready", "scaledobject/event-consumer", "--timeout=60s")
            with load(place) as stop:
                watch(lambda: moments[-1].second > LOAD_SECONDS, LOAD_SECONDS + 60)
                assert watcher.samples('pipeline:arriving:rate2m{job="event-consumer"} > 0'), watcher.scrapes()
                stop()
            watch(lambda: moments[-1].lag == 0 and moments[-1].replicas == 1, 400)
            caught_up(place)
        finally:
            fleet.resize(0)
            if moments:
                _keep(moments)
    counts = [one.replicas for one in moments]
    rises = [after > before for before, after in pairwise(counts) if after != before]
    assert max(counts) >= 3, counts
    assert max(counts) <= PARTITIONS
    assert rises == sorted(rises, reverse=True), f"up, and then down, and no way back: {counts}"
    verified = gamemetrics(place, "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def _workload() -> list[dict[str, Any]]:
    """The consumer's Deployment, and what it refers to: KEDA reads the environment of what it scales."""
    names = {"Deployment": "event-consumer", "ServiceAccount": "event-consumer", "ConfigMap": "pipeline-settings-"}
    return [
        one
        for one in rendered("overlays/prod")
        if one["kind"] in names and one["metadata"]["name"].startswith(names[one["kind"]])
    ]


def _lag(place: Place) -> int:
    with place.pg() as connection:
        rows = connection.execute("SELECT partition, next_offset FROM pipeline_watermarks").fetchall()
    written: dict[int, int] = dict(rows)
    return sum(end - written.get(partition, 0) for partition, end in log_ends(place).items())


def _keep(moments: list[Moment]) -> None:
    """Leave the series and its picture in build/, for docs/deploy.md."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    rows = [f"{one.second:.0f}\t{one.lag}\t{one.replicas}" for one in moments]
    (build / "scaling.tsv").write_text("\n".join(["second\tlag\treplicas", *rows, ""]), encoding="utf-8")
    title = f"KEDA on a real Kafka, {PARTITIONS} partitions, {LOAD_RATE:,} events/s for {LOAD_SECONDS} s"
    (build / "scaling.svg").write_text(draw(moments, title), encoding="utf-8")
