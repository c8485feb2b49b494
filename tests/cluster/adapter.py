"""A real prometheus-adapter beside a cluster, with the rules of the project's values file for its chart."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.kubectl import Kubectl
from tests.deploy.tools import DEPLOY, cache, go_module, program
from tests.deploy.watching import Prometheus, process
from tests.edges import free_port
from tests.waiting import eventually

ADAPTER: Final = "sigs.k8s.io/prometheus-adapter@v0.12.0"
VALUES: Final = DEPLOY / "k8s" / "components" / "hpa" / "prometheus-adapter.values.yaml"
API: Final = "v1beta1.external.metrics.k8s.io"


@contextmanager
def prometheus_adapter(admin: Kubectl, watcher: Prometheus, directory: Path) -> Iterator[None]:
    """Serve external metrics from a Prometheus, in the place of who served them before (there can be one)."""
    before = _registered(admin)
    rules = yaml.safe_load(VALUES.read_text(encoding="utf-8"))["rules"]
    configuration = directory / "adapter.yaml"
    # The chart writes rules.external of its values as externalRules of the adapter's own file.
    configuration.write_text(json.dumps({"externalRules": rules["external"]}), encoding="utf-8")
    port = free_port()
    command = [
        _built(), f"--config={configuration}", f"--prometheus-url=http://127.0.0.1:{watcher.port}",
        f"--lister-kubeconfig={admin.kubeconfig}", f"--authentication-kubeconfig={admin.kubeconfig}",
        f"--authorization-kubeconfig={admin.kubeconfig}", "--bind-address=127.0.0.1", f"--secure-port={port}",
        f"--cert-dir={directory}", "--metrics-relist-interval=5s", "--metrics-max-age=1m",
    ]  # fmt: skip
    with process(*command, environment=dict(os.environ), log=directory / "adapter.log"):
        admin("delete", "apiservice", API, "--ignore-not-found")
        for manifest in _registration(port):
            admin("apply", "-f", "-", given=json.dumps(manifest))
        try:
            eventually(lambda: _served(admin), timeout=60)
            yield
        finally:
            admin("delete", "apiservice", API)
            if before:
                admin("create", "-f", "-", given=json.dumps(before))


def _built() -> str:
    """Build the adapter from its Go module, once."""
    target = cache() / ADAPTER.replace("/", "_")
    if not target.exists():
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
        command = [program("go"), "build", "-C", str(go_module(ADAPTER)), "-o", str(target), "./cmd/adapter"]
        subprocess.run(command, env=environment, check=True, timeout=1200)
    return str(target)


def _served(admin: Kubectl) -> bool:
    return admin.tried("get", "--raw", "/apis/external.metrics.k8s.io/v1beta1").returncode == 0


def _registered(admin: Kubectl) -> dict[str, Any] | None:
    found = admin.tried("get", "apiservice", API, "-o", "json")
    if found.returncode:
        return None
    service = json.loads(found.stdout)
    return {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "metadata": {"name": service["metadata"]["name"]},
        "spec": service["spec"],
    }


def _registration(port: int) -> list[dict[str, Any]]:
    """What the chart applies so that the API server asks the adapter; but the address is this machine's."""
    service = {"name": "prometheus-adapter", "namespace": "kube-system"}
    reader = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "external-metrics-reader"}
    controller = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"}
    everything = {"apiGroups": ["external.metrics.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service,
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"name": "https", "port": port}]},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": reader["name"]},
            "rules": [everything],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": reader["name"]},
            "roleRef": reader,
            "subjects": [controller],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API},
            "spec": {
                "service": {**service, "port": port},
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
            },
        },
    ]
