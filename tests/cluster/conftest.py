"""The cluster of KUBECONFIG, set up as an administrator would, and a deployer with nothing but a deployer's rights."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cluster.kubectl import NAMESPACE, Kubectl
from tests.deploy.test_manifests import NEEDED_SECRETS
from tests.deploy.tools import DEPLOY, PROMETHEUS_OPERATOR, PROMETHEUS_OPERATOR_KINDS, go_module


@pytest.fixture(scope="session")
def admin() -> Iterator[Kubectl]:
    """The administrator: definitions, namespace, Secrets. What was there of an earlier run is removed first."""
    assert os.environ.get("KUBECONFIG"), "k8s-check needs KUBECONFIG: an administrator of a cluster to throw away"
    kubectl = Kubectl(os.environ["KUBECONFIG"])
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    crds = go_module(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
    for kind in PROMETHEUS_OPERATOR_KINDS:
        kubectl("apply", "--server-side", "-f", str(crds / f"monitoring.coreos.com_{kind}.yaml"))
    nodes = json.loads(kubectl("get", "nodes", "-l", "type=kwok", "-o", "json"))["items"]
    for node in nodes:
        # Fake nodes have no disk until they are told so, and each pod of ours asks for some.
        disk = json.dumps({"status": {field: {"ephemeral-storage": "100Gi"} for field in ("allocatable", "capacity")}})
        kubectl("patch", "node", node["metadata"]["name"], "--subresource=status", "--type=merge", "-p", disk)
    kubectl("apply", "-k", str(DEPLOY / "k8s" / "cluster"))
    for name, keys in NEEDED_SECRETS.items():
        literals = [f"--from-literal={key}={'5432' if key == 'port' else f'test-{key}'}" for key in sorted(keys)]
        kubectl("-n", NAMESPACE, "create", "secret", "generic", name, *literals)
    with heartbeats(kubectl, [node["metadata"]["name"] for node in nodes]):
        yield kubectl
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@contextmanager
def heartbeats(kubectl: Kubectl, nodes: Sequence[str]) -> Iterator[None]:
    """Renew the leases of fake nodes, as kubelets do.

    Without them the controllers take a node for lost now and then, and its pods for unready, which nobody makes ready
    again.
    """
    stop = threading.Event()

    def beat() -> None:
        while True:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            leases = [
                {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": node, "namespace": "kube-node-lease"},
                    "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
                }
                for node in nodes
            ]
            kubectl.tried("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": leases}))
            if stop.wait(10):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


@pytest.fixture(scope="session")
def deployer(admin: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Kubectl as the service account of deploy/k8s/cluster/deployer.yaml."""
    token = admin("-n", NAMESPACE, "create", "token", "deployer", "--duration=2h").strip()
    configuration = json.loads(admin("config", "view", "--raw", "--minify", "-o", "json"))
    configuration["users"] = [{"name": "deployer", "user": {"token": token}}]
    configuration["contexts"][0]["context"] |= {"user": "deployer", "namespace": NAMESPACE}
    file = Path(tmp_path_factory.mktemp("deployer")) / "kubeconfig"
    file.write_text(json.dumps(configuration), encoding="utf-8")
    file.chmod(0o600)
    return Kubectl(str(file))
