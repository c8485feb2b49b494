"""What one checkout's stack remembers between runs: its ports and its passwords, in `.local/stack.json` (mode 0600)."""

import contextlib
import json
import os
import random
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.errors import ConfigurationError, UnavailableError

PORTS: Final = ("kafka", "controller", "postgres", "valkey")
SECRETS: Final = ("kafka_admin", "kafka_controller", "kafka", "postgres_admin", "postgres", "valkey")

_PORT_RANGE: Final = range(20_000, 32_000)
"""Below every system's range of ephemeral ports. A client that redials a stopped server on an ephemeral port can be
given that very port as its own, connects to itself, and the server cannot come back: a chaos test's worst flake."""


class State:
    """Ports and passwords of the stack under one directory; made once, kept in a file, the same in every process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / "stack.json"
        self._ports: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        self.reload()

    @property
    def exists(self) -> bool:
        """Whether this stack was ever started here."""
        return self._file.exists()

    def port(self, name: str) -> int:
        """Return the recorded port of a listener. Raises ConfigurationError before the first start."""
        if name not in self._ports:
            raise self._never_started()
        return self._ports[name]

    def secret(self, name: str) -> str:
        """Return the recorded password of an account. Raises ConfigurationError before the first start."""
        if name not in self._secrets:
            raise self._never_started()
        return self._secrets[name]

    def reload(self) -> None:
        """Read the file again: another process may have started the stack since."""
        if not self.exists:
            return
        try:
            recorded = json.loads(self._file.read_text("utf-8"))
            self._ports, self._secrets = dict(recorded["ports"]), dict(recorded["secrets"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{self._file} cannot be read ({error}): remove {self.directory}") from error

    def create(self) -> None:
        """Pick whatever port and password is not recorded yet, and record it."""
        make_directory(self.directory)
        for name in PORTS:
            if name not in self._ports:
                self._ports[name] = self._free_port()
        for name in SECRETS:
            self._secrets.setdefault(name, secrets.token_urlsafe(24))
        self._save()

    def repick(self, name: str) -> None:
        """Give a listener another port, because a stranger took the recorded one while it was down."""
        self._ports[name] = self._free_port()
        self._save()

    def _never_started(self) -> ConfigurationError:
        return ConfigurationError(f"no stack under {self.directory}: run `gamemetrics local up` first")

    def _free_port(self) -> int:
        candidates = random.SystemRandom().sample(_PORT_RANGE, 100)
        for port in candidates:
            if port not in self._ports.values() and port_is_free(port):
                return port
        raise UnavailableError(f"no free port on 127.0.0.1 among {len(candidates)} tried")

    def _save(self) -> None:
        replacement = self._file.with_suffix(".new")
        text = json.dumps({"ports": self._ports, "secrets": self._secrets}, indent=2)
        write_private(replacement, text)
        replacement.replace(self._file)


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now; what its last owner left in TIME_WAIT does not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
            return True
    return False


def make_directory(directory: Path) -> None:
    """Make a state directory: closed to others, but for root, whose PostgreSQL runs as another user and must pass."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise ConfigurationError(f"{directory}: {error.strerror}") from error


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)


@contextlib.contextmanager
def private_file(file: Path, text: str) -> Iterator[Path]:
    """Hold a secret in a file for as long as a program needs to read it."""
    write_private(file, text)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
