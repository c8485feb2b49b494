"""A cluster follows the lag of a real Kafka while real consumers drain it: up under load, bounded, calm, down after."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
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
from tests.cluster.adapter import prometheus_adapter
from tests.cluster.following import PACE, PARTITIONS, follow, hasten
from tests.cluster.kubectl import NAMESPACE, Kubectl
from tests.conftest import MakePlace
from tests.deploy.rendering import of_kind, rendered
from tests.deploy.schemas import Manifest
from tests.deploy.watching import Prometheus
from tests.place import Place

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
    hasten(spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"])
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


def plain_autoscaler() -> dict[str, Any]:
    """The HorizontalPodAutoscaler of production without KEDA, with its times ten times shorter."""
    scalers = of_kind(rendered("overlays/prod-hpa"), "HorizontalPodAutoscaler")
    (scaler,) = [one for one in scalers if one["metadata"]["name"] == "event-consumer"]
    scaler["spec"] |= {"minReplicas": 1, "maxReplicas": PARTITIONS}
    hasten(scaler["spec"]["behavior"])
    return scaler


def apply(deployer: Kubectl, manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:
        deployer("apply", "-f", "-", given=json.dumps(manifest))


@contextmanager
def removed(deployer: Kubectl, *objects: str) -> Iterator[None]:
    """Remove objects at the end, whatever happens: a scaler that is left would scale what the next test rolls out."""
    try:
        yield
    finally:
        deployer("delete", *objects, "--ignore-not-found", "--wait")


@pytest.mark.timeout(900)
def test_keda_follows_the_lag(admin: Kubectl, deployer: Kubectl, make_place: MakePlace, tmp_path: Path) -> None:
    place = make_place(PARTITIONS)
    let_read_lag(place)
    literals = [f"--from-literal=username={READER[0]}", f"--from-literal=password={READER[1]}"]
    admin("-n", NAMESPACE, "create", "secret", "generic", "kafka-credentials-keda", *literals)

    def scale(watcher: Prometheus) -> None:
        apply(deployer, [*workload("prod"), trigger_authentication(), scaled_object(place, watcher)])
        deployer("wait", "--for=condition=Ready", "scaledobject/event-consumer", "--timeout=60s")

    with removed(deployer, "scaledobject/event-consumer", "deployment/event-consumer"):
        follow(place, deployer, tmp_path, "KEDA", scale)


@pytest.mark.timeout(900)
def test_the_plain_autoscaler_follows_the_number_wanted(
    admin: Kubectl, deployer: Kubectl, make_place: MakePlace, tmp_path: Path
) -> None:
    """prometheus-adapter serves the rule from a real Prometheus, by the rules of its values file."""
    place = make_place(PARTITIONS)

    def scale(watcher: Prometheus) -> None:
        adapter.enter_context(prometheus_adapter(admin, watcher, tmp_path))
        apply(deployer, [*workload("prod-hpa"), plain_autoscaler()])
        deployer("wait", "--for=condition=AbleToScale", "hpa/event-consumer", "--timeout=60s")

    with removed(deployer, "hpa/event-consumer", "deployment/event-consumer"), ExitStack() as adapter:
        follow(place, deployer, tmp_path, "HorizontalPodAutoscaler", scale)


def workload(overlay: str) -> list[dict[str, Any]]:
    """The consumer's Deployment, and what it refers to; KEDA reads the environment of what it scales."""
    names = {"Deployment": "event-consumer", "ServiceAccount": "event-consumer", "ConfigMap": "pipeline-settings-"}
    return [
        one
        for one in rendered(f"overlays/{overlay}")
        if one["kind"] in names and one["metadata"]["name"].startswith(names[one["kind"]])
    ]
