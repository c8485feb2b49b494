"""`gamemetrics run` on a checkout of its own: everything starts, is found by other commands, and ends."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.local.stack import Stack
from tests.edges import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[3]
READY = "Ctrl-C stops everything"


class Checkout:
    """A copy of the package in a directory of its own, where commands are typed without any environment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(ROOT / "pipeline", directory / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", directory)
        servers = ("KAFKA_", "DB_", "REDIS_", "PORT", "METRICS_PORT", "API_KEY", "SECRETS_DIR")
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(servers)}

    @property
    def stack(self) -> Stack:
        return Stack(self.directory)

    def type(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=self.directory, env=self._environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def run(self, **environment: str) -> "Running":
        return Running(self.directory, {**self._environment, **environment})


class Running:
    """`gamemetrics run` under way."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._file = directory / "out"
        with self._file.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run"], cwd=directory, env=environment, stdout=out, stderr=out
            )
        eventually(lambda: READY in self.output or self.process.poll() is not None, timeout=120)
        assert READY in self.output, self.output
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.programs = [one for one in children if {"serve", "consume"} & set(one.cmdline())]

    @property
    def output(self) -> str:
        return self._file.read_text()

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(90)

    def program(self, name: str) -> psutil.Process:
        return next(one for one in self.programs if name in one.cmdline())

    def abandon(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    with tempfile.TemporaryDirectory(prefix="gamemetrics-run-") as directory:
        Path(directory).chmod(0o711)
        checkout = Checkout(Path(directory))
        yield checkout
        checkout.stack.wipe()


def test_run_starts_everything_and_ctrl_c_ends_everything(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        running = checkout.run(PORT=str(taken))
    try:
        assert f"{taken} is taken by another program" in running.output
        assert "2,000 events sent through the API, and counted" in running.output
        assert re.search(r"^   1\. player-0000\d\d +[\d,]+$", running.output, re.MULTILINE), running.output

        loaded = checkout.type("load", "300", "--batch", "100")
        assert loaded.returncode == 0, loaded.stderr
        assert "working on the servers of this checkout" in loaded.stderr
        assert eventually(lambda: checkout.type("lag").returncode == 0)
        verified = checkout.type("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "2,300 events" in verified.stdout or "not yet read" in verified.stdout

        second = checkout.type("run")
        assert (second.returncode, "under way here already" in second.stderr) == (1, True)

        assert len(running.programs) == 2
        assert running.end() == 0
        assert running.output.endswith("Stopped.\n")
        assert not any(program.is_running() for program in running.programs)
        assert not any(checkout.stack.status().values())
        assert checkout.type("lag").returncode != 0  # nothing to fall back on any more
    finally:
        running.abandon()


def test_a_program_that_dies_ends_the_run_and_servers_that_were_up_stay_up(checkout: Checkout) -> None:
    checkout.stack.start()
    running = checkout.run(PORT=str(free_port()))
    try:
        assert "were up already, and will be left up" in running.output
        running.program("consume").kill()
        assert running.process.wait(90) == 1
        assert "gamemetrics consume all ended with exit code -9" in running.output
        eventually(lambda: not any(program.is_running() for program in running.programs))
        assert all(checkout.stack.status().values())

        again = checkout.run(PORT=str(free_port()))
        again.end(signal.SIGKILL)
        eventually(lambda: not any(program.is_running() for program in again.programs), timeout=60)
        assert all(checkout.stack.status().values())
    finally:
        running.abandon()
