"""The image's Dockerfile: linted, and what it says. `test_container.py` builds and runs it."""

import json
import re
from pathlib import Path
from typing import Final

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


def test_the_build_sees_only_what_it_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    allowed = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    assert allowed == {name.rstrip("/") for line in BUILT for name in line.split()[:-1]}
    assert json.dumps(ignored).count('"*"') == 1
