"""The programs that `gamemetrics run` starts beside itself: logged to files, watched, stopped in order."""

import contextlib
import http.client
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from pipeline.errors import UnavailableError

HOST: Final = "127.0.0.1"
_TAIL_LINES: Final = 15


class Leash:
    """Ends the programs given to it, should this process die without doing so itself (`operations.leash`)."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe

    def hold(self, pid: int) -> None:
        """Take a program on the leash."""
        self._write(pid)

    def let_go(self, pid: int) -> None:
        """Forget a program that has ended."""
        self._write(-pid)

    def _write(self, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the leash itself was killed; there is none then
            self._pipe.write(f"{number}\n")
            self._pipe.flush()


@contextlib.contextmanager
def leash() -> Iterator[Leash]:
    """Hold a leash for the time of a with statement."""
    command = [sys.executable, "-m", "pipeline.local.leash"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as process:
        if process.stdin is None:
            raise UnavailableError("the leash has no pipe")
        yield Leash(process.stdin)
        # Leaving closes the pipe, and waits for the process.


class Program:
    """One command of this package as a child process with an HTTP port for its health."""

    def __init__(self, arguments: list[str], health_port: int, log: Path) -> None:
        self.name = f"gamemetrics {' '.join(arguments)}"
        self.log = log
        self._arguments = arguments
        self._health_port = health_port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str], leash: Leash) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only its starter, which stops things in order."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", *self._arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        leash.hold(self._process.pid)

    def check(self) -> None:
        """Raise UnavailableError with its last words when it has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            tail = self.log.read_text("utf-8", "replace").splitlines()[-_TAIL_LINES:]
            raise UnavailableError(
                f"{self.name} ended with exit code {code}; the end of {self.log}:\n" + "\n".join(tail)
            )

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

    def stop(self, leash: Leash, grace: float) -> None:
        """Ask it to end, and make it end when it does not in time."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        leash.let_go(self._process.pid)
        self._process = None
