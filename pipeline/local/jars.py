"""Kafka's jars: the versions and checksums of `kafka.lock`, fetched once into the user's cache, and never unchecked."""

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext, PythonResolver

from pipeline.errors import ConfigurationError, UnavailableError

LOCK: Final = Path(__file__).with_name("kafka.lock")
DOWNLOADS_AT_ONCE: Final = 8
TIMEOUT_SECONDS: Final = 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The jar's name in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def locked_jars() -> Sequence[Jar]:
    """Read the lock file: lines of `group:artifact:version sha256`, and comments."""
    lines = (line.split() for line in LOCK.read_text("utf-8").splitlines() if line and not line.startswith("#"))
    return [_read_line(coordinate, sha256) for coordinate, sha256 in lines]


def cached_jars(progress: Progress | None = None) -> Sequence[Path]:
    """Return the paths of Kafka's jars, after fetching those that the cache lacks.

    Raises UnavailableError when one cannot be fetched, ConfigurationError when the cache cannot be written.
    """
    jars = locked_jars()
    cache = cache_directory()
    missing = [jar for jar in jars if not (cache / jar.file_name).exists()]
    if missing:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="partial-", dir=cache) as partial:
                _fetch_all(missing, Path(partial), cache, progress or _print_progress)
        except OSError as error:
            raise ConfigurationError(f"XDG_CACHE_HOME: cannot write Kafka's jars to {cache}: {error}") from error
    return [cache / jar.file_name for jar in jars]


def cache_directory() -> Path:
    """Return the part of the user's cache that is Kafka's."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "gamemetrics" / "kafka"


def _read_line(coordinate: str, sha256: str) -> Jar:
    group, artifact, version = coordinate.split(":")
    return Jar(group, artifact, version, sha256)


def _fetch_all(jars: Sequence[Jar], partial: Path, cache: Path, progress: Progress) -> None:
    """Fetch into `partial`, and move each jar into the cache only once its checksum is right."""
    context = MavenContext(
        resolver=PythonResolver(),
        repo_cache=partial,
        # A mirror configured for jgo, as many companies have one, takes the place of the repository it names.
        remote_repos={"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories,
        timeout=TIMEOUT_SECONDS,
    )
    progress(0, len(jars))
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        fetches = [pool.submit(_fetch, jar, context, cache) for jar in jars]
        try:
            for count, fetch in enumerate(as_completed(fetches), 1):
                fetch.result()
                progress(count, len(jars))
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch(jar: Jar, context: MavenContext, cache: Path) -> None:
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    try:
        fetched = Path(artifact.resolve())
    except (requests.RequestException, RuntimeError) as error:
        logging.getLogger(__name__).debug("fetching %s", jar, exc_info=error)
        raise UnavailableError(
            f"Kafka's jar {jar} cannot be fetched from {', '.join(context.remote_repos.values())}: {_reason(error)}.\n"
            "Check the network (HTTPS_PROXY is honoured), or name a mirror as `central` under [repositories] in"
            " ~/.config/jgo.conf; what was fetched so far is kept."
        ) from error
    digest = hashlib.sha256(fetched.read_bytes()).hexdigest()
    if digest != jar.sha256:
        raise UnavailableError(f"Kafka's jar {jar} is not the locked one: its SHA-256 is {digest}, not {jar.sha256}")
    shutil.move(fetched, cache / jar.file_name)


def _reason(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer in {TIMEOUT_SECONDS} s"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.RequestException):
        return str(error)
    return "not found there"


def _print_progress(done: int, total: int) -> None:
    """Keep one line on a terminal; elsewhere say only that it starts and that it is done."""
    text = f"Fetching Kafka's jars: {done} of {total}"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}" + ("\n" if done == total else ""))
    elif done in (0, total):
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
