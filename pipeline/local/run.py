"""`gamemetrics run`: the whole pipeline on this machine, from nothing, until Ctrl-C."""

import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from pipeline.config import Settings, load_settings
from pipeline.errors import UnavailableError
from pipeline.load.send import Shape, Target, send_load
from pipeline.load.workload import Workload
from pipeline.local.checkout import open_stack
from pipeline.local.settings import recorded_run, running_pid
from pipeline.local.supervisor import HOST, Program, Supervisor, supervised
from pipeline.local.welcome import ask_board, where_to_look
from pipeline.operations.lag import lag
from pipeline.operations.migrate import migrate

if TYPE_CHECKING:
    from pipeline.local.stack import Stack

Say = Callable[[str], None]

API_PORT: Final = 8080
API_METRICS_PORT: Final = 9090
CONSUMER_METRICS_PORT: Final = 9091
PROOF_METRICS_PORT: Final = 9092
_PROOF_SECONDS: Final = 30
FIRST_LOAD: Final = 2_000
_FIRST_PLAYERS: Final = 50
_FIRST_GAME: Final = "game-01"
_READY_SECONDS: Final = 90.0
_WATCH_SECONDS: Final = 0.5
_GRACE_SECONDS: Final = 30.0


class _StoppedError(Exception):
    """Ctrl-C came while something was being waited for."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the API, its metrics, and the health and metrics of the consumer and of the proof are."""

    api: int
    api_metrics: int
    consumer: int
    proof: int


def run(root: Path | None, say: Say) -> None:
    """Start everything, send a first load, say where to look, and stay until Ctrl-C or SIGTERM; then stop it all.

    Servers that were up before are left up. Raises UnavailableError when something does not start, or ends by itself.
    """
    stack = open_stack(root)
    if (pid := running_pid(stack.directory)) is not None:
        raise UnavailableError(f"gamemetrics run is under way here already (pid {pid})")
    stack.fetch()
    stop = threading.Event()
    # Only now: Ctrl-C ends a download at once, but what is started from here on is stopped in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with _servers(stack, say) as (settings, supervisor), contextlib.suppress(_StoppedError):
        _report_schema(settings, say)
        ports = _choose_ports(say)
        programs = _programs(stack.directory, ports)
        with recorded_run(stack.directory, {"PORT": ports.api}), _started(programs, stack, ports, supervisor, say):
            _await(lambda: all(program.ready for program in programs), programs, stop, "be ready")
            say(f"Console   http://{HOST}:{ports.api}")
            say(f"API       http://{HOST}:{ports.api}, its documentation http://{HOST}:{ports.api}/docs")
            say(f"Consumer  metrics and health on http://{HOST}:{ports.consumer}; logs in {programs[0].log.parent}")
            say(f"Proof     every {_PROOF_SECONDS} s; what it found on http://{HOST}:{ports.proof}/metrics")
            _first_load(ports, settings, programs, stop, say)
            say(where_to_look(ports.api, _FIRST_GAME, stack.directory.parent if root is not None else None))
            while not stop.wait(_WATCH_SECONDS):
                for program in programs:
                    program.check()
    say("Stopped.")


@contextlib.contextmanager
def _servers(stack: "Stack", say: Say) -> Iterator[tuple[Settings, Supervisor]]:
    """Have Kafka, PostgreSQL and Valkey up; those that were not are stopped at the end."""
    was_up = stack.created and all(server.running for server in stack.servers)
    with supervised() if was_up else stack.supervised() as supervisor:
        if not was_up:
            say("Starting Kafka, PostgreSQL and Valkey ...")
        began = monotonic()
        stack.start()
        say(
            f"Servers   {'were up already, and will be left up' if was_up else f'up in {monotonic() - began:.1f} s'};"
            f" their data is in {stack.directory}"
        )
        try:
            yield load_settings(stack.environment()), supervisor
        finally:
            if not was_up:
                say("Stopping Kafka, PostgreSQL and Valkey ...")
                stack.stop()


def _report_schema(settings: Settings, say: Say) -> None:
    done = migrate(settings)
    say(f"Schema    {'applied ' + ', '.join(done.applied) if done.applied else 'is current'}")


# -- programs --------------------------------------------------------------------------------------------------------


def _programs(directory: Path, ports: Ports) -> list[Program]:
    """Return the proof, the consumer and the API, in the order in which they are stopped."""
    return [
        Program(["verify", "--watch", "--every", str(_PROOF_SECONDS)], ports.proof, directory),
        Program(["consume", "all"], ports.consumer, directory),
        Program(["serve"], ports.api, directory),
    ]


@contextlib.contextmanager
def _started(programs: list[Program], stack: "Stack", ports: Ports, supervisor: Supervisor, say: Say) -> Iterator[None]:
    base = {**os.environ, **stack.environment(), "HOST": HOST}
    metrics = [ports.proof, ports.consumer, ports.api_metrics]
    try:
        for program, metrics_port in zip(programs, metrics, strict=True):
            program.start({**base, "PORT": str(ports.api), "METRICS_PORT": str(metrics_port)}, supervisor)
        yield
    finally:
        say("Stopping the proof, the consumer and the API ...")
        for program in programs:
            program.end(supervisor, _GRACE_SECONDS)


def _await(condition: Callable[[], bool], programs: list[Program], stop: threading.Event, what: str) -> None:
    """Wait until something holds, while the programs live. Raises UnavailableError, _StoppedError."""
    deadline = monotonic() + _READY_SECONDS
    while not condition():
        for program in programs:
            program.check()
        if stop.wait(0.1):
            raise _StoppedError
        if monotonic() > deadline:
            raise UnavailableError(
                f"the pipeline did not {what} in {_READY_SECONDS:.0f} s; see {programs[0].log.parent}"
            )


def _choose_ports(say: Say) -> Ports:
    wanted = int(os.environ.get("PORT") or API_PORT)
    api = _free(wanted, set())
    if api != wanted:
        say(f"Port      {wanted} is taken by another program; the API takes {api}")
    api_metrics = _free(API_METRICS_PORT, {api})
    consumer = _free(CONSUMER_METRICS_PORT, {api, api_metrics})
    return Ports(api, api_metrics, consumer, _free(PROOF_METRICS_PORT, {api, api_metrics, consumer}))


def _free(wanted: int, taken: set[int]) -> int:
    """Return a port nobody listens on: the one wanted, otherwise any."""
    for port in (wanted, 0, 0, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            found = int(probe.getsockname()[1])
            if found not in taken:
                return found
    raise UnavailableError(f"no free port on {HOST}")


# -- the first load ----------------------------------------------------------------------------------------------------


def _first_load(ports: Ports, settings: Settings, programs: list[Program], stop: threading.Event, say: Say) -> None:
    url, key = f"http://{HOST}:{ports.api}", os.environ.get("API_KEY", "")
    workload = Workload(secrets.randbits(63), datetime.now(UTC) - timedelta(seconds=1), _FIRST_PLAYERS, games=3)
    tally = send_load(Target(url, key), Shape(FIRST_LOAD, batch=100), workload, lambda _: None)
    if tally.first_error.startswith("HTTP 401"):
        say("Load      none: API keys were made here, and API_KEY holds none of them")
        return
    if tally.failed:
        raise UnavailableError(f"{tally.failed} of {FIRST_LOAD} events of a first load failed: {tally.first_error}")
    _await(lambda: _level(settings), programs, stop, "catch up")
    say(f"Load      {FIRST_LOAD:,} events sent through the API, and counted")
    say("")
    say(ask_board(url, _FIRST_GAME, key))


def _level(settings: Settings) -> bool:
    """Whether every group of this stack has counted all there is, in PostgreSQL and in Redis; there is one at least."""
    standings = lag(settings)
    return bool(standings) and all(one.lag <= 0 and one.redis in {None, one.watermark} for one in standings)
