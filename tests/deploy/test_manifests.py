"""Every overlay builds, and is valid by Kubernetes' schemas and the operators' own definitions."""

import pytest
import yaml

from tests.deploy.rendering import containers, of_kind, pod_specs, rendered
from tests.deploy.schemas import complaints
from tests.deploy.tools import DEPLOY, OVERLAYS

DIRECTORIES = [*(f"overlays/{name}" for name in OVERLAYS), "cluster", "services", "strimzi", "cloudnativepg"]
NEEDED_SECRETS = {
    "kafka-credentials": {"bootstrap-servers", "username", "password"},
    "kafka-credentials-ingestion": {"username", "password"},
    "postgres-credentials": {"host", "port", "dbname", "username", "password"},
    "redis-credentials": {"host", "port", "password"},
    "api-keys": {"keys"},
}


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_a_directory_is_valid(directory: str) -> None:
    found = [complaint for manifest in rendered(directory) for complaint in complaints(manifest)]
    assert found == []


def test_an_unknown_field_is_refused() -> None:
    (scaled,) = of_kind(rendered("overlays/prod"), "ScaledObject")
    (service,) = of_kind(rendered("overlays/prod"), "Service")
    assert complaints({**scaled, "spec": {**scaled["spec"], "minReplicas": 1}}) != []
    assert complaints({**service, "spec": {**service["spec"], "port": 1}}) != []
    (database,) = of_kind(rendered("cloudnativepg"), "Cluster")
    assert complaints({**database, "spec": {**database["spec"], "instance": 1}}) != []


def test_the_guides_file_stands_alone() -> None:
    """`kubectl apply -f` of it needs nothing but the Secrets."""
    text = (DEPLOY / "k8s" / "services" / "event-consumers-deployment.yaml").read_text(encoding="utf-8")
    manifests = list(yaml.safe_load_all(text))
    assert {one["metadata"]["namespace"] for one in manifests} == {"gamemetrics"}
    deployments = of_kind(manifests, "Deployment")
    assert [one["metadata"]["name"] for one in deployments] == [
        "event-consumer-logger", "event-consumer-stats", "event-consumer-leaderboard",
    ]  # fmt: skip
    assert {one["metadata"]["labels"]["component"] for one in deployments} == {"consumer"}
    accounts = {one["metadata"]["name"] for one in of_kind(manifests, "ServiceAccount")}
    maps = {one["metadata"]["name"] for one in of_kind(manifests, "ConfigMap")}
    for _, pod in pod_specs(manifests):
        assert pod["serviceAccountName"] in accounts
        for container in containers(pod):
            assert {one["configMapRef"]["name"] for one in container["envFrom"]} <= maps


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_documented_secrets_are_asked_for(overlay: str) -> None:
    for name, pod in pod_specs(rendered(f"overlays/{overlay}")):
        for variable in (one for container in containers(pod) for one in container["env"]):
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["key"] in NEEDED_SECRETS[reference["name"]], (name, variable)


def test_production_gives_each_kind_of_client_its_own_kafka_account() -> None:
    users = {
        name: {
            variable["valueFrom"]["secretKeyRef"]["name"]
            for variable in pod["containers"][0]["env"]
            if variable["name"] in {"KAFKA_USERNAME", "KAFKA_PASSWORD"}
        }
        for name, pod in pod_specs(rendered("overlays/prod"))
    }
    assert users["Deployment/event-ingestion"] == {"kafka-credentials-ingestion"}
    assert users["Deployment/event-consumer"] == {"kafka-credentials"}
    (keys,) = [
        one
        for _, pod in pod_specs(rendered("overlays/prod"))
        for one in pod["containers"][0]["env"]
        if one["name"] == "API_KEYS"
    ]
    assert "optional" not in keys["valueFrom"]["secretKeyRef"], "in production an API without keys does not start"


def test_a_changed_setting_is_a_new_config_map() -> None:
    names = set()
    for overlay in ("dev", "prod"):
        (settings,) = [
            one
            for one in of_kind(rendered(f"overlays/{overlay}"), "ConfigMap")
            if one["metadata"]["name"].startswith("pipeline-settings-")
        ]
        names.add(settings["metadata"]["name"])
        for _, pod in pod_specs(rendered(f"overlays/{overlay}")):
            assert pod["containers"][0]["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    assert len(names) == 2
