"""Consumers as processes of their own, to be killed, frozen and thawed.

They are forked from a server that has imported everything and run nothing, so that a hundred of them cost no minute.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

from pipeline.config import Settings
from pipeline.engine.consumer import EventConsumer
from pipeline.epoch import aggregate
from pipeline.epoch.roles import ROLES, RoleName
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.logs import configure
from tests.chaos.crashing import Crash, arm
from tests.chaos.feeding import Feed
from tests.consuming import settings_of
from tests.place import Place

# A fork copies the locks that other threads hold, and not the threads: the server must have none. These two belong to
# the allocators of polars and Arrow, and with them a child hung in its first allocation, now and then.
os.environ.setdefault("_RJEM_MALLOC_CONF", "background_thread:false")
os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.chaos.children"])

SESSION_MS = 1_500
"""How long the broker waits for a consumer that is dead: the shortest that a busy machine still keeps."""

SMALL = {"batch_max_events": 12, "batch_max_wait_ms": 20, "kafka_session_timeout_ms": SESSION_MS}
"""Settings by which a few records make several epochs."""

OPERATIONS_A_CALL = 12
"""And several calls of the Redis function an epoch."""

Setup = Callable[[], None]


class Child:
    """A consumer process."""

    def __init__(self, process: ForkServerProcess, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -9 when it was killed."""
        return self._process.exitcode

    @property
    def frozen(self) -> bool:
        """Whether it has stopped itself, or was stopped."""
        return self.exit_code is None and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    @property
    def said(self) -> str:
        """What it logged."""
        return self._log.read_text(errors="replace")

    def dead(self, feed: Feed | None) -> bool:
        """Whether it has ended; feed it a little while it has not."""
        if self.exit_code is None and feed is not None:
            feed.send(6)
        return self.exit_code is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.join(10)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it died, as it may have been told to
            os.kill(self.pid, signal.SIGCONT)

    def stop(self, timeout: float = 40.0) -> int:
        """Ask it to end as Kubernetes does; return its exit code."""
        if self._process.is_alive():
            self.thaw()
            self._process.terminate()
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"it did not end within {timeout} s:\n{self.said[-4_000:]}"
        return self._process.exitcode

    def close(self) -> None:
        """End it in any case."""
        if self._process.is_alive():
            self.thaw()
            self.kill()


@contextlib.contextmanager
def child(
    place: Place,
    directory: Path,
    *,
    role: RoleName = "all",
    crash: Crash | None = None,
    setup: Setup | None = None,
    **changes: object,
) -> Iterator[Child]:
    """Run a consumer in a process until the block ends; it is killed there unless it has ended.

    `setup` is an importable function that the process calls first, to replace something by something else.
    """
    settings = settings_of(place, role, **{**SMALL, **changes})
    log = directory / f"consumer-{len(list(directory.iterdir()))}.log"
    log.touch()
    process = _context.Process(target=_consume, args=(settings, role, crash, setup, log), daemon=True)
    process.start()
    running = Child(process, log)
    try:
        yield running
    except Exception:
        sys.stdout.write(f"-- consumer {running.pid}, exit code {running.exit_code}:\n{running.said[-6_000:]}\n")
        raise
    finally:
        running.close()


def _consume(settings: Settings, role: RoleName, crash: Crash | None, setup: Setup | None, log: Path) -> None:
    """Consume as `gamemetrics consume` does, with its exit codes."""
    with log.open("ab") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    configure("INFO")
    aggregate.MAX_OPERATIONS = OPERATIONS_A_CALL  # type: ignore[misc]
    if crash is not None:
        arm(crash)
    if setup is not None:
        setup()
    consumer = EventConsumer(settings, ROLES[role])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: consumer.stop())
    try:
        consumer.run()
    except PipelineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
    finally:
        assert threading.current_thread() is threading.main_thread()
