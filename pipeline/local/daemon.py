"""A server's process: started, recognized by a later command, signalled, and never mistaken for another."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from pipeline.errors import UnavailableError
from pipeline.local.state import write_private

MAX_LOG_BYTES: Final = 10 << 20
TAIL_LINES: Final = 25
KILL_GRACE: Final = 10.0
POLL_INTERVAL: Final = 0.02


@dataclass(frozen=True, slots=True)
class Account:
    """The operating-system account a server runs as, where that is not the caller's own."""

    name: str
    uid: int
    gid: int


class _Survivor(subprocess.Popen[bytes]):
    """A child that may outlive the object that started it: letting go of it is no mistake to warn of."""

    def __del__(self) -> None:
        """Leave the process alone."""


class Daemon:
    """One server's process, known by a file that holds its pid and its command line.

    A pid alone is not an identity: after a kill -9 or a reboot it may name a stranger. The process is ours only if its
    command line, which holds the state directory, is the recorded one; unlike the time it was created, that does not
    shift with the clock.
    """

    def __init__(self, directory: Path) -> None:
        self.log = directory / "server.log"
        self._record = directory / "server.json"
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

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path, account: Account | None = None
    ) -> None:
        """Start the process in a session of its own, so that a Ctrl-C at the terminal reaches only its starter."""
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
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

    def stop(self, stop_signal: signal.Signals, grace: float) -> None:
        """Ask the process to end, and kill it when it has not within the grace period."""
        process = self.find()
        if process is None:
            return
        with contextlib.suppress(psutil.Error):
            # A stopped process would sleep through the request.
            self.signal_all(signal.SIGCONT)
            process.send_signal(stop_signal)
        if await_end([process], grace):
            self.kill()
        self._reap()

    def kill(self) -> None:
        """End the process and its children at once, as a power cut does, and wait until they are gone."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        left = await_end(family, KILL_GRACE)
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
            lines = self.log.read_text("utf-8", errors="replace").splitlines()[-TAIL_LINES:]
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


def await_end(processes: Sequence[psutil.Process], timeout: float) -> Sequence[psutil.Process]:
    """Wait until the processes have ended; return those that have not.

    A zombie has ended: whoever has to reap it may be another process, or an init in a container that never does.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while left := [process for process in processes if not _ended(process)]:
        if time.monotonic() > deadline:
            break
        pause.wait(POLL_INTERVAL)
    return left


def _ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
