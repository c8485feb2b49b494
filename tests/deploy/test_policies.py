"""What every workload promises: restricted, bounded, spread, drained, budgeted, and scaled within the partitions."""

import pytest

from pipeline.engine.consumer import HANDOVER_SECONDS
from tests.deploy.rendering import containers, of_kind, pod_specs, rendered
from tests.deploy.tools import OVERLAYS

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


@overlays
def test_pods_are_restricted(overlay: str) -> None:
    for name, pod in pod_specs(rendered(f"overlays/{overlay}")):
        assert pod["automountServiceAccountToken"] is False, name
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["image"].startswith("gamemetrics:"), name
            assert not container["image"].endswith(":latest"), name


@overlays
def test_memory_is_bounded_and_cpu_is_not_throttled(overlay: str) -> None:
    for name, pod in pod_specs(rendered(f"overlays/{overlay}")):
        for container in containers(pod):
            assert set(container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}, name
            assert set(container["resources"]["limits"]) == {"memory", "ephemeral-storage"}, name


@overlays
def test_deployments_are_spread_budgeted_and_gated(overlay: str) -> None:
    manifests = rendered(f"overlays/{overlay}")
    budgets = [one["spec"]["selector"]["matchLabels"] for one in of_kind(manifests, "PodDisruptionBudget")]
    for deployment in of_kind(manifests, "Deployment"):
        name, template = deployment["metadata"]["name"], deployment["spec"]["template"]
        assert {"app": name} in budgets
        keys = {one["topologyKey"] for one in template["spec"]["topologySpreadConstraints"]}
        assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        (gate,) = template["spec"]["initContainers"]
        assert "gamemetrics migrate --check" in gate["command"][-1]
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert deployment["spec"]["minReadySeconds"] > 0
    assert [one["metadata"]["name"] for one in of_kind(manifests, "Job")] == ["pipeline-migrate"]


@overlays
def test_probes_ask_the_process_and_shutdown_outlasts_an_epoch(overlay: str) -> None:
    for deployment in of_kind(rendered(f"overlays/{overlay}"), "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "metrics"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "metrics"}
        assert pod["terminationGracePeriodSeconds"] > HANDOVER_SECONDS


@overlays
def test_nothing_goes_in_or_out_but_what_is_named(overlay: str) -> None:
    policies = {
        one["metadata"]["name"]: one["spec"] for one in of_kind(rendered(f"overlays/{overlay}"), "NetworkPolicy")
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert set(policies) == {"default-deny", "names", "servers", "metrics", "api"}


def test_consumers_never_pass_the_partitions() -> None:
    (topic,) = of_kind(rendered("strimzi"), "KafkaTopic")
    partitions = topic["spec"]["partitions"]
    (scaled,) = of_kind(rendered("overlays/prod"), "ScaledObject")
    assert scaled["spec"]["maxReplicaCount"] == partitions
    (plain,) = [
        one
        for one in of_kind(rendered("overlays/prod-hpa"), "HorizontalPodAutoscaler")
        if one["spec"]["scaleTargetRef"]["name"] == "event-consumer"
    ]
    assert plain["spec"]["maxReplicas"] == partitions
    behavior = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == plain["spec"]["behavior"], "both scalers are equally calm"


@pytest.mark.parametrize("overlay", ["prod", "prod-hpa"])
def test_what_is_scaled_has_no_number_of_its_own(overlay: str) -> None:
    for deployment in of_kind(rendered(f"overlays/{overlay}"), "Deployment"):
        assert "replicas" not in deployment["spec"]
