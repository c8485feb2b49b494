"""Images without a container engine: buildah builds and runs by chroot alone, on a base that debootstrap makes.

Everything is under a directory of its own, buildah's store too, but for the base, which is made once for this account.
Mounts are made in namespaces that end with the command, so that nothing is left mounted below what is deleted then.
"""

import ast
import configparser
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil
import pytest

from tests.deploy.tools import ROOT, cache, output, program

SUITE: Final = "bookworm"
BASE: Final = "localhost/python"
IMAGE: Final = "localhost/gamemetrics"
NOTHING: Final[Mapping[str, str]] = {}
_INCLUDED: Final = "python3,python3-venv,python3-pip,ca-certificates"
_SLOWEST_SECONDS: Final = 1_800
_APART: Final = ("unshare", "--mount", "--propagation", "private")
_REACHES: Final = frozenset(
    {"index-url", "extra-index-url", "find-links", "trusted-host", "cert", "client-cert", "proxy", "timeout",
     "default-timeout", "retries"}
)  # fmt: skip
"""pip's settings that say how packages are reached from this machine."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the machine that a container sees, and cannot write."""

    source: Path
    target: str

    @property
    def option(self) -> str:
        return f"--volume={self.source}:{self.target}:ro"


@dataclass(frozen=True, slots=True)
class Store:
    """A store of images and containers in a directory."""

    directory: Path

    def buildah(self, command: str, *arguments: str) -> list[str]:
        """Write a command of buildah's that works here."""
        return [
            program("buildah"), f"--root={self.directory / 'store'}", f"--runroot={self.directory / 'state'}",
            "--storage-driver=vfs", command, *arguments,
        ]  # fmt: skip

    def said(self, command: str, *arguments: str) -> str:
        """Run one to its end."""
        return told(*self.buildah(command, *arguments), TMPDIR=str(self.directory)).strip()


def told(*command: str, **environment: str) -> str:
    """Run a program that must succeed, and may take long."""
    finished = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        timeout=_SLOWEST_SECONDS,
    )  # fmt: skip
    assert finished.returncode == 0, f"{' '.join(command)}:\n{finished.stdout}{finished.stderr}"[-4000:]
    return finished.stdout


@contextlib.contextmanager
def store() -> Iterator[Store]:
    """Make a store until the block ends; skip the test for who may not make root file systems."""
    if os.geteuid() != 0:
        pytest.skip("building an image needs root: debootstrap makes a root file system, and chroot enters it")
    for name in ("buildah", "debootstrap", "unshare"):
        program(name)
    directory = Path(tempfile.mkdtemp(prefix="gamemetrics-image-"))
    directory.chmod(0o711)
    try:
        yield Store(directory)
    finally:
        below = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
        assert not [path for path in below if path.startswith(f"{directory}/")], "something is mounted there still"
        shutil.rmtree(directory)


def base_archive() -> Path:
    """Return the root file system that stands in for the Dockerfile's base: Debian's own Python, and no more."""
    target = cache() / f"base-{SUITE}-{os.uname().machine}.tar.gz"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as directory:
            root, archive = Path(directory) / "root", Path(directory) / "root.tar.gz"
            options = ("--variant=minbase", f"--include={_INCLUDED}", SUITE, str(root), *_mirror())
            told(*_APART, program("debootstrap"), *options, DEBIAN_FRONTEND="noninteractive")
            shutil.rmtree(root / "var" / "cache" / "apt")
            told("tar", "--create", "--gzip", f"--file={archive}", f"--directory={root}", "--numeric-owner", ".")
            archive.rename(target)
    return target


def _mirror() -> list[str]:
    """Return where apt finds the suite on this machine; nothing if it has another, for debootstrap knows its own."""
    listed = output("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages")
    return [line.split()[1] for line in listed.splitlines() if line.startswith(f"{SUITE} ")][:1]


def build(place: Store) -> None:
    """Build the Dockerfile as it is, with packages from wherever this machine's pip has them."""
    container = place.said("from", "scratch")
    place.said("add", "--quiet", container, str(base_archive()), "/")
    place.said("commit", "--quiet", "--rm", container, BASE)
    mounts = [mount.option for mount in pip_mounts(place.directory)]
    place.said(
        "build", "--quiet", "--isolation=chroot", "--network=host", "--pull-never", "--format=docker",
        "--build-arg", f"PYTHON={BASE}", "--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=abc",
        *mounts, "--tag", IMAGE, str(ROOT),
    )  # fmt: skip


def pip_mounts(directory: Path) -> list[Mount]:
    """Return what makes a container's pip reach packages as this machine's does, and is no part of the image."""
    settings = configparser.RawConfigParser()
    settings.add_section("global")
    mounts = []
    for line in output(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, written = line.partition("=")
        key, value = name.rpartition(".")[2], str(ast.literal_eval(written))
        if key in _REACHES:
            settings.set("global", key, value)
            mounts += [
                Mount(Path(part), part) for part in value.split() if part.startswith("/") and Path(part).exists()
            ]
    file = directory / "pip.conf"
    with file.open("w", encoding="utf-8") as stream:
        settings.write(stream)
    return [Mount(file, "/etc/pip.conf"), *dict.fromkeys(mounts)]


@dataclass(frozen=True, slots=True)
class Image:
    """The image that was built, and one container of it, whose root file system all its processes share."""

    place: Store
    container: str
    root: Path
    config: Mapping[str, Any]
    mounts: Sequence[Mount]

    @property
    def entrypoint(self) -> list[str]:
        return list(self.config["Entrypoint"])

    def command(
        self, *words: str, settings: Mapping[str, str] = NOTHING, user: str = "", read_only: bool = True
    ) -> list[str]:
        """Write what runs a program in the container, as the image's own user if none is named.

        buildah has no word for a read-only root. So the root is bound onto itself, without the right to write, in a
        namespace of mounts that this command alone is in; but for /run, where buildah makes a file and takes it away
        again, which is its own and not the image's user's.
        """
        run = self.place.buildah(
            "run", "--isolation=chroot", "--network=host", "--cap-drop=all", "--mount=type=tmpfs,destination=/tmp",
            *(mount.option for mount in self.mounts), *([f"--user={user}"] if user else []),
            *(f"--env={name}={value}" for name, value in settings.items()), self.container, "--", *words,
        )  # fmt: skip
        here = ["env", f"TMPDIR={self.place.directory}", *run]
        bound = (
            'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" &&'
            ' mount -t tmpfs -o mode=0755 none "$0/run" && exec "$@"'
        )
        return [*_APART, "sh", "-c", bound, str(self.root), *here] if read_only else [*_APART, *here]

    def ran(
        self, *words: str, settings: Mapping[str, str] = NOTHING, user: str = "", read_only: bool = True
    ) -> tuple[int, str]:
        """Run a program to its end; return its exit code and what it said."""
        command = self.command(*words, settings=settings, user=user, read_only=read_only)
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SLOWEST_SECONDS)
        return finished.returncode, finished.stdout + finished.stderr


@contextlib.contextmanager
def container(place: Store, mounts: Sequence[Mount]) -> Iterator[Image]:
    """Make a container of the image until the block ends."""
    name = place.said("from", "--pull-never", IMAGE)
    config = json.loads(place.said("inspect", "--type=image", IMAGE))["Docker"]["config"]
    made = Image(place, name, Path(place.said("mount", name)), config, mounts)
    try:
        # While the root can still be written, for what is mounted needs something to be mounted on.
        assert made.ran("true", read_only=False) == (0, "")
        yield made
    finally:
        place.said("umount", name)
        place.said("rm", name)


class Running:
    """One program in a container, until it is stopped."""

    def __init__(self, image: Image, log: Path, *words: str, settings: Mapping[str, str]) -> None:
        self._log = log
        self._account = int(image.config["User"].partition(":")[0])
        with log.open("w", encoding="utf-8") as stream:
            command = image.command(*image.entrypoint, *words, settings=settings)
            self._process = subprocess.Popen(command, stdout=stream, stderr=stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and what it started: buildah's own processes do not pass a SIGKILL on."""
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self._process.pid).children(recursive=True)
            for one in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        self._process.kill()
        self._process.wait()

    @property
    def logged(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def process(self) -> psutil.Process | None:
        """The program itself: the image's user's, and none of buildah's, whose end is the program's by SIGKILL."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(self._process.pid).children(recursive=True):
                words = one.cmdline()
                if one.uids().real == self._account and words and not words[0].startswith("buildah"):
                    return one
        return None

    def ended(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal the program as an engine signals a container's first process; return its exit code."""
        found = self.process
        assert found is not None, self.logged
        found.send_signal(how)
        return self._process.wait(60)
