"""`gamemetrics local` as a person types it, in a directory of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.account import reachable, reachable_copy, refuge, unprivileged_account
from pipeline.local.stack import Stack
from tests.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gamemetrics-commands-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)
        Stack(Path(directory)).wipe()


def run(*arguments: str, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "local", *arguments, "--root", str(root)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120
    )


def test_up_status_env_and_down(root: Path) -> None:
    nothing = run("status", root=root)
    assert (nothing.returncode, nothing.stdout.count("down")) == (1, 3)
    too_early = run("env", root=root)
    assert too_early.returncode == 2
    assert "run `gamemetrics local up` first" in too_early.stderr

    # Another machine-wide Java, or options meant for one, must not reach the embedded Kafka.
    up = run(
        "up", "--detach", root=root, JAVA_HOME="/nowhere", CLASSPATH="/nowhere", JDK_JAVA_OPTIONS="-Dno -Xnonsense"
    )
    assert up.returncode == 0, up.stderr
    assert "are up" in up.stdout

    found = run("status", "--json", root=root)
    servers = json.loads(found.stdout)["servers"]
    assert found.returncode == 0
    assert [name for name, server in servers.items() if server["up"]] == ["kafka", "postgres", "valkey"]

    lines = run("env", root=root).stdout
    assert all(line.startswith("export ") and line.endswith("'") for line in lines.splitlines())
    script = f'eval "$0"; exec {sys.executable} -c "import json, os; print(json.dumps(dict(os.environ)))"'
    shell = subprocess.run(["sh", "-c", script, lines], capture_output=True, text=True, check=True)
    assert Stack(root).environment().items() <= json.loads(shell.stdout).items()

    with Stack(root).valkey.client() as client:
        client.set("kept", "yes")
    assert run("down", root=root).returncode == 0
    assert run("status", root=root).stdout.count("down") == 3
    valkey = Stack(root).valkey
    valkey.start()
    with valkey.client() as client:
        assert client.get("kept") == b"yes"
    valkey.kill()
    assert run("status", root=root).returncode == 1
    assert run("down", "--wipe", root=root).returncode == 0
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_servers_end_with_the_command_that_stays(root: Path, end: signal.Signals) -> None:
    command = [sys.executable, "-m", "pipeline", "local", "up", "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert "are up" in up.stdout.readline()
        assert all(Stack(root).status().values())
        up.send_signal(end)
        assert up.wait(60) == (-9 if end == signal.SIGKILL else 0)
    eventually(lambda: not any(server.running for server in Stack(root).servers), timeout=60)


def test_a_server_that_ends_on_its_own_ends_the_command(root: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "local", "up", "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert "are up" in up.stdout.readline()
        Stack(root).valkey.kill()
        _, said = up.communicate(timeout=60)
    assert up.returncode == 1
    assert "valkey ended on its own" in said
    assert not any(server.running for server in Stack(root).servers)


def test_without_a_network_a_first_start_says_what_is_missing(root: Path) -> None:
    settings = root / "jgo.conf"
    settings.write_text("[repositories]\ncentral = http://127.0.0.1:9/nowhere\n", encoding="utf-8")
    up = run("up", root=root, XDG_CACHE_HOME=str(root / "cache"), JGO_CONFIG_FILE=str(settings))
    assert up.returncode == 1
    assert "cannot be fetched from http://127.0.0.1:9/nowhere: no connection" in up.stderr
    assert "Traceback" not in up.stderr
    assert not (root / ".local").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a directory that PostgreSQL's account cannot reach")
def test_as_root_in_a_directory_closed_to_others_postgres_lives_elsewhere(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0o700)
    stack = Stack(closed)
    try:
        stack.start()
        assert not stack.postgres.data.is_relative_to(closed)
        account = unprivileged_account()
        assert account is not None
        assert stack.postgres.data.owner() == account.name
        elsewhere = stack.postgres.data.parent
    finally:
        stack.wipe()
    assert not elsewhere.exists()
    shutil.rmtree(closed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another account")
def test_as_root_programs_closed_to_others_are_copied_to_where_they_can_be_run(root: Path) -> None:
    account = unprivileged_account()
    assert account is not None
    closed = root / "closed"
    for name in ("package", "package.libs"):
        (closed / name).mkdir(parents=True)
        (closed / name / "program").write_text(name, encoding="utf-8")
    trees = (closed / "package", closed / "package.libs")
    assert reachable_copy(trees, "1.0", account) == trees[0]
    closed.chmod(0o700)
    try:
        copy = reachable_copy(trees, "1.0", account)
        assert reachable(copy, account)
        assert (copy / "program").read_text("utf-8") == "package"
        assert (copy.with_name("package.libs") / "program").read_text("utf-8") == "package.libs"
        assert reachable_copy(trees, "1.1", account) != copy
    finally:
        shutil.rmtree(refuge(trees[0]))
