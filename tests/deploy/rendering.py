"""What kustomize makes of the overlays."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import yaml

from tests.deploy.schemas import Manifest
from tests.deploy.tools import DEPLOY, output, program


@cache
def rendered(directory: str) -> Sequence[Manifest]:
    """Build a directory under deploy/k8s."""
    text = output(program("kubectl"), "kustomize", str(DEPLOY / "k8s" / directory))
    return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest]


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pod_specs(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield the pod specification of each workload, by its name."""
    for manifest in manifests:
        spec: Any = manifest.get("spec", {})
        if "template" in spec:
            yield f"{manifest['kind']}/{manifest['metadata']['name']}", spec["template"]["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]
