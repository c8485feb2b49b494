"""The settings of a command that someone types: the environment's, otherwise those of this checkout's own servers."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.config import Settings, load_settings
from pipeline.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from pipeline.local.stack import Stack

_SERVERS: Final = ("KAFKA_BOOTSTRAP_SERVERS", "DB_HOST", "REDIS_HOST", "SECRETS_DIR")
"""If any of these is set, someone has said where the servers are."""

_RUN: Final = "run.json"


def operator_settings() -> Settings:
    """Read the environment; if it names no server and this checkout's stack runs, use that, and say so.

    Raises ConfigurationError.
    """
    stack = running_stack()
    if stack is None:
        return load_settings()
    sys.stderr.write(f"gamemetrics: working on the servers of this checkout ({stack.directory})\n")
    found = {**stack.environment(), **_running_ports(stack.directory)}
    return load_settings({name: value for name, value in found.items() if not os.environ.get(name)})


def running_stack() -> "Stack | None":
    """Return this checkout's stack if it runs and the environment names no other servers."""
    if any(os.environ.get(name) for name in _SERVERS):
        return None
    from pipeline.local.checkout import open_stack  # noqa: PLC0415 - an installation for a cluster lacks its parts

    try:
        stack = open_stack()
        running = stack.created and all(server.running for server in stack.servers)
    except PipelineError:
        # It cannot be opened here (an extra is missing, its state is unreadable), so it is not what is meant.
        return None
    return stack if running else None


@contextlib.contextmanager
def recorded_run(directory: Path, ports: Mapping[str, int]) -> Iterator[None]:
    """Note which ports this `gamemetrics run` serves on, for other commands to find, until the block ends."""
    file = directory / _RUN
    try:
        file.write_text(json.dumps({"pid": os.getpid(), "ports": dict(ports)}), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running_pid(directory: Path) -> int | None:
    """Return the pid of the `gamemetrics run` that is under way on a stack, if there is one."""
    return _read_run(directory)[0]


def _running_ports(directory: Path) -> dict[str, str]:
    return _read_run(directory)[1]


def _read_run(directory: Path) -> tuple[int | None, dict[str, str]]:
    try:
        noted = json.loads((directory / _RUN).read_text(encoding="utf-8"))
        pid, ports = int(noted["pid"]), {str(name): str(port) for name, port in noted["ports"].items()}
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, {}  # none runs, or one was killed and left its note
    return pid, ports
