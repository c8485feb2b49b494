"""Processes: started, recognized by a later command, ended in order, and ended all the same should their starter die.

The last is `local.survivor`'s, a process that is told the pids here.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psutil

from pipeline.errors import UnavailableError
from pipeline.local.state import write_private

HOST: Final = "127.0.0.1"
KILL_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02
_MAX_LOG_BYTES: Final = 10 << 20
_TAIL_LINES: Final = 25


@dataclass(frozen=True, slots=True)
class OsAccount:
    """The operating-system account a server runs as, if that is not the caller's own."""

    name: str
    uid: int
    gid: int


class _Survivor(subprocess.Popen[bytes]):
    """A child that may outlive the object that started it: letting go of it is no mistake to warn of."""

    def __del__(self) -> None:
        """Leave the process alone."""


class Process:
    """One process, known by a file that holds its pid and its command line, `<directory>/<name>.json`.

    A pid alone is not an identity: after a kill -9 or a reboot it may name a stranger. The process is ours only if its
    command line, which holds the state directory, is the recorded one; unlike the time it was created, that does not
    shift with the clock.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.log = directory / f"{name}.log"
        self._record = directory / f"{name}.json"
        self._child: _Survivor | None = None

    def find(self) -> psutil.Process | None:
        """Return the running process, or None."""
        if self._child is not None:
            # No need to recognize an own child: its pid is its own until it is reaped.
            return psutil.Process(self._child.pid) if self._child.poll() is None else None
        try:
            recorded = json.loads(self._record.read_text("utf-8"))
            process = psutil.Process(recorded["pid"])
            if process.status() != psutil.STATUS_ZOMBIE and process.cmdline() == recorded["command"]:
                return process
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        return None

    @property
    def exit_code(self) -> int | None:
        """The exit code of a child of this process that has ended, None otherwise."""
        return None if self._child is None else self._child.poll()

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path, account: OsAccount | None = None
    ) -> int:
        """Start the process in a session of its own, so that a Ctrl-C at the terminal reaches only its starter.

        Returns its pid. Raises UnavailableError.
        """
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
            try:
                self._child = _Survivor(
                    command,
                    env=environment,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                    umask=0o077,
                )
            except OSError as error:
                raise UnavailableError(f"{command[0]}: {error.strerror}") from error
        write_private(self._record, json.dumps({"pid": self._child.pid, "command": list(command)}))
        return self._child.pid

    def stop(self, stop_signal: signal.Signals, grace_seconds: float) -> None:
        """Ask the process to end, and kill it when it has not within the grace period."""
        if (process := self.find()) is not None:
            with contextlib.suppress(psutil.Error):
                # A stopped process would sleep through the request.
                self.signal_all(signal.SIGCONT)
                process.send_signal(stop_signal)
            if await_end([process], grace_seconds):
                self.kill()
        self._reap()

    def kill(self) -> None:
        """End the process and its children at once, as a power cut does, and wait until they are gone."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        left = await_end(family, KILL_SECONDS)
        self._reap()
        if left:
            raise UnavailableError(f"processes {[process.pid for process in left]} survive SIGKILL")

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children (PostgreSQL's back ends are children)."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def tail(self) -> str:
        """Return the last lines of the log, indented."""
        try:
            lines = self.log.read_text("utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        except OSError:
            return "    (no log)"
        return "\n".join(f"    {line}" for line in lines)

    def _family(self) -> list[psutil.Process]:
        process = self.find()
        if process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [process, *process.children(recursive=True)]
        return []

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            self._child = None


class Program(Process):
    """One command of this package as a child process, with an HTTP port for its health."""

    def __init__(self, arguments: list[str], health_port: int, directory: Path) -> None:
        super().__init__(directory, arguments[0])
        self.name = f"gamemetrics {' '.join(arguments)}"
        self._command = [sys.executable, "-m", "pipeline", *arguments]
        self._health_port = health_port
        self._pid: int | None = None

    def start(self, environment: Mapping[str, str], supervisor: "Supervisor") -> None:
        """Start it where this process is, and have it ended should this process die."""
        self._pid = self.spawn(self._command, environment, Path.cwd())
        supervisor.hold(self._pid)

    def end(self, supervisor: "Supervisor", grace_seconds: float) -> None:
        """Ask it to end, and make it end when it does not in time."""
        if self._pid is not None:
            self.stop(signal.SIGTERM, grace_seconds)
            supervisor.release(self._pid)
            self._pid = None

    def check(self) -> None:
        """Raise UnavailableError with its last words when it has ended."""
        if (code := self.exit_code) is not None:
            raise UnavailableError(f"{self.name} ended with exit code {code}; the end of {self.log}:\n{self.tail()}")

    @property
    def ready(self) -> bool:
        """Whether it says that it is ready."""
        connection = http.client.HTTPConnection(HOST, self._health_port, timeout=2)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def await_end(processes: Sequence[psutil.Process], timeout_seconds: float) -> Sequence[psutil.Process]:
    """Wait until the processes have ended; return those that have not.

    A zombie has ended: whoever has to reap it may be another process, or an init in a container that never does.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while left := [process for process in processes if not _ended(process)]:
        if time.monotonic() > deadline:
            break
        pause.wait(POLL_SECONDS)
    return left


def _ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- when the starter dies ---------------------------------------------------------------------------------------------


class Supervisor:
    """Ends what it holds, should this process die without doing so itself."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe

    def hold(self, pid: int) -> None:
        """Have a process ended."""
        self._write(pid)

    def release(self, pid: int) -> None:
        """Forget a process that has ended: its pid may soon be a stranger's."""
        self._write(-pid)

    def _write(self, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the supervisor itself was killed; there is none then
            self._pipe.write(f"{number}\n")
            self._pipe.flush()


@contextlib.contextmanager
def supervised(root: Path | None = None) -> Iterator[Supervisor]:
    """Have a supervisor for the time of a with statement; it also stops the stack of `root`, if one is given."""
    command = [sys.executable, "-m", "pipeline.local.survivor", *([str(root)] if root is not None else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as process:
        if process.stdin is None:
            raise UnavailableError("the supervisor has no pipe")
        try:
            yield Supervisor(process.stdin)
        finally:
            process.kill()
