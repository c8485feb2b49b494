"""Every overlay rolls out by a deployer's rights alone, and what must be refused is refused."""

import json

import pytest

from tests.cluster.kubectl import NAMESPACE, Finished, Kubectl
from tests.deploy.rendering import of_kind, rendered
from tests.deploy.tools import DEPLOY, OVERLAYS
from tests.waiting import eventually

PRIVILEGED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "privileged", "namespace": NAMESPACE},
    "spec": {
        "containers": [{"name": "shell", "image": "gamemetrics:0.1.0", "securityContext": {"privileged": True}}],
    },
}


def remove(deployer: Kubectl, overlay: str) -> None:
    deployer("delete", "-k", str(DEPLOY / "k8s" / "overlays" / overlay), "--ignore-not-found", "--wait")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_rolls_out_and_again(deployer: Kubectl, overlay: str) -> None:
    """Strictly validated, restricted, within the quota; a second time the finished migration makes way."""
    for _ in range(2):
        done = deployer.rollout(overlay)
        print(done.stdout, done.stderr)  # noqa: T201 - the output is kept in docs
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stderr, "pod security warns of what it would refuse"
    wanted = {one["metadata"]["name"] for one in of_kind(rendered(f"overlays/{overlay}"), "Deployment")}
    assert {one["metadata"]["name"] for one in deployer.get("deployments")["items"]} == wanted
    eventually(lambda: _all_available(deployer), timeout=60)
    remove(deployer, overlay)


def test_an_unknown_field_is_refused(deployer: Kubectl) -> None:
    (service,) = of_kind(rendered("overlays/dev"), "Service")
    service = {**service, "spec": {**service["spec"], "prot": 1}}
    refused = deployer.tried("apply", "-f", "-", given=json.dumps(service))
    assert refused.returncode != 0
    assert 'unknown field "spec.prot"' in refused.stderr


def test_a_privileged_pod_is_refused_even_to_the_administrator(admin: Kubectl) -> None:
    refused = admin.tried("apply", "-f", "-", given=json.dumps(PRIVILEGED))
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr


@pytest.mark.parametrize(
    "question",
    [
        ["get", "secrets"],
        ["create", "pods"],
        ["create", "pods/exec"],
        ["update", "roles"],
        ["create", "rolebindings"],
        ["delete", "namespaces"],
        ["list", "deployments", "-n", "kube-system"],
    ],
    ids=" ".join,
)
def test_a_deployer_may_not(deployer: Kubectl, question: list[str]) -> None:
    assert deployer.tried("auth", "can-i", *question).stdout.strip() == "no"


def test_a_migration_that_does_not_complete_stops_the_rollout(admin: Kubectl, deployer: Kubectl) -> None:
    """No node may run it here, as good as one that fails: the script says so, and the pods that ran go on."""
    assert deployer.rollout("dev").returncode == 0
    before = {one["metadata"]["name"] for one in deployer.get("pods", "-l", "component=consumer")["items"]}
    names = [one["metadata"]["name"] for one in json.loads(admin("get", "nodes", "-o", "json"))["items"]]
    try:
        admin("cordon", *names)
        stopped = deployer.rollout("dev", 10)
    finally:
        admin("uncordon", *names)
    assert stopped.returncode == 1
    assert "the migration did not complete; the new pods wait, the old ones go on" in stopped.stderr
    assert before <= {one["metadata"]["name"] for one in deployer.get("pods", "-l", "component=consumer")["items"]}
    remove(deployer, "dev")


def test_a_second_eviction_is_refused_while_the_first_is_not_made_up_for(admin: Kubectl, deployer: Kubectl) -> None:
    assert deployer.rollout("guide").returncode == 0
    pods = [one["metadata"]["name"] for one in admin.get("pods", "-l", "app=event-consumer-stats")["items"]]
    assert len(pods) == 2
    names = [one["metadata"]["name"] for one in json.loads(admin("get", "nodes", "-o", "json"))["items"]]
    eventually(lambda: _allowed(admin) == 1)
    try:
        admin("cordon", *names)  # so that the replacement stays pending
        assert _evict(admin, pods[0]).returncode == 0
        eventually(lambda: _allowed(admin) == 0)
        refused = _evict(admin, pods[1])
    finally:
        admin("uncordon", *names)
    assert refused.returncode != 0
    assert "Cannot evict pod as it would violate the pod's disruption budget" in refused.stderr
    remove(deployer, "guide")


def _all_available(deployer: Kubectl) -> bool:
    found = deployer.get("deployments")["items"]
    return all(one["status"].get("availableReplicas") == one["spec"]["replicas"] for one in found)


def _allowed(admin: Kubectl) -> int:
    budget = admin.get("poddisruptionbudget", "event-consumer-stats")
    return int(budget["status"].get("disruptionsAllowed", 0))


def _evict(admin: Kubectl, pod: str) -> Finished:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    return admin.tried("create", "--raw", path, "-f", "-", given=json.dumps(eviction))
