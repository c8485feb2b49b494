"""What Kafka, PostgreSQL and Valkey have in common as embedded servers: start, stop, kill, pause, wipe."""

import shutil
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from pipeline.errors import UnavailableError
from pipeline.local.state import State, make_directory, port_is_free
from pipeline.local.supervisor import HOST, POLL_SECONDS, OsAccount, Process

START_SECONDS: Final = 60.0


class Server(ABC):
    """One embedded server. Its data lives in `directory`, its port and passwords in the stack's state."""

    name: ClassVar[str]
    listeners: ClassVar[Sequence[str]]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_grace_seconds: ClassVar[float] = 20.0

    def __init__(self, state: State) -> None:
        self.directory = state.directory / self.name
        self._state = state
        self._process = Process(self.directory, "server")

    @property
    def port(self) -> int:
        """The port clients use; it stays the same over restarts."""
        return self._state.port(self.name)

    @property
    def pid(self) -> int | None:
        """The server's pid, or None while it is down."""
        process = self._process.find()
        return None if process is None else process.pid

    @property
    def log(self) -> Path:
        """The file that holds what the server says."""
        return self._process.log

    @property
    def running(self) -> bool:
        """Whether the server's process runs (it may not answer yet)."""
        return self.pid is not None

    @property
    def ready(self) -> bool:
        """Whether the server runs and answers an authenticated client."""
        return self.running and self._answers()

    def repick_ports(self) -> None:
        """While the server is down: replace each recorded port that a stranger listens on."""
        if self.running:
            return
        for listener in self.listeners:
            if not port_is_free(self._state.port(listener)):
                self._state.repick(listener)

    def start(self, timeout_seconds: float = START_SECONDS) -> None:
        """Start the server unless it runs, and return when it answers. Raises UnavailableError with its last words."""
        if not self.running:
            for listener in self.listeners:
                if not port_is_free(self._state.port(listener)):
                    raise UnavailableError(
                        f"{self.name}: port {self._state.port(listener)} is taken by another process"
                    )
            make_directory(self.directory)
            self._create_once()
            command, environment = self._command()
            self._process.spawn(command, environment, self._working_directory(), self._account())
        self._await_ready(timeout_seconds)
        self._provision()

    def stop(self) -> None:
        """Stop the server in its own orderly way."""
        self._process.stop(self.stop_signal, self.stop_grace_seconds)

    def kill(self) -> None:
        """Send SIGKILL to the server and its children, and return when they are gone."""
        self._process.kill()

    def pause(self) -> None:
        """Freeze the server with SIGSTOP: its connections stay open and nothing answers."""
        self._process.signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw a paused server."""
        self._process.signal_all(signal.SIGCONT)

    def wipe(self) -> None:
        """Stop the server and delete its data; the next start is empty-handed, on the same port and passwords."""
        self.stop()
        for data in self._data():
            shutil.rmtree(data, ignore_errors=True)
        self._created.unlink(missing_ok=True)

    @property
    def _created(self) -> Path:
        return self.directory / "created"

    def _create_once(self) -> None:
        """Create the data directory; the mark comes last, so one half created by a crash is created anew."""
        if self._created.exists():
            return
        for data in self._data():
            shutil.rmtree(data, ignore_errors=True)
        self._create()
        self._created.touch()

    def _await_ready(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        pause = threading.Event()
        while not (_listens(self.port) and self._answers()):
            if not self.running:
                raise UnavailableError(f"{self.name} did not start; the end of {self.log}:\n{self._process.tail()}")
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{self.name} did not answer in {timeout_seconds:.0f} s;"
                    f" the end of {self.log}:\n{self._process.tail()}"
                )
            pause.wait(POLL_SECONDS)

    def _account(self) -> OsAccount | None:
        """Return the account the server runs as, None for the caller's own."""
        return None

    def _working_directory(self) -> Path:
        return self.directory

    @abstractmethod
    def _data(self) -> Sequence[Path]:
        """Name the directories that hold the server's data."""

    @abstractmethod
    def _create(self) -> None:
        """Make the data directory as the first start needs it."""

    @abstractmethod
    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Write the configuration, and return the command line and the environment."""

    @abstractmethod
    def _answers(self) -> bool:
        """Ask the server something that needs a password."""

    @abstractmethod
    def _provision(self) -> None:
        """Make what clients find there (topic, database, accounts), unless it is there."""


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
